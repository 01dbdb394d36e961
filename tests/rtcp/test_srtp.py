"""SRTP rows of a plane in virtual time; the far end is a libsrtp session of the test."""

import os

import numpy as np
import pytest
from pylibsrtp import Error, Policy, Session

from sipagent.rtp.control import FirstPacket, Latched, MediaProblem, OpenRow, SendDigits, SrtpKeys
from sipagent.rtp.inbound import STREAMS
from sipagent.rtp.rtcp_packet import Report, ReportBlock, build, parse
from sipagent.rtp.sockets import Datagram
from sipagent.rtp.srtp import EARLY_PACKETS, PROFILES
from sipagent.rtp.table import GAUGE
from tests.rtp.line import FAR_END, Line, marked, packets_heard, rtp

SIZES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
OVERHEAD = {
    "AES_CM_128_HMAC_SHA1_80": 10,
    "AES_CM_128_HMAC_SHA1_32": 4,
    "AEAD_AES_128_GCM": 16,
    "AEAD_AES_256_GCM": 16,
}
USUAL = "AES_CM_128_HMAC_SHA1_80"
FAR = (FAR_END, 4000)


class FarEnd:
    def __init__(self, profile: str = USUAL, keys: SrtpKeys | None = None) -> None:
        size = SIZES[profile]
        self.keys = keys or SrtpKeys(profile, os.urandom(size), os.urandom(size))
        number = PROFILES[profile]
        self._out = Session(Policy(self.keys.remote, Policy.SSRC_ANY_OUTBOUND, srtp_profile=number))
        self._in = Session(Policy(self.keys.local, Policy.SSRC_ANY_INBOUND, srtp_profile=number))

    def packet(self, sequence: int, number: int | None = None) -> bytes:
        return self._out.protect(rtp(sequence, 160 * sequence, marked(sequence if number is None else number)))

    def source(self, ssrc: int) -> bytes:
        return self._out.protect(rtp(1, 160, ssrc=1000 + ssrc))

    def control(self, data: bytes) -> bytes:
        return self._out.protect_rtcp(data)

    def clear(self, data: bytes) -> bytes:
        return self._in.unprotect(data)

    def clear_control(self, data: bytes) -> bytes:
        return self._in.unprotect_rtcp(data)


def heard(line: Line) -> list[int]:
    return [number for number in packets_heard(line) if number >= 0]


def drops(line: Line) -> tuple[int, int]:
    return line.counter("dropped_auth"), line.counter("dropped_replay")


def carry(line: Line, *packets: bytes) -> None:
    for packet in packets:
        line.arrive(packet)
        line.tick(4)


@pytest.mark.rfc("7714", "12", "MUST", role="both", text="AES-CM and AES-GCM profiles, both ways")
@pytest.mark.parametrize("profile", SIZES)
def test_both_directions_are_encrypted_under_every_profile(profile: str) -> None:
    far = FarEnd(profile)
    line = Line().open(srtp=far.keys)
    line.table.tx_pcm[0, :1600] = 1000
    line.table.tx_head[0] = 1600
    carry(line, *(far.packet(number) for number in range(1, 20)))
    assert heard(line) == list(range(1, 20))
    assert len(line.sent()) >= 18
    for sent in line.sent():
        clear = far.clear(sent.data)
        assert len(sent.data) == len(clear) + OVERHEAD[profile] == 172 + OVERHEAD[profile]
        assert clear[:12] == sent.data[:12] and clear[12:] != sent.data[12:172]
    assert drops(line) == (0, 0)
    assert line.counter("octets_sent") == 160 * len(line.sent())


def test_rows_without_keys_are_not_touched_beside_one_that_has_them() -> None:
    far = FarEnd()
    line = Line(rows=3).open(0).open(1, srtp=far.keys).open(2)
    for number in range(1, 10):
        line.arrive(rtp(number, 160 * number, marked(number)), row=0)
        line.arrive(far.packet(number), row=1)
        line.arrive(rtp(number, 160 * number, marked(number)), row=2)
        line.tick(4)
    for row in range(3):
        assert [number for number in packets_heard(line, row) if number >= 0] == list(range(1, 10))
        assert {len(sent.data) for sent in line.sent(row)} == {182 if row == 1 else 172}


def test_a_plane_without_keys_asks_no_packet_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line().open()

    def never(*arguments: object) -> None:
        raise AssertionError("SRTP was asked")

    monkeypatch.setattr(line.plane._srtp, "unprotect", never)
    monkeypatch.setattr(line.plane._srtp, "protect", never)
    carry(line, *(rtp(number, 160 * number, marked(number)) for number in range(1, 10)))
    assert heard(line) == list(range(1, 10))


@pytest.mark.rfc("3711", "3.3", "MUST", role="both", text="what fails authentication is dropped and counted")
def test_forged_truncated_and_plain_packets_are_counted_and_not_heard() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    good = [far.packet(number) for number in range(1, 6)]
    forged = bytearray(far.packet(6))
    forged[40] ^= 1
    carry(line, *good, bytes(forged), far.packet(7)[:-4], far.packet(8)[:12], b"\x80", rtp(9, 1440, marked(9)))
    assert drops(line) == (5, 0)
    assert heard(line) == [1, 2, 3, 4, 5]
    assert line.counter("packets_received") == 5
    carry(line, far.packet(10))
    assert heard(line)[-1] == 10


@pytest.mark.rfc("3711", "3.3.2", "MUST", role="both", text="replayed packets are dropped")
def test_replayed_packets_are_counted_and_not_heard() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    packets = [far.packet(number) for number in range(1, 200)]
    carry(line, *packets, packets[150], packets[198], packets[3])
    assert drops(line) == (0, 3)
    assert line.counter("packets_received") == 199 and line.counter("dropped_duplicate") == 0


def test_a_far_end_that_takes_another_ssrc_for_each_packet_is_no_burden() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    carry(line, *(far.packet(number) for number in range(1, 6)))
    for number in range(6, 106):
        line.arrive(far.source(number), far.packet(number))
        line.tick(4)
    assert heard(line) == [number % 100 for number in range(1, 106)]
    assert drops(line) == (0, 0) and line.counter("dropped_ssrc") == 100
    inbound = line.plane._srtp._contexts[0].inbound
    assert len(inbound._heard) == STREAMS
    with pytest.raises(Error, match="context"):
        inbound._session.remove_stream(1006)


def test_thousands_of_forgeries_leave_the_audio_unhurt() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    random = np.random.default_rng(5)
    for number in range(1, 60):
        packet = far.packet(number)
        for _ in range(20):
            damaged = bytearray(packet)
            damaged[int(random.integers(len(packet)))] ^= 1 << int(random.integers(8))
            line.arrive(bytes(damaged))
        line.arrive(packet, packet)
        line.tick(4)
    assert heard(line) == list(range(1, 60))
    assert sum(drops(line)) == 59 * 21


@pytest.mark.rfc("3711", "3.3.1", "MUST", role="both", text="the rollover counter goes on while the key does")
def test_the_rollover_counter_goes_on_through_a_new_agreement_with_the_same_key() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    carry(line, *(far.packet(65530 + number, number) for number in range(1, 12)))
    line.stream(srtp=far.keys)
    carry(line, *(far.packet(6 + number, number) for number in range(12, 20)))
    assert heard(line) == list(range(1, 20))
    assert drops(line) == (0, 0)


def test_our_own_rollover_is_understood_by_the_far_end() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    line.plane.sender.sequence[0] = 65530
    line.run_ms(200)
    line.stream(srtp=far.keys)
    line.run_ms(200)
    assert [sent.sequence for sent in line.sent()][:8] == [65530, 65531, 65532, 65533, 65534, 65535, 0, 1]
    for sent in line.sent():
        far.clear(sent.data)


@pytest.mark.rfc("4568", "7.1.4", "SHOULD", role="both", text="a new key takes over without a gap")
def test_a_new_key_takes_over_and_the_old_one_is_good_for_what_is_on_its_way() -> None:
    old, new = FarEnd(), FarEnd()
    line = Line().open(srtp=old.keys)
    carry(line, *(old.packet(number) for number in range(1, 6)))
    late = [old.packet(6), old.packet(7)]
    line.stream(srtp=new.keys)
    carry(line, *late, *(new.packet(number) for number in range(8, 12)))
    assert heard(line) == list(range(1, 12))
    new.clear(line.sent()[-1].data)
    line.run_ms(1000)
    before = drops(line)
    carry(line, old.packet(12))
    assert drops(line) == (before[0] + 1, 0)


def test_keys_that_end_are_not_used_any_more() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    line.run_ms(100)
    line.stream(srtp=None)
    line.run_ms(100)
    assert len(line.sent()[0].data) == 182 and len(line.sent()[-1].data) == 172
    carry(line, rtp(1, 160, marked(1)))
    assert heard(line) == [1]


def test_the_next_call_of_a_row_knows_nothing_of_the_keys_before() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    line.open(generation=2)
    carry(line, rtp(1, 160, marked(1)))
    assert heard(line) == [1] and drops(line) == (0, 0)


@pytest.mark.rfc("4568", "6.1", "MUST", role="both", text="where keys cannot be used nothing is sent in the clear")
@pytest.mark.parametrize("keys", [SrtpKeys("NULL_NULL", b"", b""), SrtpKeys(USUAL, b"short", b"short")])
def test_keys_that_cannot_be_used_are_a_problem_and_nothing_is_sent_in_the_clear(keys: SrtpKeys) -> None:
    line = Line().open(srtp=keys)
    line.run_ms(200)
    assert line.events_of(MediaProblem)
    assert line.sent() == []
    assert "short" not in repr(line.events_of(MediaProblem))


def test_digits_are_sent_encrypted() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    line.do(SendDigits(0, 1, "5"))
    line.run_ms(400)
    clear = [far.clear(sent.data) for sent in line.sent()]
    events = [packet for packet in clear if packet[1] & 0x7F == 101]
    assert events and {packet[12] for packet in events} == {5}


# ---- packets and keys that cross on the way


def early(line: Line, *packets: bytes, source: tuple[str, int] = FAR) -> None:
    for packet in packets:
        line.sockets.datagrams.append(Datagram(0, False, packet, source))
        line.tick(4)


def test_packets_that_outrun_their_key_are_heard_when_it_comes() -> None:
    far = FarEnd()
    line = Line()
    line.do(OpenRow(0, 1))
    early(line, *(far.packet(number) for number in range(1, 6)))
    line.stream(srtp=far.keys)
    carry(line, *(far.packet(number) for number in range(6, 12)))
    assert heard(line) == list(range(1, 12))
    assert len(line.events_of(FirstPacket)) == 1
    assert drops(line) == (0, 0)


def test_packets_that_came_too_long_before_the_key_are_forgotten() -> None:
    far = FarEnd()
    line = Line()
    line.do(OpenRow(0, 1))
    early(line, far.packet(1), far.packet(2))
    line.run_ms(200)
    early(line, far.packet(3))
    line.stream(srtp=far.keys)
    line.tick(4)
    assert heard(line) == [3]


def test_no_more_packets_are_held_than_the_bound() -> None:
    far = FarEnd()
    line = Line()
    line.do(OpenRow(0, 1))
    for number in range(1, 100):
        line.sockets.datagrams.append(Datagram(0, False, far.packet(number), FAR))
    line.tick()
    line.stream(srtp=far.keys)
    line.tick(4)
    assert line.counter("packets_received") == EARLY_PACKETS
    assert heard(line) == list(range(100 - EARLY_PACKETS, 100))


def test_a_stranger_that_sends_before_the_key_is_not_heard() -> None:
    far, stranger = FarEnd(), FarEnd()
    line = Line()
    line.do(OpenRow(0, 1))
    early(line, *(stranger.packet(number) for number in range(1, 6)))
    early(line, rtp(6, 960, marked(6)), source=("198.51.100.9", 4000))
    line.stream(srtp=far.keys)
    line.tick(4)
    assert heard(line) == [] and line.counter("dropped_auth") == 5 and line.counter("dropped_source") == 1


def test_packets_before_an_agreement_without_keys_are_not_heard() -> None:
    line = Line()
    line.do(OpenRow(0, 1))
    early(line, *(rtp(number, 160 * number, marked(number)) for number in range(1, 6)))
    line.stream()
    line.tick(4)
    assert heard(line) == []


# ---- other sources


def test_a_source_is_latched_only_with_packets_that_are_authentic() -> None:
    far, stranger = FarEnd(), FarEnd()
    line = Line().open(srtp=far.keys)
    early(line, *(rtp(number, 160 * number, marked(number)) for number in range(1, 10)), source=(FAR_END, 4444))
    early(line, *(stranger.packet(number) for number in range(1, 10)), source=(FAR_END, 4444))
    assert line.events_of(Latched) == [] and line.counter("dropped_auth") == 18
    early(line, *(far.packet(number) for number in range(1, 5)), source=(FAR_END, 4444))
    assert line.events_of(Latched) == [Latched(0, 1, FAR_END, 4444)]
    assert heard(line) == [1, 2, 3, 4]


def test_a_stranger_does_not_make_us_decrypt() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    early(line, far.packet(1), source=("198.51.100.9", 4000))
    assert line.counter("dropped_source") == 1 and drops(line) == (0, 0)
    carry(line, far.packet(2))
    assert heard(line) == [2]


# ---- SRTCP


@pytest.mark.rfc("3711", "3.4", "MUST", role="both", text="RTCP is encrypted and authenticated")
@pytest.mark.parametrize("profile", SIZES)
@pytest.mark.parametrize("shared", [False, True])
def test_reports_are_encrypted_both_ways(profile: str, shared: bool) -> None:
    far = FarEnd(profile)
    line = Line().open(srtp=far.keys, rtcp_address=FAR_END, rtcp_port=0 if shared else 4001)
    line.run_ms(5000)
    if shared:
        sent = [packet.data for packet in line.sent() if 192 <= packet.data[1] <= 223]
    else:
        sent = [data for _, data, _ in line.sockets.control]
    assert sent
    report = (parse(far.clear_control(sent[0])) or ())[0]
    assert isinstance(report, Report) and report.sender is not None
    answer = build(Report(7, None, (ReportBlock(report.ssrc, 0, 50, 0, 0, 0, 0),)))
    secret = far.control(answer)
    for data in (answer, secret, secret):
        if shared:
            line.arrive(data)
        else:
            line.sockets.datagrams.append(Datagram(0, True, data, (FAR_END, 4001)))
        line.tick()
    assert line.table.gauges[0, GAUGE["remote_loss_fraction"]] > 0.1
    assert drops(line) == (1, 1)


def successor(line: Line, far: FarEnd) -> Line:
    """Another plane over the same table, and the call that the first one had."""
    after = Line(table=line.table)
    after.now_ns, after.tick_number = line.now_ns, line.tick_number
    after.do(OpenRow(0, 1, 0, 8000, resumed_ms=0))
    after.stream(srtp=far.keys)
    return after


@pytest.mark.parametrize("profile", SIZES)
@pytest.mark.parametrize("first", [1, 40_000, 65_530])
@pytest.mark.rfc(
    "3711", "3.3.1", "MUST", role="both", text="wraps of the sequence number are counted, also beyond a plane"
)
def test_a_plane_that_follows_one_that_died_decrypts_after_any_number_of_wraps(profile: str, first: int) -> None:
    far = FarEnd(profile)
    line = Line().open(srtp=far.keys)
    indices = [*range(first, first + 200_000, 20_000), first + 200_001]
    carry(line, *(far.packet(index % 65536, 1) for index in indices))
    assert drops(line) == (0, 0)
    old = far.packet((first + 200_002) % 65536, 1)
    carry(line, old)
    after = successor(line, far)
    carry(after, *(far.packet((first + number) % 65536, number % 90) for number in range(200_003, 200_030)))
    assert drops(after) == (0, 0)
    assert heard(after)[-20:] == [number % 90 for number in range(200_010, 200_030)]
    carry(after, old)
    assert drops(after) == (0, 1), "what the plane before has heard cannot be replayed"


def test_a_far_end_that_took_another_key_while_there_was_no_plane_is_heard() -> None:
    far, other = FarEnd(), FarEnd()
    line = Line().open(srtp=far.keys)
    carry(line, *(far.packet(index % 65536) for index in range(65_500, 65_550)))
    after = successor(line, other)
    carry(after, *(other.packet(number) for number in range(30, 50)))
    assert drops(after) == (0, 0)
    assert heard(after)[-20:] == list(range(30, 50))


def test_what_came_of_one_call_is_not_asked_of_the_next() -> None:
    far = FarEnd()
    line = Line().open(srtp=far.keys)
    carry(line, far.packet(65_535), far.packet(0), far.packet(1))
    another = FarEnd()
    line.open(generation=2, srtp=another.keys)
    carry(line, *(another.packet(number) for number in range(1, 10)))
    assert drops(line) == (0, 0)
