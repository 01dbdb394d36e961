from typing import Any

import numpy as np
import pytest

from sipagent.codecs import tones
from sipagent.rtp.control import Digit, DigitsSent, InjectDigit, MediaProblem, SendDigits
from tests.rtp.line import Line, rtp, talk


def event(code: int, duration: int, *, end: bool = False) -> bytes:
    return bytes([code, 0x8A if end else 0x0A]) + duration.to_bytes(2, "big")


def press(code: int, first: int, timestamp: int, *, packets: int = 5, at_ms: int = 0) -> list[tuple[int, bytes]]:
    """The packets of one digit: duration grows, the end comes three times."""
    sent = []
    for index in range(packets + 2):
        duration = min(index + 1, packets) * 160
        payload = event(code, duration, end=index >= packets - 1)
        sent.append((at_ms + 20 * index, rtp(first + index, timestamp, payload, payload_type=101, marker=index == 0)))
    return sent


def digits(line: Line) -> list[tuple[str, int, str]]:
    return [(digit.digit, digit.duration_ms, digit.by) for digit in line.events_of(Digit)]


@pytest.mark.rfc("4733", "2.5.1.4", "MUST", role="both", text="one event is one digit, however often its packets come")
def test_a_digit_is_reported_once_with_its_duration() -> None:
    line = Line().open()
    talk(line, press(5, 0, 1000))
    line.run_ms(300)
    assert digits(line) == [("5", 100, "rtp")]
    assert line.counter("dtmf_packets") == 7


@pytest.mark.rfc("4733", "2.5.2.5", "SHOULD", role="both", text="an event whose end or beginning was lost is heard")
def test_a_digit_survives_the_loss_of_any_packets_but_one() -> None:
    for kept in range(7):
        line = Line().open()
        talk(line, [press(11, 0, 1000)[kept]])
        line.run_ms(300)
        assert [digit for digit, _, _ in digits(line)] == ["#"]


def test_the_same_digit_twice_is_two_digits() -> None:
    line = Line().open()
    talk(line, press(1, 0, 1000) + press(1, 7, 3000, at_ms=250))
    assert [digit for digit, _, _ in digits(line)] == ["1", "1"]


@pytest.mark.rfc("4733", "2.5.2.5", "MUST", role="both", text="a new event ends the one before")
def test_a_digit_whose_ends_were_lost_ends_when_the_next_begins() -> None:
    line = Line().open()
    talk(line, press(1, 0, 1000)[:4] + press(2, 7, 3000, at_ms=90))
    assert [digit for digit, _, _ in digits(line)] == ["1", "2"]


def test_late_and_repeated_packets_of_an_event_do_not_press_again() -> None:
    line = Line().open()
    first = press(3, 0, 1000)
    talk(line, first + press(4, 7, 3000, at_ms=200) + [(400, first[2][1]), (420, first[6][1])])
    assert [digit for digit, _, _ in digits(line)] == ["3", "4"]


@pytest.mark.rfc(
    "4733", "2.5.2.3", "MUST", role="both", text="an event longer than its duration field goes on in segments"
)
def test_a_long_event_in_segments_is_one_digit() -> None:
    line = Line().open()
    packets = [(20 * n, rtp(n, 0, event(7, min(160 * (n + 1), 0xFFFF)), payload_type=101)) for n in range(410)]
    more = [
        (8200 + 20 * n, rtp(410 + n, 0xFFFF, event(7, 160 * (n + 1), end=n > 7), payload_type=101)) for n in range(10)
    ]
    talk(line, packets + more)
    assert digits(line) == [("7", (0xFFFF + 1440) // 8, "rtp")]


@pytest.mark.rfc("4733", "2.5.2.1", "MUST", role="both", text="events that we did not ask for are ignored")
def test_codes_that_are_no_digits_are_left_alone() -> None:
    line = Line().open()
    talk(line, [*press(32, 0, 1000), (300, rtp(9, 9, b"\x01", payload_type=101))])
    assert digits(line) == []


def test_a_long_event_in_segments_of_whole_packets_is_one_digit() -> None:
    line = Line().open()
    packets = [(20 * n, rtp(n, 0, event(7, 160 * (n + 1)), payload_type=101, marker=n == 0)) for n in range(409)]
    more = [
        (8180 + 20 * n, rtp(409 + n, 65440, event(7, 160 * min(n + 1, 8), end=n >= 7), payload_type=101))
        for n in range(10)
    ]
    talk(line, packets + more)
    assert digits(line) == [("7", 8340, "rtp")]


@pytest.mark.parametrize("first_moved", [1, 5])
def test_a_sender_that_moves_the_timestamp_with_each_packet_presses_once(first_moved: int) -> None:
    line = Line().open()
    for digit, at_ms in ((5, 0), (5, 200)):
        moved = [
            (at_ms + at, packet[:4] + (8 * at_ms + 160 * max(0, n + 1 - first_moved)).to_bytes(4, "big") + packet[8:])
            for n, (at, packet) in enumerate(press(digit, at_ms, 0))
        ]
        talk(line, [(at - at_ms, packet) for at, packet in moved], until_ms=200)
    assert digits(line) == [("5", 100, "rtp")] * 2


def test_stragglers_of_several_events_do_not_press_again() -> None:
    line = Line().open()
    first, second, third = (press(1, 7 * n, 1000 + 2000 * n, at_ms=250 * n) for n in range(3))
    talk(line, first + second + third + [(700, first[6][1]), (720, second[6][1]), (740, first[5][1])])
    assert [digit for digit, _, _ in digits(line)] == ["1", "1", "1"]


def test_digits_are_heard_after_the_senders_timestamps_went_back() -> None:
    line = Line().open()
    talk(line, press(5, 0, 3_000_000) + press(6, 7, 1000, at_ms=400) + press(7, 14, 9000, at_ms=800))
    assert [digit for digit, _, _ in digits(line)] == ["5", "6", "7"]


@pytest.mark.parametrize("came", range(1, 8))
@pytest.mark.parametrize(
    "stream", [{}, {"telephone_event": ((96, 8000),)}, {"receiving": False}], ids=["refresh", "type", "hold"]
)
def test_a_key_that_is_down_while_the_far_end_offers_anew_is_pressed_once(came: int, stream: dict[str, Any]) -> None:
    line = Line().open()
    packets = press(5, 0, 1000)
    talk(line, packets[:came])
    line.stream(**stream)
    payload_type = 96 if "telephone_event" in stream else 101
    rest = [packet[:1] + bytes([payload_type]) + packet[2:] for _, packet in packets[came:]]
    talk(line, [(20 * index, packet) for index, packet in enumerate(rest)], until_ms=400)
    assert [digit for digit, _, _ in digits(line)] == ["5"]


def test_events_take_numbers_but_no_time_and_speech_goes_on_behind_them() -> None:
    line = Line().open()
    speech = [(20 * n, rtp(n, 160 * n)) for n in range(5)]
    after = [(240 + 20 * n, rtp(12 + n, 1920 + 160 * n)) for n in range(5)]
    talk(line, speech + press(1, 5, 800, at_ms=100) + after)
    assert line.counter("lost") == line.counter("concealed_samples") == line.counter("dropped_late") == 0
    assert int(line.table.rx_head[0]) in range(2640, 2900)


def test_the_jitter_of_speech_is_not_that_of_events() -> None:
    line = Line().open()
    speech = [(20 * n, rtp(n, 160 * n)) for n in range(5)]
    talk(line, speech + press(1, 5, 800, at_ms=100))
    assert line.plane.receiver.delay.jitter_ms(np.array([0]))[0] < 1


def test_a_digit_by_rtp_and_by_info_is_one_digit() -> None:
    line = Line().open()
    talk(line, press(5, 0, 1000))
    line.run_ms(500)
    line.do(InjectDigit(0, 1, "5", 100))
    assert digits(line) == [("5", 100, "rtp")]
    line.run_ms(3000)
    line.do(InjectDigit(0, 1, "5", 100))
    assert digits(line) == [("5", 100, "rtp"), ("5", 100, "info")]


def test_two_presses_by_info_are_two_digits() -> None:
    line = Line().open()
    for _ in range(2):
        line.do(InjectDigit(0, 1, "9", 80))
        line.run_ms(200)
    assert digits(line) == [("9", 80, "info")] * 2


@pytest.mark.rfc(
    "4733", "2.5.1.4", "SHOULD", role="both", text="one timestamp, a growing duration, the end three times"
)
def test_digits_are_sent_as_events_with_one_timestamp_growing_duration_and_three_ends() -> None:
    line = Line().open()
    line.run_ms(100)
    line.do(SendDigits(0, 1, "4#", duration_ms=100, gap_ms=80))
    line.run_ms(600)
    events = [packet for packet in line.sent() if packet.payload_type == 101]
    assert len(events) == 14
    four, hash_key = events[:7], events[7:]
    assert {packet.timestamp for packet in four} == {four[0].timestamp}
    assert [int.from_bytes(packet.data[14:16], "big") for packet in four] == [160, 320, 480, 640, 800, 800, 800]
    assert [packet.data[13] >= 0x80 for packet in four] == [False] * 4 + [True] * 3
    assert [packet.marker for packet in four] == [True] + [False] * 6
    assert {packet.data[12] for packet in hash_key} == {11}
    assert hash_key[0].timestamp - four[0].timestamp >= 1440  # 100 ms of tone and 80 ms of gap
    assert line.events_of(DigitsSent) == [DigitsSent(0, 1, "4#")]
    assert (np.diff([packet.sequence for packet in line.sent()]) % 65536 == 1).all()
    assert set(np.diff([packet.at_ns for packet in line.sent()])) == {20_000_000}


@pytest.mark.rfc("4733", "2.2", "MUST", role="both", text="events and audio share one timestamp line and one sequence")
def test_audio_timestamps_run_on_behind_events() -> None:
    line = Line().open()
    line.run_ms(100)
    line.do(SendDigits(0, 1, "1"))
    line.run_ms(400)
    audio = [packet for packet in line.sent() if packet.payload_type == 0]
    first = audio[0]
    for packet in audio:
        assert packet.timestamp - first.timestamp == (packet.at_ns - first.at_ns) // 125_000


def test_what_is_sent_is_understood_by_the_receiver() -> None:
    line = Line(rows=2).open(0).open(1)
    line.do(SendDigits(0, 1, "0123456789*#ABCD", duration_ms=80, gap_ms=60))
    for _ in range(900):
        count = len(line.sent(0))
        line.tick()
        line.arrive(*[packet.data for packet in line.sent(0)[count:]], row=1)
    assert "".join(digit.digit for digit in line.events_of(Digit)) == "0123456789*#ABCD"


def test_tones_are_sent_where_no_events_were_negotiated() -> None:
    line = Line().open(telephone_event=())
    line.do(SendDigits(0, 1, "5", duration_ms=100, gap_ms=50))
    line.run_ms(300)
    heard = np.concatenate([packet.pcm for packet in line.sent()])
    expected = tones.dtmf("5", 8000, 100, 50)
    start = int(np.flatnonzero(np.abs(heard) > 8)[0])
    assert np.corrcoef(heard[start : start + 700], expected[1:701])[0, 1] > 0.9
    assert line.events_of(DigitsSent) == [DigitsSent(0, 1, "5")]


def test_what_is_no_digit_is_refused() -> None:
    line = Line().open()
    line.do(SendDigits(0, 1, "12x"))
    line.run_ms(100)
    assert line.events_of(MediaProblem)[0].row == 0
    assert all(packet.payload_type == 0 for packet in line.sent())
