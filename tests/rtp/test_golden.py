"""Golden packets: what baresip, pjsua2, sipp and rtpengine really send is understood to the last octet."""

import functools
import gzip
import itertools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sipagent.rtp.control import Digit
from sipagent.rtp.rtcp_packet import Description, Goodbye, Report, parse
from sipagent.rtp.sockets import Datagram
from sipagent.rtp.table import COUNTERS
from tests.rtp.line import FAR_END, PCMA, PCMU, Line

FOLDER = Path(__file__).with_name("golden")
DIGITS = "15#"
# far end: (codec, payload type of events, whether it reports)
CALLS: dict[str, tuple[Any, int, bool]] = {
    "baresip": (PCMU, 101, True),
    "pjsua2": (PCMU, 120, True),
    "sipp": (PCMA, 96, False),
    "rtpengine": (PCMU, 101, True),
}


@dataclass(frozen=True)
class Packet:
    control: bool  # to the RTCP port
    data: bytes


def packets(name: str) -> list[Packet]:
    """The datagrams of a capture (classic pcap, Ethernet, UDP over IPv4 without options)."""
    data = gzip.decompress((FOLDER / f"{name}.pcap.gz").read_bytes())
    assert data[:4] == b"\xd4\xc3\xb2\xa1" and struct.unpack_from("<I", data, 20)[0] == 1
    found: list[Packet] = []
    at = 24
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16 : at + 16 + size]
        port = int.from_bytes(frame[36:38], "big")
        found.append(Packet(port % 2 == 1, frame[42:]))
        at += 16 + size
    return found


@functools.cache
def played(name: str) -> Line:
    """The capture, heard by the plane in virtual time: sound by its timestamps, events and reports where they stood."""
    codec, event_type, _ = CALLS[name]
    line = Line()
    line.open(send=codec, receive=(codec,), telephone_event=((event_type, 8000),), rtcp_port=4001)
    begin, first = line.now_ns, 0
    for packet in packets(name):
        if packet.control:
            line.sockets.datagrams.append(Datagram(0, True, packet.data, (FAR_END, 4001)))
            continue
        line.arrive(packet.data)
        if packet.data[1] & 127 == codec.payload_type:
            timestamp = int.from_bytes(packet.data[4:8], "big")
            first = first or timestamp
            passed_ms = (line.now_ns - begin) // 1_000_000
            line.run_ms(max(0, (timestamp - first) // 8 + 20 - passed_ms))
        else:
            line.run_ms(5)
    line.run_ms(500)
    return line


def unsent(media: list[bytes]) -> int:
    """Numbers that the far end, or the machine on which it was recorded, left out."""
    numbers = [int.from_bytes(data[2:4], "big") for data in media]
    return sum((after - before - 1) % 65536 for before, after in itertools.pairwise(numbers))


@pytest.mark.parametrize("name", CALLS)
def test_every_packet_of_a_real_far_end_is_heard_and_none_is_called_malformed(name: str) -> None:
    line = played(name)
    media = [packet.data for packet in packets(name) if not packet.control]
    dropped = {counter: line.counter(counter) for counter in COUNTERS if counter.startswith("dropped_")}
    if name == "sipp":  # its digits come from another source, behind 20 packets of a payload type that it offered not
        assert dropped.pop("dropped_payload_type") == 20 and dropped.pop("dropped_ssrc") == 1
        assert line.counter("ssrc_changes") == 1
        media = [data for data in media if data[1] & 127 != 97][1:]
    else:
        assert line.counter("lost") == unsent(media) <= 40
    assert dropped.pop("dropped_late") <= 10  # around the numbers that were left out
    assert not any(dropped.values()), dropped
    assert line.counter("packets_received") == len(media) > 80
    assert line.counter("reordered") == 0


@pytest.mark.parametrize("name", CALLS)
def test_the_digits_of_a_real_far_end_are_found_each_once(name: str) -> None:
    line = played(name)
    digits = line.events_of(Digit)
    assert "".join(digit.digit for digit in digits) == DIGITS
    assert {digit.by for digit in digits} == {"rtp"} and all(20 <= digit.duration_ms <= 2000 for digit in digits)
    assert line.counter("dtmf_packets") >= 3 * len(DIGITS), "each end comes three times"


@pytest.mark.parametrize("name", CALLS)
def test_the_tone_of_a_real_far_end_is_in_the_ring(name: str) -> None:
    pcm = played(name).heard()[4000:8000].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    assert abs(int(np.argmax(spectrum)) * 8000 / len(pcm) - 440) < 4
    assert spectrum.max() > 50 * np.median(spectrum)


@pytest.mark.parametrize("name", [name for name, (_, _, reports) in CALLS.items() if reports])
def test_the_reports_of_a_real_far_end_are_read(name: str) -> None:
    recorded = packets(name)
    ssrc = next(int.from_bytes(packet.data[8:12], "big") for packet in recorded if not packet.control)
    compounds = [parse(packet.data) for packet in recorded if packet.control]
    assert compounds and None not in compounds
    read = [packet for compound in compounds if compound is not None for packet in compound]
    senders = [packet for packet in read if isinstance(packet, Report) and packet.sender is not None]
    assert senders and {report.ssrc for report in senders} == {ssrc}
    sent = [report.sender.packets for report in senders if report.sender is not None]
    assert sent == sorted(sent) and 0 < sent[-1] <= len(recorded) + 40
    assert any(isinstance(packet, Description) and packet.cname for packet in read)
    assert all(ssrc in packet.ssrcs for packet in read if isinstance(packet, Goodbye))
    blocks = [block for report in senders for block in report.blocks]
    assert all(block.fraction_lost == 0 and block.jitter_ticks < 800 for block in blocks) and blocks
