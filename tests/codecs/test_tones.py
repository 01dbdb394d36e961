"""Tones have the frequencies, levels and cadences of their plans."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.codecs import level, tones


def peaks_hz(pcm: NDArray[np.int16], rate_hz: int, count: int) -> list[float]:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), rate_hz))
    found = []
    for _ in range(count):
        top = int(spectrum.argmax())
        found.append(float(top))
        spectrum[max(0, top - 15) : top + 15] = 0
    return sorted(found)


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("digit", list("0123456789*#ABCD"))
def test_a_digit_is_its_two_frequencies(digit: str, rate_hz: int) -> None:
    pcm = tones.dtmf(digit, rate_hz, duration_ms=200, gap_ms=50)
    assert len(pcm) == rate_hz // 4
    assert not pcm[-rate_hz // 20 :].any()
    assert peaks_hz(pcm[: rate_hz // 5], rate_hz, 2) == pytest.approx(tones.dtmf_frequencies(digit), abs=2)


def test_the_level_of_a_tone_is_the_plans() -> None:
    pcm = tones.ringback(8000, "us")
    sounding = pcm[400:15600][None]
    assert level.dbov(sounding)[0] == pytest.approx(-19 + 3.01 + level.DBM0_TO_DBOV, abs=0.1)
    assert peaks_hz(sounding[0], 8000, 2) == [440, 480]


@pytest.mark.parametrize("plan", ["etsi", "us", "uk"])
def test_cadences_last_as_long_as_the_plan_says(plan: str) -> None:
    for tone, pcm in ((tones.RINGBACK[plan], tones.ringback(8000, plan)), (tones.BUSY[plan], tones.busy(8000, plan))):
        assert len(pcm) == round(8000 * sum(tone.cadence_s))
        on = round(8000 * tone.cadence_s[0])
        assert np.abs(pcm[on - 400 : on]).max() > 1000
        assert not pcm[on : on + 8].any()


def test_bursts_begin_and_end_softly() -> None:
    pcm = tones.busy(8000)
    assert np.abs(pcm[:4]).max() < 200
    assert np.abs(pcm[3996:4000]).max() < 200


def test_what_is_no_digit_is_refused_and_a_comma_pauses() -> None:
    with pytest.raises(ValueError, match="'x'"):
        tones.dtmf_frequencies("x")
    with pytest.raises(ValueError, match="'12'"):
        tones.dtmf_frequencies("12")
    assert len(tones.dtmf("1,2", 8000)) == 1600 + 8000 + 1600
