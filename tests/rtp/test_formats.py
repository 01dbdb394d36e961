import numpy as np
import pytest

from sipagent.codecs import g711, tones
from sipagent.codecs.g722 import G722Rows
from sipagent.rtp.control import Codec, Digit, InjectDigit, MediaProblem
from tests.rtp.line import PCMU, Line, rtp, talk
from tests.rtp.test_send import speak

G722 = Codec(9, "G722", 8000, 16000)
OPUS = Codec(111, "opus", 48000, 48000)


def sine(hz: float, rate_hz: int, seconds: float) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(np.int16)


def loudest_hz(pcm: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum) * rate_hz / len(pcm))


def g722_packets(hz: float, count: int) -> list[tuple[int, bytes]]:
    octets = G722Rows().encode(np.array([0]), sine(hz, 16000, 0.02 * count)[None])[0].tobytes()
    return [(20 * n, rtp(n, 160 * n, octets[160 * n : 160 * n + 160], payload_type=9)) for n in range(count)]


def test_g722_is_heard_at_16_khz_while_its_timestamps_count_8000() -> None:
    line = Line().open(rate_hz=16000, send=G722, receive=(G722, PCMU))
    talk(line, g722_packets(5000, 50))
    assert loudest_hz(line.heard()[-8000:], 16000) == np.float64(5000)
    assert line.counter("lost") == line.counter("concealed_samples") == 0
    assert 50 * 320 <= line.table.rx_head[0] <= 50 * 320 + 1920


@pytest.mark.rfc("3551", "4.5.2", "MUST", role="both", text="G.722 counts timestamps at 8000 Hz")
def test_g722_is_sent_with_timestamps_that_count_8000() -> None:
    line = Line().open(rate_hz=16000, send=G722, receive=(G722,))
    speak(line, sine(5000, 16000, 1.0))
    line.run_ms(900)
    sent = line.sent()
    assert {packet.payload_type for packet in sent} == {9}
    assert set(np.diff([packet.timestamp for packet in sent]) % 2**32) == {160}
    octets = np.concatenate([np.frombuffer(packet.data[12:], np.uint8) for packet in sent])
    heard = G722Rows().decode(np.array([0]), octets[None])[0]
    assert loudest_hz(heard[-8000:], 16000) == np.float64(5000)
    assert line.table.tx_clock[0] == 45 * 320


def test_a_wide_row_whose_far_end_speaks_g711_is_converted_both_ways() -> None:
    line = Line().open(rate_hz=16000)
    ulaw = np.frombuffer(b"".join(_ulaw(sine(1000, 8000, 1.0))), np.uint8).tobytes()
    talk(line, [(20 * n, rtp(n, 160 * n, ulaw[160 * n : 160 * n + 160])) for n in range(50)])
    assert loudest_hz(line.heard()[-8000:], 16000) == np.float64(1000)
    speak(line, sine(1000, 16000, 1.0))
    count = len(line.sent())
    line.run_ms(800)
    sent = np.concatenate([packet.pcm for packet in line.sent()[count + 2 :]])
    assert abs(loudest_hz(sent[-4000:], 8000) - 1000) <= 2


def test_a_narrow_row_may_speak_g722() -> None:
    line = Line().open(rate_hz=8000, send=G722, receive=(G722,))
    talk(line, g722_packets(1000, 50))
    assert loudest_hz(line.heard()[-4000:], 8000) == np.float64(1000)


def test_narrow_and_wide_rows_live_side_by_side() -> None:
    line = Line(rows=2).open(0).open(1, rate_hz=16000)
    for number in range(20):
        line.arrive(rtp(number, 160 * number), row=0)
        line.arrive(rtp(number, 160 * number), row=1)
        line.tick(4)
    assert line.table.rx_head[1] == 2 * line.table.rx_head[0] > 6000
    assert line.table.tx_clock[1] == 2 * line.table.tx_clock[0]


def test_a_codec_that_we_do_not_have_is_told_and_not_sent() -> None:
    line = Line().open(send=OPUS, receive=(OPUS,))
    line.run_ms(100)
    assert "opus" in line.events_of(MediaProblem)[0].problem
    assert line.sent() == []


def _tones(digits: str) -> list[tuple[int, bytes]]:
    pcm = np.concatenate([np.zeros(800, np.int16), tones.dtmf(digits, 8000, 80, 80), np.zeros(1600, np.int16)])
    octets = b"".join(_ulaw(pcm))
    return [(20 * n, rtp(n, 160 * n, octets[160 * n : 160 * n + 160])) for n in range(len(pcm) // 160)]


def _ulaw(pcm: np.ndarray) -> list[bytes]:
    return [g711.ulaw_encode(pcm).tobytes()]


def test_digits_are_heard_as_tones_where_no_events_were_negotiated() -> None:
    line = Line().open(telephone_event=())
    talk(line, _tones("159#"))
    told = line.events_of(Digit)
    assert "".join(digit.digit for digit in told) == "159#"
    assert {digit.by for digit in told} == {"inband"}
    assert all(50 <= digit.duration_ms <= 110 for digit in told)
    assert [round((digit.position - told[0].position) / 1280) for digit in told] == [0, 1, 2, 3]


def test_tones_are_not_listened_for_where_events_were_negotiated_or_the_option_is_off() -> None:
    for line in (Line().open(), Line(inband_dtmf=False).open(telephone_event=())):
        talk(line, _tones("159#"))
        assert line.events_of(Digit) == []


def test_a_digit_as_tone_and_by_info_is_one_digit() -> None:
    line = Line().open(telephone_event=())
    talk(line, _tones("1"))
    line.do(InjectDigit(0, 1, "1", 80))
    assert [digit.by for digit in line.events_of(Digit)] == ["inband"]
