"""A media plane under load: the plane, an echoing worker and far ends, each a process of its own."""

import multiprocessing
import multiprocessing.reduction
import os
import resource
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench import echo
from bench.loadgen import Compiled, cpu_ns, generate, memory_bytes, result
from sipagent.rtp import process
from sipagent.rtp.control import CloseRow, Codec, Event, MediaReady, OpenRow, SetStream, Shutdown
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.table import COUNTERS, PLANE_COUNTERS, CallTable

PORTS = range(10000, 32768)  # below those that Linux hands out to sockets that name none
WARM_UP_S = 2.0
OPENING_S = 60.0
FILES_PER_CALL = 3  # of the plane: RTP to anybody, RTP to the far end, RTCP
SPARE_FILES = 100
EVENTS = ((101, 8000),)  # as nearly every trunk negotiates them: tones are listened for only where it does not


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run showed."""

    us_per_pair: float
    far: dict[str, Any]
    age_ms: dict[str, float]  # of audio when the worker could read it
    bytes_per_call: int
    io: str
    counters: dict[str, int]
    plane: dict[str, int]


def free_ports(calls: int) -> tuple[int, int]:
    """First ports of two blocks that nobody uses now, of two ports per call each: the plane's and the far ends'."""
    taken = set()
    for name in ("udp", "udp6"):
        lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        taken |= {int(line.split()[1].rpartition(":")[2], 16) for line in lines}
    starts = PORTS[::100]
    turn = os.getpid() % len(starts)  # two benchmarks that begin together must not choose alike
    for first in (*starts[turn:], *starts[:turn]):
        if first + 4 * calls < PORTS.stop and taken.isdisjoint(range(first, first + 4 * calls)):
            return first, first + 2 * calls
    raise RuntimeError(f"no {4 * calls} ports in a row are free in {PORTS}")


def allow_files(calls: int) -> None:
    """Let the processes open as many files as `calls` take; RuntimeError when that is not allowed."""
    needed = FILES_PER_CALL * calls + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < needed:
        raise RuntimeError(f"{calls} calls take {needed} open files, {hard} are allowed: raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


class Rig:
    """A plane with an echo, of `calls` rows whose far ends `figures` lets talk, and `spare` ones for somebody else."""

    def __init__(self, calls: int, io: str = "auto", with_echo: bool = True, tick_ms: int = 5, spare: int = 0) -> None:
        self.calls = calls
        self.rows = calls + spare
        allow_files(self.rows)
        context = multiprocessing.get_context("forkserver")
        self.table, self._table_fd = CallTable.create(self.rows)
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._end.settimeout(20)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._stop_fd = os.eventfd(0, os.EFD_NONBLOCK)
        plane_port, self.far_port = free_ports(self.rows)
        self.plane_port = plane_port
        options = MediaOptions(first_port=plane_port, rows=self.rows, io=io, tick_ms=tick_ms)
        self.plane = context.Process(
            target=_run_plane, args=(theirs, _Fd(self._table_fd), options, _Fd(self.wake_fd)), daemon=True
        )
        self.plane.start()
        theirs.close()
        ready = self._event()
        assert isinstance(ready, MediaReady) and all(ready.ports), "ports are taken"
        self.io = ready.io
        self._report = None
        self.echo: Any = None
        if with_echo:
            self._report, write = os.pipe()
            self.echo = context.Process(
                target=_run_echo,
                args=(_Fd(self._table_fd), self.rows, _Fd(self.wake_fd), _Fd(self._stop_fd), _Fd(write)),
                daemon=True,
            )
            self.echo.start()
            os.close(write)
            assert os.read(self._report, 1) == echo.READY

    def open_rows(self) -> None:
        """Open every row towards its far end, and return once all of them send."""
        codec = Codec(0, "PCMU", 8000, 8000)
        for row in range(self.rows):
            self.send(OpenRow(row, 1, 0))
            self.send(SetStream(row, 1, "127.0.0.1", self.far_port + 2 * row, codec, (codec,), telephone_event=EVENTS))
        # Commands have a share of each tick: a plane that opens rows while the far ends talk is measured half idle.
        sent = COUNTERS.index("packets_sent")
        patience = time.monotonic() + OPENING_S
        while not self.table.counters[:, sent].all():
            if time.monotonic() > patience:
                raise RuntimeError(f"not all of {self.rows} rows send after {OPENING_S} s")
            time.sleep(0.05)

    def figures(self, compiled: Compiled, seconds: float, loss: float = 0.0) -> Figures:
        """Open every row, let the far ends talk for `seconds`, and close the rows again."""
        pid = self.plane.pid or 0
        memory = memory_bytes(pid)
        self.open_rows()
        far = generate(compiled, self.calls, self.far_port, self.plane_port, seconds, WARM_UP_S, loss)
        time.sleep(WARM_UP_S)
        before, packets = cpu_ns(pid), self._packets()
        time.sleep(max(1.0, seconds - WARM_UP_S - 1.0))
        cpu, packets = cpu_ns(pid) - before, self._packets() - packets
        memory = memory_bytes(pid) - memory
        measured = result(far)
        counters = {name: int(self.table.counters[:, index].sum()) for index, name in enumerate(COUNTERS)}
        plane = dict(zip(PLANE_COUNTERS, self.table.plane.tolist(), strict=True))
        for row in range(self.rows):
            self.send(CloseRow(row, 1))
        ages = self._ages()
        parts = {"p50": 50, "p99": 99, "p99_9": 99.9, "max": 100}
        age_ms = {name: float(np.percentile(ages, part)) if len(ages) else 0.0 for name, part in parts.items()}
        return Figures(
            us_per_pair=cpu / 1000 / max(1, packets // 2),
            far=measured,
            age_ms=age_ms,
            bytes_per_call=memory // self.calls,
            io=self.io,
            counters=counters,
            plane=plane,
        )

    def close(self) -> None:
        """End the processes."""
        if self.echo is not None and self.echo.is_alive():
            os.eventfd_write(self._stop_fd, 1)
        self.send(Shutdown())
        for child in (self.plane, self.echo):
            if child is not None:
                child.join(5)
                if child.is_alive():
                    child.kill()
        self._end.close()
        for fd in (self._table_fd, self.wake_fd, self._stop_fd):
            os.close(fd)

    def send(self, command: Any) -> None:
        """One command to the plane; its events are thrown away."""
        self._end.send(msgspec.msgpack.encode(command))
        self._end.setblocking(False)
        try:
            while True:
                self._end.recv(1 << 20)
        except OSError:
            self._end.settimeout(20)

    def _event(self) -> Any:
        return msgspec.msgpack.decode(self._end.recv(1 << 20), type=Event)

    def _packets(self) -> int:
        received, sent = COUNTERS.index("packets_received"), COUNTERS.index("packets_sent")
        return int(self.table.counters[:, [received, sent]].sum())

    def _ages(self) -> np.ndarray:
        if self._report is None:
            return np.zeros(0)
        os.eventfd_write(self._stop_fd, 1)
        with os.fdopen(self._report, "rb") as report:
            ages = np.frombuffer(report.read(), np.float64)
        self._report = None
        return ages[len(ages) // 4 :]  # the first quarter is the warm-up


def floor(compiled: Compiled, calls: int, seconds: float) -> float:
    """Processor time in µs per packet received and sent by the bare C echo."""
    here, there = free_ports(calls)
    allow_files(calls)
    echoing = subprocess.Popen(
        [compiled.program("floor"), str(calls), str(here), str(there)], stdout=subprocess.PIPE, text=True
    )
    assert echoing.stdout is not None
    echoing.stdout.readline()
    far = generate(compiled, calls, there, here, seconds, WARM_UP_S)
    time.sleep(WARM_UP_S)
    before, begin = cpu_ns(echoing.pid), time.monotonic()
    time.sleep(max(1.0, seconds - WARM_UP_S - 1.0))
    cpu, took = cpu_ns(echoing.pid) - before, time.monotonic() - begin
    measured = result(far)
    echoing.terminate()
    echoing.communicate()
    return cpu / 1000 / (measured["received"] / seconds * took)


class _Fd:
    """A file descriptor on its way into a process that is being started."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> Any:
        return _detach, (multiprocessing.reduction.DupFd(self._fd),)


def _detach(duplicate: Any) -> int:
    return int(duplicate.detach())


def _run_plane(control: socket.socket, table_fd: int, options: MediaOptions, wake_fd: int) -> None:
    process.run(control, table_fd, options, (wake_fd,))


def _run_echo(table_fd: int, rows: int, wake_fd: int, stop_fd: int, report_fd: int) -> None:
    echo.run(table_fd, rows, wake_fd, stop_fd, report_fd)
