"""io_uring through ctypes: the rings of the kernel as numpy arrays, so that entries are filled by array operations.

Layouts and numbers are those of <linux/io_uring.h>; needed are multishot receives into a ring of provided buffers
(Linux 6.0). Nothing here knows of RTP.
"""

import ctypes
import errno
import mmap
import os
import platform
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SETUP: Final = 425  # system call numbers, the same on every architecture
ENTER: Final = 426
REGISTER: Final = 427
SETUP_CQSIZE: Final = 1 << 3
SETUP_SINGLE_ISSUER: Final = 1 << 12
SETUP_DEFER_TASKRUN: Final = 1 << 13
ENTER_GETEVENTS: Final = 1
ENTER_EXT_ARG: Final = 1 << 3
REGISTER_PROBE: Final = 8
REGISTER_PBUF_RING: Final = 22
OP_ASYNC_CANCEL: Final = 14
OP_SEND: Final = 26
OP_RECV: Final = 27
OP_SEND_ZC: Final = 47  # came with multishot receives, in 6.0: its presence tells the kernel's age
SQE_BUFFER_SELECT: Final = 1 << 5
SQE_CQE_SKIP_SUCCESS: Final = 1 << 6
RECV_MULTISHOT: Final = 1 << 1
CQE_F_BUFFER: Final = 1 << 0
CQE_F_MORE: Final = 1 << 1
OFFSET_SQES: Final = 0x10000000

SQE: Final = np.dtype(
    [
        ("opcode", "u1"),
        ("flags", "u1"),
        ("ioprio", "<u2"),
        ("fd", "<i4"),
        ("off", "<u8"),
        ("addr", "<u8"),
        ("len", "<u4"),
        ("op_flags", "<u4"),
        ("user_data", "<u8"),
        ("buf_group", "<u2"),
        ("personality", "<u2"),
        ("splice_fd", "<i4"),
        ("pad", "<u8", (2,)),
    ]
)
SQE_WORDS: Final = SQE.itemsize // 8  # numpy copies records field by field, words at once
CQE: Final = np.dtype([("user_data", "<u8"), ("res", "<i4"), ("flags", "<u4")])
_BUFFER: Final = np.dtype([("addr", "<u8"), ("len", "<u4"), ("bid", "<u2"), ("tail", "<u2")])


class _Params(ctypes.Structure):
    _fields_ = (
        ("sq_entries", ctypes.c_uint32),
        ("cq_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("sq_thread_cpu", ctypes.c_uint32),
        ("sq_thread_idle", ctypes.c_uint32),
        ("features", ctypes.c_uint32),
        ("wq_fd", ctypes.c_uint32),
        ("resv", ctypes.c_uint32 * 3),
        ("sq_off", ctypes.c_uint32 * 10),  # head tail mask entries flags dropped array resv user_addr(2)
        ("cq_off", ctypes.c_uint32 * 10),  # head tail mask entries overflow cqes flags resv user_addr(2)
    )


class _BufferRegistration(ctypes.Structure):
    _fields_ = (
        ("ring_addr", ctypes.c_uint64),
        ("ring_entries", ctypes.c_uint32),
        ("bgid", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
        ("resv", ctypes.c_uint64 * 3),
    )


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64))


class _EventsArgument(ctypes.Structure):
    _fields_ = (
        ("sigmask", ctypes.c_uint64),
        ("sigmask_sz", ctypes.c_uint32),
        ("min_wait_usec", ctypes.c_uint32),
        ("ts", ctypes.c_uint64),
    )


class Ring:
    """One submission and one completion queue. OSError when the kernel, or who contains us, will not have it."""

    def __init__(self, entries: int, completions: int) -> None:
        if platform.machine() not in ("x86_64", "aarch64"):  # elsewhere numpy's stores may be seen out of order
            raise OSError(errno.ENOSYS, "io_uring is used on x86-64 and ARM64 only")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        self._libc.syscall.argtypes = (ctypes.c_long,) * 7  # plain ints would travel as C ints
        params = _Params(flags=SETUP_CQSIZE | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN, cq_entries=completions)
        self._fd = self._call(SETUP, entries, ctypes.addressof(params))
        self.entries: int = params.sq_entries
        sq, cq = list(params.sq_off), list(params.cq_off)
        size = max(sq[6] + self.entries * 4, cq[5] + params.cq_entries * CQE.itemsize)
        flags, access = mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ | mmap.PROT_WRITE
        try:
            rings = mmap.mmap(self._fd, size, flags, access, offset=0)
            entries_map = mmap.mmap(self._fd, self.entries * SQE.itemsize, flags, access, offset=OFFSET_SQES)
        except OSError:
            os.close(self._fd)
            raise
        words = np.frombuffer(rings, np.uint32, size // 4)
        self._sq_tail = words[sq[1] // 4 : sq[1] // 4 + 1]
        self._cq_head = words[cq[0] // 4 : cq[0] // 4 + 1]
        self._cq_tail = words[cq[1] // 4 : cq[1] // 4 + 1]
        self._cq_overflow = words[cq[4] // 4 : cq[4] // 4 + 1]
        words[sq[6] // 4 : sq[6] // 4 + self.entries] = np.arange(self.entries)
        self._sqes = np.frombuffer(entries_map, np.uint64).reshape(self.entries, SQE_WORDS)
        self._cqes = np.frombuffer(rings, np.uint64, 2 * params.cq_entries, cq[5]).reshape(-1, 2)
        self._no_time = _Timespec()
        self._no_wait = _EventsArgument(0, 8, 0, ctypes.addressof(self._no_time))
        self._at_once = ctypes.addressof(self._no_wait)

    def submit(self, entries: NDArray[np.uint64]) -> None:
        """Hand over submission entries, u8[n, SQE_WORDS], in as few system calls as the queue has room for."""
        for first in range(0, len(entries), self.entries):
            part = entries[first : first + self.entries]
            tail = int(self._sq_tail[0])
            at = tail & (self.entries - 1)
            count = min(len(part), self.entries - at)
            self._sqes[at : at + count] = part[:count]
            if count < len(part):
                self._sqes[: len(part) - count] = part[count:]
            self._sq_tail[0] = (tail + len(part)) & 0xFFFFFFFF
            self.enter(len(part))

    def enter(self, submitted: int) -> None:
        """io_uring_enter: submit, and let the kernel do what completions wait for. Never waits itself."""
        try:
            self._call(ENTER, self._fd, submitted, 0, ENTER_GETEVENTS, 0, 0)
        except OSError as error:
            if error.errno not in (errno.EINTR, errno.EBUSY, errno.EAGAIN):
                raise

    def poll(self, most: int) -> None:
        """Let the kernel finish what it can, up to `most` operations, without waiting for more.

        Since Linux 6.13 a call that asks for nothing in particular finishes 20; so ask for `most`, with a timeout of 0.
        """
        try:
            self._call(ENTER, self._fd, 0, most, ENTER_GETEVENTS | ENTER_EXT_ARG, self._at_once, 24)
        except OSError as error:
            if error.errno not in (errno.ETIME, errno.EINTR, errno.EBUSY, errno.EAGAIN):
                raise

    def completions(self) -> NDArray[Any]:
        """What has completed since the last call, CQE[n], copied out of the queue."""
        head, tail = int(self._cq_head[0]), int(self._cq_tail[0])
        count = (tail - head) & 0xFFFFFFFF
        size = len(self._cqes)
        at = head & (size - 1)
        done = self._cqes[at : at + count].copy()
        if at + count > size:
            done = np.concatenate([done, self._cqes[: at + count - size]])
        self._cq_head[0] = tail
        return done.view(CQE)[:, 0]

    def supports(self, opcode: int) -> bool:
        """Whether the kernel knows this operation."""
        probe = (ctypes.c_uint8 * (16 + 8 * 256))()
        self._call(REGISTER, self._fd, REGISTER_PROBE, ctypes.addressof(probe), 256)
        return opcode <= probe[0] and bool(probe[16 + 8 * opcode + 2] & 1)

    def register_buffers(self, group: int, registration: "_BufferRegistration") -> None:
        """Tell the kernel of a ring of provided buffers."""
        self._call(REGISTER, self._fd, REGISTER_PBUF_RING, ctypes.addressof(registration), 1)

    def close(self) -> None:
        """Give the ring back; what is in flight is cancelled by the kernel."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _call(self, number: int, *arguments: int) -> int:
        result: int = self._libc.syscall(number, *arguments, *(0,) * (6 - len(arguments)))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result


class ProvidedBuffers:
    """`data` u1[count, size]: buffers from which the kernel takes one per datagram. `count` is a power of two."""

    def __init__(self, ring: Ring, group: int, count: int, size: int) -> None:
        self.data = np.zeros((count, size), np.uint8)
        self._count = count
        self._map = mmap.mmap(-1, count * _BUFFER.itemsize, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self._ring = np.frombuffer(self._map, _BUFFER)
        self._address = self.data.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(size)
        self._tail = 0
        ring.register_buffers(group, _BufferRegistration(self._ring.ctypes.data, count, group, 0))
        self._ring["len"] = size
        self.give_back(np.arange(count))

    def give_back(self, buffers: NDArray[np.signedinteger[Any]]) -> None:
        """The kernel may fill these again."""
        at = (self._tail + np.arange(len(buffers))) & (self._count - 1)
        self._ring["addr"][at] = self._address[buffers]
        self._ring["bid"][at] = buffers
        self._tail = (self._tail + len(buffers)) & 0xFFFF
        # The tail lies in entry 0, over two octets that no buffer uses: written last, it publishes the others.
        self._ring["tail"][0] = self._tail
