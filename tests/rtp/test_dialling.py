"""Digits that we send, while the line changes under them."""

from typing import Any

import numpy as np
import pytest

from sipagent.codecs.goertzel import DtmfDetector
from sipagent.rtp.control import Digit, DigitsSent, Event, Play, PlayEnded, SendDigits, StopPlay
from tests.rtp.line import Line, Sent
from tests.rtp.test_send import speak

NO_EVENTS: Any = {"telephone_event": ()}


def events(line: Line) -> list[Sent]:
    return [packet for packet in line.sent() if packet.payload_type in (96, 101)]


def tones(line: Line) -> str:
    """The digits that are heard in what was sent."""
    pcm = np.concatenate([packet.pcm for packet in line.sent() if packet.payload_type == 0])
    return "".join(heard.digit for heard in DtmfDetector(1).detect(np.array([0]), pcm[None]))


def understood(line: Line) -> str:
    """What a far end that is told of our packets takes them for, by events and by tones."""
    other = Line().open(telephone_event=((96, 8000), (101, 8000)))
    for packet in line.sent():
        other.arrive(packet.data)
        other.tick(4)
    other.run_ms(300)
    return "".join(digit.digit for digit in other.events_of(Digit))


def dialling(digits: str, after_ms: int = 60, **stream: Any) -> Line:
    line = Line().open(**stream)
    line.run_ms(100)
    line.do(SendDigits(0, 1, digits, duration_ms=100, gap_ms=80))
    line.run_ms(after_ms)
    return line


def done(*digits: str) -> list[Event]:
    return [DigitsSent(0, 1, each) for each in digits]


def test_when_the_far_end_takes_no_events_any_more_the_other_digits_are_sounded() -> None:
    line = dialling("123")
    line.do(SendDigits(0, 1, "#!"))
    line.do(SendDigits(0, 1, "4,5"))
    line.stream(**NO_EVENTS)
    line.run_ms(3000)
    assert {packet.data[12] for packet in events(line)} == {1}
    assert tones(line) == "2345"
    assert line.events_of(DigitsSent) == done("123", "4,5")


@pytest.mark.parametrize("after_ms", range(20, 200, 20))
@pytest.mark.parametrize("stream", [{"ptime_ms": 40}, {"ptime_ms": 10}, {"telephone_event": ((96, 8000),)}])
def test_a_packet_time_or_payload_type_that_changes_under_a_digit_does_not_change_it(
    after_ms: int, stream: dict[str, Any]
) -> None:
    line = dialling("12", after_ms)
    line.stream(**stream)
    line.run_ms(700)
    assert len({(packet.timestamp, packet.data[12]) for packet in events(line)}) == 2
    assert understood(line) == "12"
    for code in (1, 2):
        ends = [packet for packet in events(line) if packet.data[12] == code and packet.data[13] & 0x80]
        assert len(ends) == 3
        assert 800 <= int.from_bytes(ends[0].data[14:16], "big") <= 1280
    assert line.events_of(DigitsSent) == done("12")


@pytest.mark.parametrize("after_ms", range(20, 200, 20))
def test_a_hold_in_the_middle_of_an_event_does_not_make_two_presses_of_it(after_ms: int) -> None:
    line = dialling("12", after_ms)
    line.stream(sending=False)
    line.run_ms(100)
    count = len(line.sent())
    line.run_ms(1000)
    assert len([packet for packet in line.sent()[count:] if packet.payload_type in (0, 101)]) == 0
    begun = {packet.data[12] for packet in events(line)}
    assert all(sum(each.data[12] == code and each.data[13] >= 0x80 for each in events(line)) == 3 for code in begun)
    line.stream()
    line.run_ms(700)
    assert understood(line) == "12"
    assert line.events_of(DigitsSent) == done("12")


def test_tones_wait_while_the_row_is_on_hold() -> None:
    line = dialling("12", 60, **NO_EVENTS)
    line.stream(sending=False, **NO_EVENTS)
    line.run_ms(1000)
    assert not line.events_of(DigitsSent)
    line.stream(**NO_EVENTS)
    line.run_ms(700)
    assert tones(line) == "12"
    assert line.events_of(DigitsSent) == done("12")


def test_tones_that_are_asked_for_while_others_sound_come_behind_them() -> None:
    line = dialling("12", 150, **NO_EVENTS)
    line.do(SendDigits(0, 1, "34"))
    line.run_ms(1500)
    assert tones(line) == "1234"
    assert line.events_of(DigitsSent) == done("12", "34")


def test_a_prompt_waits_for_tones_and_does_not_end_with_them() -> None:
    line = Line().open(**NO_EVENTS)
    line.do(Play(0, 1, "tone:ringback", loop=True))
    line.plane._playback._loading[0][1].result()
    line.run_ms(200)
    line.do(SendDigits(0, 1, "12"))
    line.run_ms(100)
    line.do(Play(0, 1, "tone:busy", loop=True))
    line.run_ms(100)
    line.do(StopPlay(0, 1))
    line.run_ms(600)
    assert tones(line) == "12"
    assert line.events_of(PlayEnded)[0] == PlayEnded(0, 1, "tone:ringback")


@pytest.mark.parametrize("stream", [{}, NO_EVENTS], ids=["events", "tones"])
def test_speech_waits_for_digits_and_nothing_of_it_is_lost(stream: dict[str, Any]) -> None:
    line = Line().open(**stream)
    line.run_ms(100)
    speech = (8000 * np.sin(np.arange(8000) * 0.3)).astype(np.int16)
    speak(line, speech)
    line.run_ms(200)
    line.do(SendDigits(0, 1, "123"))
    line.run_ms(100)
    waits = int(line.table.tx_read[0])
    line.run_ms(400)
    assert int(line.table.tx_read[0]) == waits
    line.run_ms(1500)
    assert int(line.table.tx_read[0]) == len(speech)
    assert (tones(line) if stream else understood(line)) == "123"


@pytest.mark.parametrize("stream", [{}, NO_EVENTS], ids=["events", "tones"])
def test_pauses_stand_between_digits(stream: dict[str, Any]) -> None:
    line = dialling("1w2,a", 3000, **stream)
    assert (tones(line) if stream else understood(line)) == "12A"
    if not stream:
        starts = [packet.at_ns // 1_000_000 for packet in events(line) if packet.marker]
        assert np.diff(starts).tolist() == [180 + 500, 180 + 1000]
