"""Levels in dBov and clipping counts."""

import numpy as np
import pytest

from sipagent.codecs import level


def test_levels_are_those_of_rfc_6464() -> None:
    time = np.arange(800) / 8000
    pcm = np.stack(
        [
            np.where(time * 1000 % 2 < 1, 32767, -32767),
            np.rint(32767 * np.sin(2 * np.pi * 500 * time)),
            np.rint(327.67 * np.sin(2 * np.pi * 500 * time)),
            np.zeros(800),
        ]
    ).astype(np.int16)
    assert level.dbov(pcm).tolist() == pytest.approx([0.0, -3.01, -43.01, -127.0], abs=0.01)


def test_the_loudest_negative_sample_neither_wraps_nor_goes_uncounted() -> None:
    pcm = np.array([[-32768, 0, 32767, 32124], [100, -100, 32000, -32000]], np.int16)
    assert level.clipped(pcm).tolist() == [3, 0]
    assert level.mean_square(pcm)[0] > 0


def test_a_level_becomes_an_amplitude_and_a_level_again() -> None:
    wanted = np.array([-70, -30, -6], np.float32)
    power = level.root_mean_square(wanted) ** 2
    assert level.from_mean_square(power).tolist() == pytest.approx(wanted.tolist(), abs=1e-3)


def test_no_samples_are_silence() -> None:
    assert level.dbov(np.zeros((2, 0), np.int16)).tolist() == [-127.0, -127.0]
