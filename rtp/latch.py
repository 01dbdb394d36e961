"""From where a row's media may come: the source policy of symmetric RTP, one address at a time.

Media is sent to the address of the SDP at once, and heard from there. A far end behind a NAT sends from another one: it
is believed after a few valid packets in sequence from an allowed address, once per offer/answer; later only if it goes
on with the very stream that fell silent. Whatever else comes is counted, not heard and never answered (CVE-2017-14099).
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sipagent.rtp.packet import HEADER

PROBATION_NS: Final = 3_000_000_000  # a source has to show itself within this time
REBIND_SILENCE_NS: Final = 200_000_000  # the stream must have been silent so long before it may go on elsewhere
CANDIDATES: Final = 4  # sources that may be on probation at the same time; the one that was silent longest gives way

Address = tuple[str, int]


@dataclass(slots=True)
class Candidate:
    """A source on probation: the packets of one stream, in sequence, of which the last has number `sequence`."""

    since_ns: int
    sequence: int
    packets: list[bytes]


@dataclass(slots=True)
class SourcePolicy:
    """The sources of one row, between two offer/answer exchanges."""

    remote: Address
    allowed: frozenset[str]
    payload_types: frozenset[int]
    latch_packets: int
    latched: bool = False
    _candidates: OrderedDict[tuple[Address, int], Candidate] = field(default_factory=OrderedDict)  # by source and SSRC

    def stranger(
        self, source: Address, data: bytes, now_ns: int, *, heard_ns: int, continues: bool
    ) -> list[bytes] | None:
        """A packet that did not come from `remote`. None = drop it; else latch to `source` and take these packets.

        `heard_ns` is when the row last heard valid media, 0 = never since this exchange; `continues` whether the
        packet goes on with the stream that was heard.
        """
        if source[0] not in self.allowed or source[1] == 0:
            return None
        if len(data) < HEADER or data[0] >> 6 != 2 or data[1] & 0x7F not in self.payload_types:
            return None
        if (self.latched or heard_ns) and not (continues and now_ns - heard_ns > REBIND_SILENCE_NS):
            return None
        sequence, ssrc = int.from_bytes(data[2:4], "big"), int.from_bytes(data[8:12], "big")
        # Each source has a probation of its own: two that send in turn would keep each other from ever being heard.
        candidate = self._candidates.pop((source, ssrc), None)
        follows = (
            candidate is not None
            and sequence == (candidate.sequence + 1) & 0xFFFF
            and now_ns - candidate.since_ns <= PROBATION_NS
        )
        if candidate is None or not follows:
            candidate = Candidate(now_ns, sequence, [])
        candidate.sequence = sequence
        candidate.packets.append(data)
        if len(candidate.packets) < self.latch_packets:
            if len(self._candidates) == CANDIDATES:
                self._candidates.popitem(last=False)
            self._candidates[source, ssrc] = candidate
            return None
        self.remote, self.latched = source, True
        self._candidates.clear()
        return candidate.packets
