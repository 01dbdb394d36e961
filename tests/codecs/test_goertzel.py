"""The in-band DTMF detector against the limits of Bellcore GR-506 and ITU-T Q.24, and against speech."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sipagent.codecs import tones
from sipagent.codecs.goertzel import DigitHeard, DtmfDetector
from sipagent.codecs.resample import resample

DIGITS = "0123456789*#ABCD"
RECORDINGS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")


def listen(pcm: NDArray[np.int16], packet: int = 160, rate_hz: int = 8000) -> list[DigitHeard]:
    """All rows of pcm through one detector; offsets count from the first sample."""
    detector = DtmfDetector(len(pcm), rate_hz)
    rows = np.arange(len(pcm))
    heard = []
    for at in range(0, pcm.shape[1], packet):
        for digit in detector.detect(rows, pcm[:, at : at + packet]):
            heard.append(digit._replace(begin=digit.begin + at, end=digit.end + at))
    return heard


def grid(
    duration_ms: float = 50,
    low_offset: float = 0,
    high_offset: float = 0,
    low_dbm0: float = -8,
    high_dbm0: float = -6,
    snr_db: float | None = None,
    silent_ms: tuple[float, float] | None = None,
) -> NDArray[np.int16]:
    """Every digit four times, one per row, each at another place against the windows; i2[64, 4000]."""
    random = np.random.default_rng(11)
    rows = np.zeros((4 * len(DIGITS), 4000), np.int16)
    for number, row in enumerate(rows):
        low_hz, high_hz = tones.dtmf_frequencies(DIGITS[number % 16])
        components = [(low_hz * (1 + low_offset), low_dbm0), (high_hz * (1 + high_offset), high_dbm0)]
        tone = tones.burst(components, round(duration_ms * 8), 8000)
        if snr_db is not None:
            power = np.mean(tone.astype(float) ** 2) / 10 ** (snr_db / 10)
            tone = np.clip(np.rint(tone + random.normal(0, np.sqrt(power), len(tone))), -32768, 32767).astype(np.int16)
        if silent_ms is not None:
            tone[round(silent_ms[0] * 8) : round(silent_ms[1] * 8)] = 0
        start = random.integers(300, 900)
        row[start : start + len(tone)] = tone
    return rows


def share_heard(pcm: NDArray[np.int16]) -> float:
    """Share of the rows in which exactly the right digit was heard once; a wrong or second digit fails the test."""
    heard: dict[int, str] = {}
    for digit in listen(pcm):
        heard[digit.row] = heard.get(digit.row, "") + digit.digit
    assert all(digits == DIGITS[row % 16] for row, digits in heard.items())
    return len(heard) / len(pcm)


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("packet", [80, 160, 240, 480, 37])
def test_a_number_dialled_at_the_fastest_rate_is_heard_in_any_packet_size(packet: int, rate_hz: int) -> None:
    dialled = tones.dtmf(DIGITS, rate_hz, duration_ms=40, gap_ms=40)
    pcm = np.concatenate([dialled, np.zeros(rate_hz // 10, np.int16)])[None]
    heard = listen(pcm, packet, rate_hz)
    assert "".join(digit.digit for digit in heard) == DIGITS
    for number, digit in enumerate(heard):
        begin = number * 80 * rate_hz // 1000
        assert digit.begin == pytest.approx(begin, abs=rate_hz // 100)
        assert digit.end == pytest.approx(begin + 40 * rate_hz // 1000, abs=rate_hz // 100)


def test_the_same_digit_twice_is_two_digits_and_a_long_one_is_one() -> None:
    pcm = np.concatenate([tones.dtmf("77", 8000, 50, 40), tones.dtmf("7", 8000, 3000, 100)])[None]
    heard = listen(pcm)
    assert [digit.digit for digit in heard] == ["7", "7", "7"]
    assert heard[2].end - heard[2].begin == pytest.approx(24000, abs=100)


def test_a_whole_call_at_once_holds_the_digits_that_its_packets_hold() -> None:
    pcm = np.concatenate([tones.dtmf("12", 8000, 60, 60), np.zeros(4000, np.int16), tones.dtmf("3", 8000, 60, 900)])
    heard = DtmfDetector(1, 8000).detect(np.array([0]), pcm[None])
    assert "".join(each.digit for each in heard) == "123"


@pytest.mark.parametrize(("duration_ms", "share"), [(100, 1), (50, 1), (40, 1), (23, 0), (15, 0)])
def test_tones_of_40_ms_are_digits_and_those_of_23_ms_are_not(duration_ms: float, share: float) -> None:
    assert share_heard(grid(duration_ms)) == share


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (0, -1)])
def test_frequencies_within_1_5_percent_are_digits_and_beyond_3_5_are_not(low: int, high: int) -> None:
    assert share_heard(grid(40, low_offset=0.015 * low, high_offset=0.015 * high)) == 1
    assert share_heard(grid(100, low_offset=0.035 * low, high_offset=0.035 * high)) == 0


@pytest.mark.parametrize(("twist_db", "share"), [(4, 1), (-8, 1), (9, 0), (-13, 0)])
def test_twist_of_4_db_forward_and_8_db_reverse_is_accepted(twist_db: float, share: float) -> None:
    assert share_heard(grid(low_dbm0=-12, high_dbm0=-12 + twist_db)) == share


@pytest.mark.parametrize(("level_dbm0", "share"), [(-3, 1), (-25, 1), (-45, 0), (-55, 0)])
def test_levels_down_to_minus_25_dbm0_are_digits_and_those_of_minus_55_are_not(level_dbm0: float, share: float) -> None:
    assert share_heard(grid(low_dbm0=level_dbm0, high_dbm0=level_dbm0)) == share


def test_noise_15_db_below_the_digit_does_not_hide_it() -> None:
    assert share_heard(grid(snr_db=15)) == 1


def test_an_interruption_of_10_ms_does_not_make_two_digits() -> None:
    assert share_heard(grid(100, silent_ms=(45, 55))) == 1


def test_one_tone_alone_or_two_of_one_group_is_no_digit() -> None:
    single = tones.burst([(770, -6)], 1600, 8000)
    pair = tones.burst([(770, -6), (941, -6)], 1600, 8000)
    dial = tones.burst([(440, -12), (480, -12)], 1600, 8000)
    assert listen(np.stack([single, pair, dial])) == []


def test_a_tone_with_a_second_harmonic_is_a_voice_and_no_digit() -> None:
    voice = tones.burst([(697, -8), (1209, -8), (2418, -14), (1394, -14)], 1600, 8000)
    assert listen(voice[None]) == []


def test_rows_are_heard_each_for_itself_and_forgotten_on_reset() -> None:
    detector = DtmfDetector(3)
    five = tones.dtmf("5", 8000, 60, 60)[None, :480]
    detector.detect(np.array([2]), five)
    detector.detect(np.array([1]), five)
    detector.reset(np.array([1]))
    heard = detector.detect(np.array([2, 1, 0]), np.zeros((3, 480), np.int16))
    assert [(digit.row, digit.digit) for digit in heard] == [(2, "5")]
    assert heard[0].begin == pytest.approx(-480, abs=80)
    assert heard[0].end == pytest.approx(0, abs=80)


def speech(speed: float = 1.0) -> NDArray[np.int16]:
    """All packaged recordings, as 32 rows; `speed` shifts pitch and formants alike, which makes other voices."""
    paths = [path for path in sorted(RECORDINGS.rglob("*.wav")) if path.stem != "tt-monkeys"]  # which is what it says
    clips = [soundfile.read(path, dtype="int16")[0] for path in paths]
    pcm = resample(np.concatenate(clips), round(8000 * speed), 8000)
    return pcm[: len(pcm) // 32 * 32].reshape(32, -1)


needs_speech = pytest.mark.skipif(not RECORDINGS.exists(), reason="asterisk-core-sounds-en-wav is not installed")


@needs_speech
def test_minutes_of_speech_hold_no_digit() -> None:
    assert listen(speech()[:, :80000], packet=800) == []  # 5 minutes


@needs_speech
@pytest.mark.long
@pytest.mark.parametrize("speed", [0.7, 0.8, 0.9, 1.0, 1.1, 1.25])
def test_hours_of_speech_hold_no_digit(speed: float) -> None:
    assert listen(speech(speed)) == []
