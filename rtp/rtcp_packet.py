"""RTCP packets (RFC 3550 §6): reports, source descriptions and goodbyes, built and parsed.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
|V=2|P|  count  |  packet type  |   length in words, less one   |

A datagram is a compound of such packets. One that does not add up is no RTCP at all.
"""

import struct
from dataclasses import dataclass
from typing import Final

from sipagent.rtp.xr import EXTENDED_REPORT, ExtendedReport, build_extended, parse_extended

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
BYE: Final = 203
FIRST_TYPE: Final = 192  # RFC 5761 §4: what a shared port tells apart from RTP …
LAST_TYPE: Final = 223
MAX_DATAGRAM: Final = 1500
MAX_PACKETS: Final = 32  # of one compound
_CNAME: Final = 1  # RFC 3550 §6.5.1
_HEADER: Final = struct.Struct(">BBH")
_SENDER: Final = struct.Struct(">QIII")
_BLOCK: Final = struct.Struct(">IB3sIIII")


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What a sender says of itself: `ntp` 32.32 bits, the RTP timestamp of that instant, payload packets and octets."""

    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What the reporter received of `ssrc` (§6.4.1).

    `fraction_lost` in 1/256 since the report before, `cumulative_lost` signed 24 bits, `highest_sequence` extended,
    `jitter_ticks` in timestamp units, `last_sr` the middle 32 bits of an NTP timestamp, `delay_since_last_sr` in
    1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter_ticks: int
    last_sr: int
    delay_since_last_sr: int


@dataclass(frozen=True, slots=True)
class Report:
    """SR with `sender`, RR without."""

    ssrc: int
    sender: SenderInfo | None
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """SDES of one source, of which only the CNAME interests us; 1–255 octets of UTF-8."""

    ssrc: int
    cname: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """BYE of these sources."""

    ssrcs: tuple[int, ...]


Packet = Report | Description | Goodbye | ExtendedReport


def build(*packets: Packet) -> bytes:
    """A compound datagram; by RFC 3550 §6.1 it begins with a report and holds a CNAME, which is the caller's duty."""
    return b"".join(_build_one(packet) for packet in packets)


def parse(data: bytes) -> tuple[Packet, ...] | None:
    """The packets of a datagram that we know, the others left out; None when it is not RTCP. Never raises.

    A compound may begin with any type (RFC 5506). Only the last packet may be padded (RFC 3550 A.2).
    """
    if not 4 <= len(data) <= MAX_DATAGRAM:
        return None
    packets: list[Packet] = []
    offset = seen = 0
    while offset < len(data):
        seen += 1
        if len(data) - offset < 4 or seen > MAX_PACKETS:
            return None
        first, kind, words = _HEADER.unpack_from(data, offset)
        end = offset + 4 + 4 * words
        if first >> 6 != 2 or not FIRST_TYPE <= kind <= LAST_TYPE or end > len(data):
            return None
        body = data[offset + 4 : end]
        if first & 0x20:
            padding = body[-1] if body else 0
            if end != len(data) or padding % 4 or not 0 < padding <= len(body):
                return None
            body = body[: len(body) - padding]
        parsed = _parse_one(kind, first & 31, body)
        if parsed is None:
            return None
        packets += parsed
        offset = end
    return tuple(packets)


def _build_one(packet: Packet) -> bytes:
    match packet:
        case Report():
            sender = packet.sender
            body = struct.pack(">I", packet.ssrc)
            if sender is not None:
                body += _SENDER.pack(sender.ntp, sender.rtp_timestamp, sender.packets, sender.octets)
            body += b"".join(_build_block(block) for block in packet.blocks)
            return _framed(SENDER_REPORT if sender else RECEIVER_REPORT, len(packet.blocks), body)
        case Description():
            name = packet.cname.encode()
            chunk = struct.pack(">IBB", packet.ssrc, _CNAME, len(name)) + name
            chunk += bytes(4 - len(chunk) % 4)  # the list of items ends with one to four zeros
            return _framed(SOURCE_DESCRIPTION, 1, chunk)
        case Goodbye():
            return _framed(BYE, len(packet.ssrcs), struct.pack(f">{len(packet.ssrcs)}I", *packet.ssrcs))
        case ExtendedReport():
            return _framed(EXTENDED_REPORT, 0, build_extended(packet))


def _framed(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _build_block(block: ReportBlock) -> bytes:
    return _BLOCK.pack(
        block.ssrc,
        block.fraction_lost,
        block.cumulative_lost.to_bytes(3, "big", signed=True),
        block.highest_sequence,
        block.jitter_ticks,
        block.last_sr,
        block.delay_since_last_sr,
    )


def _parse_one(kind: int, count: int, body: bytes) -> list[Packet] | None:
    """The packet in `body`, [] for a type that we do not know, None when it is malformed."""
    if kind in (SENDER_REPORT, RECEIVER_REPORT):
        report = _parse_report(kind, count, body)
        return None if report is None else [report]
    if kind == SOURCE_DESCRIPTION:
        return _parse_description(count, body)
    if kind == BYE:
        return [Goodbye(struct.unpack_from(f">{count}I", body))] if len(body) >= 4 * count else None
    if kind == EXTENDED_REPORT:
        extended = parse_extended(body)
        return None if extended is None else [extended]
    return []


def _parse_report(kind: int, count: int, body: bytes) -> Report | None:
    start = 4 + (_SENDER.size if kind == SENDER_REPORT else 0)
    if len(body) < start + _BLOCK.size * count:
        return None  # what is behind the blocks is a profile's extension
    sender = SenderInfo(*_SENDER.unpack_from(body, 4)) if kind == SENDER_REPORT else None
    blocks = []
    for index in range(count):
        ssrc, fraction, cumulative, *rest = _BLOCK.unpack_from(body, start + _BLOCK.size * index)
        blocks.append(ReportBlock(ssrc, fraction, int.from_bytes(cumulative, "big", signed=True), *rest))
    return Report(int.from_bytes(body[:4], "big"), sender, tuple(blocks))


def _parse_description(count: int, body: bytes) -> list[Packet] | None:
    found: list[Packet] = []
    offset = 0
    for _ in range(count):
        start = offset
        if len(body) - offset < 8:  # SSRC, and at least the zeros that end the list
            return None
        ssrc = int.from_bytes(body[offset : offset + 4], "big")
        offset += 4
        while offset < len(body) and body[offset]:
            if offset + 2 > len(body) or offset + 2 + body[offset + 1] > len(body):
                return None
            if body[offset] == _CNAME:
                found.append(
                    Description(ssrc, body[offset + 2 : offset + 2 + body[offset + 1]].decode("utf-8", "replace"))
                )
            offset += 2 + body[offset + 1]
        offset = start + ((offset - start) // 4 + 1) * 4
        if offset > len(body):
            return None
    return found
