"""SRTP and SRTCP (RFC 3711, RFC 7714) of the rows that have keys; the others never come here.

libsrtp keeps the rollover counters and replay windows, one session per direction of a row. A session lives as long as
its key: a re-negotiation that brings the same key goes on with the same counter (RFC 3711 §3.3.1).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pylibsrtp import Error, Policy, Session

from sipagent.rtp import packet
from sipagent.rtp.control import SrtpKeys
from sipagent.rtp.inbound import Inbound
from sipagent.rtp.packet import Batch
from sipagent.rtp.rollover import Rollover
from sipagent.rtp.sockets import Datagram
from sipagent.rtp.table import COUNTER, CallTable

Rows = NDArray[np.intp]

PROFILES: Final[dict[str, int]] = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
OLD_KEY_NS: Final = 1_000_000_000  # packets under the key before are still on their way
EARLY_NS: Final = 200_000_000  # media may outrun the answer that brings its key by so much
EARLY_PACKETS: Final = 16  # … and by no more packets than this
_REPLAYED: Final = "replay check failed"


@dataclass(slots=True)
class Context:
    """The sessions of one row; `previous` is that of the inbound key before, good until `previous_until_ns`."""

    keys: SrtpKeys
    inbound: Inbound
    outbound: Session
    previous: Inbound | None = None
    previous_until_ns: int = 0


class SrtpRows:
    """Protects and unprotects packets; what fails is counted in dropped_auth or dropped_replay and dropped."""

    def __init__(self, table: CallTable) -> None:
        self._table = table
        self._contexts: dict[int, Context] = {}
        self.secured = np.zeros(table.rows, np.bool_)
        self.early = EarlyPackets()
        self._rollover = Rollover(table)

    def __bool__(self) -> bool:
        """Whether any row is secured: while none is, nothing needs to be asked of this object."""
        return bool(self._contexts)

    def set_keys(self, row: int, keys: SrtpKeys | None, now_ns: int) -> None:
        """Use `keys` from now on, None = no SRTP. Raises ValueError for a profile or a key that cannot be used."""
        if keys is None:
            self.forget(row)
            return
        before = self._contexts.get(row)
        if before is not None and before.keys == keys:
            return
        same_profile = before is not None and before.keys.profile == keys.profile
        keep_in = before is not None and same_profile and before.keys.remote == keys.remote
        keep_out = before is not None and same_profile and before.keys.local == keys.local
        inbound = before.inbound if before and keep_in else Inbound(_number(keys.profile), keys.remote)
        outbound = before.outbound if before and keep_out else _outbound(keys.profile, keys.local)
        self._rollover.begin(row, keys.profile, keys.remote)
        if before is None:  # or the plane is new, and the row is not
            self._rollover.lead(row, inbound, _outbound(keys.profile, keys.remote))
        context = Context(keys, inbound, outbound)
        if before is not None and not keep_in:
            context.previous, context.previous_until_ns = before.inbound, now_ns + OLD_KEY_NS
        self._contexts[row] = context
        self.secured[row] = True

    def open(self, row: int) -> None:
        """The row goes to a new call."""
        self.forget(row)
        self._rollover.forget(row)

    def forget(self, row: int) -> None:
        """The row has no keys any more."""
        if self._contexts.pop(row, None) is not None:
            self._rollover.forget(row)
        self.secured[row] = False

    # ---- towards us

    def unprotect(self, batch: Batch, now_ns: int) -> Batch:
        """The packets of `batch` in the clear: those of secured rows decrypted in place, what was refused left out."""
        chosen = np.flatnonzero(self.secured[batch.rows])
        if not len(chosen):
            return batch
        data = np.ascontiguousarray(batch.data)  # as it is, but a batch does not promise it
        stride = data.shape[1]
        octets = memoryview(data.reshape(-1))  # type: ignore[arg-type]
        control = packet.is_rtcp(batch.data, batch.length)
        keep = np.ones(len(batch), np.bool_)
        lengths = batch.length[chosen]
        every = zip(
            chosen.tolist(), batch.rows[chosen].tolist(), lengths.tolist(), control[chosen].tolist(), strict=True
        )
        for number, (index, row, length, is_control) in enumerate(every):
            start = index * stride
            clear = self.unprotect_one(row, bytes(octets[start : start + length]), now_ns, control=is_control)
            if clear is None:
                keep[index] = False
            else:
                octets[start : start + len(clear)] = clear
                lengths[number] = len(clear)
        batch.length[chosen] = lengths
        batch = Batch(batch.rows, data, batch.length)
        return batch if keep.all() else batch.take(np.flatnonzero(keep))

    def unprotect_one(self, row: int, data: bytes, now_ns: int, *, control: bool) -> bytes | None:
        """One packet of a secured row in the clear, RTCP if `control`; None when it was refused and counted."""
        context = self._contexts[row]
        try:
            clear = context.inbound.unprotect(data, control=control)
            if not control:
                self._rollover.note(row, data)
            return clear
        except (Error, ValueError) as error:
            if context.previous is not None:
                if now_ns < context.previous_until_ns:
                    try:
                        return context.previous.unprotect(data, control=control)
                    except (Error, ValueError):
                        pass  # the present key's verdict counts
                else:
                    context.previous = None
            reason = "dropped_replay" if str(error).startswith(_REPLAYED) else "dropped_auth"
            self._table.counters[row, COUNTER[reason]] += np.uint64(1)
            return None

    # ---- towards the far end

    def protect(self, packets: NDArray[np.uint8], rows: Rows, length: NDArray[np.int64]) -> None:
        """Encrypt the buffers `packets` u1[rows, stride] of the secured among `rows` [n]; raises their `length` [n]."""
        chosen = np.flatnonzero(self.secured[rows])
        if not len(chosen):
            return
        stride = packets.shape[1]
        octets = memoryview(packets.reshape(-1))  # type: ignore[arg-type]
        lengths = length[chosen].tolist()
        for number, row in enumerate(rows[chosen].tolist()):
            start = row * stride
            secret = self._contexts[row].outbound.protect(bytes(octets[start : start + lengths[number]]))
            octets[start : start + len(secret)] = secret
            lengths[number] = len(secret)
        length[chosen] = lengths

    def protect_one(self, row: int, data: bytes, *, control: bool) -> bytes:
        """One packet, encrypted if the row is secured."""
        context = self._contexts.get(row)
        if context is None:
            return data
        return context.outbound.protect_rtcp(data) if control else context.outbound.protect(data)


class EarlyPackets:
    """Packets that came before the row's keys did, for as long as the keys may still come."""

    def __init__(self) -> None:
        self._held: dict[int, deque[tuple[int, Datagram]]] = {}

    def hold(self, datagram: Datagram, now_ns: int) -> None:
        """Keep it; the oldest give way."""
        self._held.setdefault(datagram.row, deque(maxlen=EARLY_PACKETS)).append((now_ns, datagram))

    def take(self, row: int, now_ns: int) -> list[Datagram]:
        """What is still young enough, in the order in which it came; nothing is kept."""
        return [datagram for came_ns, datagram in self._held.pop(row, ()) if now_ns - came_ns <= EARLY_NS]


def _number(profile: str) -> int:
    if profile not in PROFILES:
        raise ValueError(f"SRTP profile {profile} is not one of {', '.join(PROFILES)}")
    return PROFILES[profile]


def _outbound(profile: str, key: bytes) -> Session:
    return Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=_number(profile)))
