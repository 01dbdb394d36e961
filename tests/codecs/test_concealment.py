"""Concealment: continuity, fading, recovery, and that rows do not mix. Its quality is measured in bench.quality."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.codecs import level
from sipagent.codecs.concealment import Concealment

PACKET = 160


def voice(samples: int, pitch_hz: float = 125.0, rate_hz: int = 8000, amplitude: float = 6000) -> NDArray[np.int16]:
    """A buzz with eight falling harmonics: periodic as a vowel is."""
    time = np.arange(samples) / rate_hz
    total = sum(np.sin(2 * np.pi * pitch_hz * k * time + k) / k for k in range(1, 9))
    return np.rint(amplitude * np.asarray(total)).astype(np.int16)


def started(pcm: NDArray[np.int16], rate_hz: int = 8000, packet: int = PACKET) -> Concealment:
    state = Concealment(len(pcm), rate_hz)
    for at in range(0, pcm.shape[1], packet):
        state.remember(np.arange(len(pcm)), pcm[:, at : at + packet])
    return state


def error_db(out: NDArray[np.int16], truth: NDArray[np.int16]) -> float:
    wide = truth.astype(float)
    return float(10 * np.log10(np.mean((out - wide) ** 2) / np.mean(wide**2)))


@pytest.mark.parametrize(("rate_hz", "samples"), [(8000, 80), (8000, 160), (8000, 240), (8000, 480), (16000, 320)])
def test_a_vowel_goes_on_across_a_gap_that_is_bridged_from_both_sides(rate_hz: int, samples: int) -> None:
    whole = voice(rate_hz, rate_hz=rate_hz)[None]
    at = rate_hz // 2
    state = started(whole[:, :at], rate_hz, rate_hz // 50)
    out = state.conceal(np.array([0]), samples, whole[:, at + samples : at + samples + rate_hz // 50])
    assert out.shape == (1, samples)
    assert error_db(out, whole[:, at : at + samples]) < -12


def test_a_vowel_goes_on_into_the_gap_when_nothing_has_followed_yet() -> None:
    whole = voice(8000)[None]
    out = started(whole[:, :4000]).conceal(np.array([0]), 80)
    assert error_db(out[:, :40], whole[:, 4000:4040]) < -15
    assert abs(int(out[0, 0]) - int(whole[0, 4000])) < 1500  # no click where the line broke off


def test_a_long_erasure_fades_to_the_noise_floor_and_not_to_digital_silence() -> None:
    random = np.random.default_rng(1)
    background = random.normal(0, 30, (1, 16000))
    whole = np.rint(background + np.where(np.arange(16000) < 8000, 0, voice(16000)) * 1.0).astype(np.int16)
    state = started(whole)
    parts = [state.conceal(np.array([0]), PACKET) for _ in range(20)]
    levels = [float(level.dbov(part)[0]) for part in parts]
    assert levels[0] > levels[1] > levels[2]
    floor = 20 * np.log10(30 / 32768)
    assert levels[5:] == pytest.approx([floor] * 15, abs=2.5)
    assert state.noise_floor_dbov(np.array([0]))[0] == pytest.approx(floor, abs=2.5)


def test_the_first_good_frame_is_faded_in_and_the_second_is_left_alone() -> None:
    whole = voice(8000)[None]
    state = started(whole[:, :4000])
    row = np.array([0])
    last = state.conceal(row, PACKET)
    quiet = np.full((1, PACKET), -3000, np.int16)
    first = state.remember(row, quiet)
    assert abs(int(first[0, 0]) - int(last[0, -1])) < 1500
    np.testing.assert_array_equal(first[0, 40:], quiet[0, 40:])
    np.testing.assert_array_equal(state.remember(row, quiet), quiet)
    assert (quiet == -3000).all()  # the caller's array is not touched


def test_good_audio_that_a_gap_was_bridged_to_is_left_alone() -> None:
    whole = voice(8000)[None]
    state = started(whole[:, :4000])
    after = whole[:, 4160:4320]
    out = state.conceal(np.array([0]), PACKET, after)
    np.testing.assert_array_equal(state.remember(np.array([0]), after), after)
    assert abs(int(out[0, -1]) - int(after[0, 0])) < 1500


def test_on_a_clean_line_nothing_is_changed() -> None:
    whole = voice(8000)[None]
    state = Concealment(1, 8000)
    for at in range(0, 8000, PACKET):
        packet = whole[:, at : at + PACKET]
        assert state.remember(np.array([0]), packet) is packet


def test_rows_concealed_together_are_as_if_alone() -> None:
    rows = np.stack([voice(4000, 100), voice(4000, 180), voice(4000, 240), np.zeros(4000, np.int16)])
    together = started(rows)
    alone = [started(rows[row : row + 1]) for row in range(4)]
    places = np.array([2, 0, 3])
    out = together.conceal(places, PACKET)
    noise = 500  # comfort noise differs, by up to that much
    for place, row in enumerate(places):
        np.testing.assert_allclose(out[place], alone[row].conceal(np.array([0]), PACKET)[0], atol=noise)
    # A row that is already in an erasure goes on while another begins.
    second = together.conceal(np.array([0, 1]), PACKET)
    np.testing.assert_allclose(second[0], alone[0].conceal(np.array([0]), PACKET)[0], atol=noise)
    np.testing.assert_allclose(second[1], alone[1].conceal(np.array([0]), PACKET)[0], atol=noise)


def test_a_row_with_no_history_and_a_reset_row_conceal_with_silence() -> None:
    state = started(np.stack([voice(4000), voice(4000)]))
    state.reset(np.array([1]))
    out = state.conceal(np.array([0, 1]), PACKET)
    assert out[0].any()
    assert not out[1].any()
    assert not Concealment(1, 16000).conceal(np.array([0]), 320).any()


def test_full_scale_noise_stays_within_sixteen_bits() -> None:
    random = np.random.default_rng(2)
    loud = np.where(random.random((1, 4000)) < 0.5, -32768, 32767).astype(np.int16)
    state = started(loud)
    for following in (None, loud[:, :160], loud[:, :20]):
        out = state.conceal(np.array([0]), PACKET, following)
        assert out.dtype == np.int16
        assert out.shape == (1, PACKET)
