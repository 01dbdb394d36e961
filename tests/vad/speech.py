"""Sound for the ears: real recordings where they are installed, tones and noise where not."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
RATE_HZ = 8000

needs_recordings = pytest.mark.skipif(
    not SOUNDS.is_dir(), reason="no recordings: Debian package asterisk-core-sounds-en-wav is not installed"
)


@cache
def recordings(count: int, shortest_s: float = 1.5) -> tuple[NDArray[np.int16], ...]:
    """The first `count` recordings of at least `shortest_s` with something to hear, by name; 8 kHz i2."""

    def all_of_them() -> Iterator[NDArray[np.int16]]:
        for path in sorted(SOUNDS.rglob("*.wav")):
            pcm, rate_hz = soundfile.read(path, dtype="int16")
            if rate_hz == RATE_HZ and len(pcm) >= shortest_s * RATE_HZ and np.abs(pcm.astype(np.int32)).max() > 3000:
                yield pcm

    found = all_of_them()
    return tuple(next(found) for _ in range(count))


def talk(seconds: float, seed: int) -> NDArray[np.int16]:
    """Recordings, chosen by `seed`, one after the other."""
    choice = np.random.default_rng(seed)
    every = recordings(200)
    chosen: list[NDArray[np.int16]] = []
    while sum(map(len, chosen)) < seconds * RATE_HZ:
        chosen.append(every[choice.integers(len(every))])
    return np.concatenate(chosen)[: int(seconds * RATE_HZ)]


def first_sound(pcm: NDArray[np.int16], peak: int = 700) -> int:
    """Index of the first sample that is louder than `peak`."""
    return int(np.argmax(np.abs(pcm.astype(np.int32)) > peak))


def silence(seconds: float) -> NDArray[np.int16]:
    return np.zeros(int(seconds * RATE_HZ), np.int16)


def noise(seconds: float, level_dbov: float, seed: int = 1) -> NDArray[np.int16]:
    rms = 32768 * 10 ** (level_dbov / 20)
    return np.random.default_rng(seed).normal(0, rms, int(seconds * RATE_HZ)).clip(-32768, 32767).astype(np.int16)


def music(seconds: float, seed: int = 1) -> NDArray[np.int16]:
    """Chords of decaying partials with a beat: not speech, and what deafens a network that is never reset."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE_HZ))
    note = RATE_HZ // 3
    time_s = np.arange(note) / RATE_HZ
    for start in range(0, len(out) - note, note):
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        for interval in (0, 4, 7, 12):
            for partial in range(1, 6):
                frequency_hz = root * 2 ** (interval / 12) * partial
                if frequency_hz < RATE_HZ / 2:
                    tone = np.sin(2 * np.pi * frequency_hz * time_s + rng.uniform(0, 6.28))
                    out[start : start + note] += tone * np.exp(-time_s * 4) / partial
    return (out / np.abs(out).max() * 12000).astype(np.int16)


def tones(seconds: float) -> NDArray[np.int16]:
    """Ringback: 440 + 480 Hz, 2 s on, 4 s off."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    on = (time_s % 6) < 2
    return ((np.sin(2 * np.pi * 440 * time_s) + np.sin(2 * np.pi * 480 * time_s)) * on * 5000).astype(np.int16)
