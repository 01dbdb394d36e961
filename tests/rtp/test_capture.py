"""Captures: what is in the file, what is not, and what ends it. Files are read by tshark, which is not ours."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sipagent.rtp import pcapng
from sipagent.rtp.capture import CaptureWriter, Packet
from sipagent.rtp.control import (
    CaptureEnded,
    CaptureMessage,
    CloseRow,
    ControlRecording,
    OpenRow,
    Record,
    SendDigits,
    StartCapture,
    StopCapture,
)
from sipagent.rtp.sockets import Datagram
from tests.rtp.line import FAR_END, Line, marked, rtp

KEY = (3, 7)
US, THEM = ("192.0.2.77", 5060), ("198.51.100.1", 5070)
LIMIT = 100_000_000
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


FIELDS = (
    "frame.time_epoch", "ip.src", "ip.dst", "udp.srcport", "udp.dstport", "udp.length", "sip.Method", "rtp.seq",
    "rtp.payload", "ip.checksum.status", "udp.checksum.status", "_ws.malformed",
)  # fmt: skip


def decoded(path: Path) -> list[dict[str, str]]:
    """Every packet of a file as tshark reads it; headers whose checksums are wrong fail here."""
    words = [word for name in FIELDS for word in ("-e", name)]
    preferences = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-d", "udp.port==4000,rtp")
    command = ["tshark", "-n", "-r", str(path), *preferences, "-T", "fields", *words]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    packets = [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]
    for packet in packets:
        assert packet["ip.checksum.status"] in ("", "1") and packet["udp.checksum.status"] in ("1", "3"), packet
        assert not packet["_ws.malformed"], packet
    return packets


def start(line: Line, path: Path, row: int = 0) -> None:
    line.do(StartCapture(row, 1, str(path), "192.0.2.77", LIMIT))


def finish(line: Line) -> CaptureEnded:
    line.plane._capture.shut_down()
    (ended,) = line.events_of(CaptureEnded)
    return ended


def talk(line: Line, packets: int, first: int = 0, row: int = 0) -> None:
    for number in range(first, first + packets):
        line.arrive(rtp(number, 160 * number, marked(number)), row=row)
        line.tick(4)


@needs_tshark
def test_both_ways_of_a_row_are_in_the_file_with_their_addresses_from_the_command_to_the_end(tmp_path: Path) -> None:
    line, path = Line().open(), tmp_path / "call.pcapng"
    talk(line, 10)
    start(line, path)
    talk(line, 20, first=10)
    line.do(CloseRow(0, 1))
    line.do(StopCapture(0, 1))
    ended = finish(line)
    assert (ended.problem, ended.left_out) == ("", 0)
    media = [packet for packet in decoded(path) if packet["rtp.seq"]]
    heard = [packet for packet in media if packet["ip.src"] == FAR_END]
    said = [packet for packet in media if packet["ip.dst"] == FAR_END]
    assert [int(packet["rtp.seq"]) for packet in heard] == list(range(10, 30))
    assert [packet["rtp.payload"] for packet in heard] == [marked(number).hex() for number in range(10, 30)]
    ours = ("192.0.2.77", str(line.options.first_port))
    assert {(packet["ip.dst"], packet["udp.dstport"], packet["udp.srcport"]) for packet in heard} == {(*ours, "4000")}
    assert {(packet["ip.src"], packet["udp.srcport"], packet["udp.dstport"]) for packet in said} == {(*ours, "4000")}
    first = int(said[0]["rtp.seq"])
    assert [int(packet["rtp.seq"]) for packet in said] == list(range(first, first + 20))


def test_a_row_that_is_not_captured_costs_nothing_and_leaves_no_packet(tmp_path: Path) -> None:
    line = Line(rows=2).open().open(1)
    capture = line.plane._capture
    talk(line, 5)
    assert not capture and capture._writer is None
    start(line, tmp_path / "call.pcapng")
    assert capture
    for number in range(5, 10):
        line.arrive(rtp(number, 160 * number), row=1)
        line.tick(4)
    rows = {key for key, packets in capture._files.items() if packets}
    line.do(CloseRow(0, 1))
    assert rows <= {(0, 1)} and not capture
    assert finish(line).packets > 0


@needs_tshark
def test_the_last_words_of_sip_are_written_when_the_row_is_closed_already(tmp_path: Path) -> None:
    line, path = Line().open(), tmp_path / "call.pcapng"
    start(line, path)
    bye = b"BYE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP b;branch=z9hG4bK1\r\nCall-ID: 1\r\nCSeq: 1 BYE\r\n\r\n"
    line.do(CloseRow(0, 1))
    line.do(CaptureMessage(0, 1, line.now_ns, THEM, US, bye))
    line.do(OpenRow(0, 2))
    line.do(CaptureMessage(0, 2, line.now_ns, THEM, US, bye))  # of a call that nobody captures
    line.do(StopCapture(0, 1))
    finish(line)
    messages = [packet for packet in decoded(path) if packet["sip.Method"]]
    assert [(one["sip.Method"], one["ip.src"], one["udp.dstport"]) for one in messages] == [("BYE", THEM[0], "5060")]


@needs_tshark
def test_pressed_keys_are_masked_and_their_times_are_not(tmp_path: Path) -> None:
    line, path = Line().open(), tmp_path / "call.pcapng"
    start(line, path)
    talk(line, 2)
    for number, duration in enumerate((160, 320, 480)):
        payload = bytes([7, 0x8A if duration == 480 else 0x0A]) + duration.to_bytes(2, "big")
        line.arrive(rtp(2 + number, 320, payload, payload_type=101, marker=number == 0))
        line.tick(4)
    line.do(SendDigits(0, 1, "5"))
    line.tick(80)
    finish(line)
    events = [packet for packet in decoded(path) if len(packet["rtp.payload"]) == 8]
    theirs = [packet["rtp.payload"] for packet in events if packet["ip.src"] == FAR_END]
    ours = [packet["rtp.payload"] for packet in events if packet["ip.dst"] == FAR_END]
    assert theirs == ["ff0a00a0", "ff0a0140", "ff8a01e0"]
    assert len(ours) > 4 and all(payload.startswith("ff") for payload in ours)


@needs_tshark
def test_while_the_recording_is_paused_sound_is_blank_and_headers_go_on(tmp_path: Path) -> None:
    line, path = Line().open(), tmp_path / "call.pcapng"
    line.do(Record(0, 1, str(tmp_path / "call.wav")))
    start(line, path)
    talk(line, 5)
    line.do(ControlRecording(0, 1, "pause"))
    talk(line, 5, first=5)
    line.do(ControlRecording(0, 1, "resume"))
    talk(line, 5, first=10)
    finish(line)
    line.plane._taps.shut_down()
    packets = decoded(path)
    for side in ("ip.src", "ip.dst"):
        payloads = [packet["rtp.payload"] for packet in packets if packet["rtp.seq"] and packet[side] == FAR_END]
        assert [set(payload) == {"0"} for payload in payloads] == [False] * 5 + [True] * 5 + [False] * 5


@needs_tshark
def test_a_stranger_is_in_the_file_with_the_address_that_it_came_from(tmp_path: Path) -> None:
    line, path = Line().open(), tmp_path / "call.pcapng"
    start(line, path)
    talk(line, 2)
    line.sockets.datagrams.append(Datagram(0, False, rtp(1, 160, ssrc=99), ("203.0.113.5", 4444)))
    line.tick(4)
    finish(line)
    (stranger,) = [packet for packet in decoded(path) if packet["ip.src"] == "203.0.113.5"]
    assert (stranger["udp.srcport"], stranger["udp.dstport"]) == ("4444", str(line.options.first_port))
    assert line.counter("dropped_source") == 1


# ---- the writer


def packets(count: int, octets: int = 172) -> list[Packet]:
    return [(number * 20_000_000, US, THEM, bytes(octets)) for number in range(count)]


def ended(writer: CaptureWriter) -> CaptureEnded:
    writer.close()
    (event,) = writer.finished()
    return event


def test_captures_are_private_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "new" / "call.pcapng"
    writer = CaptureWriter(0)
    writer.start(KEY, str(path), LIMIT)
    writer.stop(KEY)
    writer.start(KEY, str(path), LIMIT)
    writer.close()
    first, second = writer.finished()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.problem == "" and second.problem == "File exists"


@needs_tshark
def test_a_capture_ends_at_its_size_and_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "call.pcapng"
    writer = CaptureWriter(0)
    writer.start(KEY, str(path), 1_000_000)
    writer.put(KEY, packets(8000))
    writer.stop(KEY)
    event = ended(writer)
    assert event.problem == "it has reached 1 MB"
    assert event.packets + event.left_out == 8000 and 3000 < event.packets < 8000
    assert path.stat().st_size < 1_000_100
    assert len(decoded(path)) == event.packets


@needs_tshark
def test_a_full_disk_ends_the_capture_and_leaves_what_was_written(tmp_path: Path) -> None:
    """A file size limit of the process stands in for the disk: write() then takes a part and fails at the next one."""
    path = tmp_path / "call.pcapng"
    script = f"""
import resource, signal
from sipagent.rtp.capture import CaptureWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
writer = CaptureWriter(0, interval_s=0.01)
writer.start((3, 7), {str(path)!r}, 100_000_000)
for number in range(100):
    writer.put((3, 7), [(number, ("192.0.2.1", 1), ("192.0.2.2", 2), bytes(172))] * 10)
writer.stop((3, 7))
writer.close()
print(writer.finished()[0].problem)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told == "File too large\n"
    assert path.stat().st_size <= 10_000
    assert len(decoded(path)) > 30


def test_what_the_disk_is_too_slow_for_is_left_out_and_counted(tmp_path: Path) -> None:
    writer = CaptureWriter(0, backlog_octets=10_000)
    writer.start(KEY, str(tmp_path / "call.pcapng"), LIMIT)
    writer.put(KEY, packets(100))
    writer.put(KEY, packets(2))
    writer.stop(KEY)
    event = ended(writer)
    assert event.left_out == 100 and event.packets == 2
    assert event.problem == "the disk was too slow: 100 packets are left out"


@needs_tshark
def test_datagrams_have_sound_headers_over_both_versions_of_ip(tmp_path: Path) -> None:
    path, at_ns = tmp_path / "all.pcapng", 1_700_000_000_123_456_789
    pairs = (
        ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2"), ("::", "192.0.2.2"), ("pbx.example", "192.0.2.2"),
    )  # fmt: skip
    sizes = (0, 1, 172, 173)
    made = [
        pcapng.datagram((ours, 40000), (theirs, 40002), bytes(range(size))) for ours, theirs in pairs for size in sizes
    ]
    blocks = [pcapng.packet(at_ns, data) for data in made]
    path.write_bytes(pcapng.preamble("test", "a comment") + b"".join(blocks) + pcapng.statistics(at_ns, 0))
    packets = decoded(path)
    assert [int(packet["udp.length"]) - 8 for packet in packets] == 4 * list(sizes)
    assert {packet["frame.time_epoch"] for packet in packets} == {"1700000000.123456789"}
    assert {packet["udp.dstport"] for packet in packets} == {"40002"}
    # Good over IPv6, not there over IPv4, which allows it (RFC 768).
    assert [packet["udp.checksum.status"] for packet in packets] == 4 * ["3"] + 8 * ["1"] + 4 * ["3"]
    assert {packet["ip.src"] for packet in packets} == {"192.0.2.1", "0.0.0.0", ""}
