"""Reading, speaking and finding audio in recordings."""

import wave
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sipagent.pipeline.services.hibari import HibariVoice

Pcm = NDArray[np.float64]


async def spoken(text: str, rate_hz: int = 8000) -> Pcm:
    """`text` in the packaged voice, as the agent speaks it: scale ±1, silence cut off, the same every time."""
    voice = HibariVoice()
    pieces = [soxr.resample(piece.pcm, piece.rate_hz, rate_hz) async for piece in voice.synthesize(text)]
    voice.close()
    pcm = np.concatenate(pieces).astype(np.float64) / 32768
    loud = np.flatnonzero(np.abs(pcm) > 0.005)
    return pcm[loud[0] : loud[-1] + 1]


def write(path: Path, *pieces: Pcm, rate_hz: int = 8000) -> Path:
    """Write mono 16-bit WAV."""
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(rate_hz)
        clip.writeframes((np.concatenate(pieces) * 32767).astype("<i2").tobytes())
    return path


def read(path: Path) -> tuple[Pcm, int]:
    """Samples of the first channel at ±1, and the rate."""
    samples, rate_hz = soundfile.read(path, dtype="float64", always_2d=True)
    return samples[:, 0], rate_hz


def silence(seconds: float, rate_hz: int = 8000) -> Pcm:
    """Nothing."""
    return np.zeros(int(seconds * rate_hz))


def best_match(needle: Pcm, haystack: Pcm) -> tuple[float, int]:
    """Largest normalised correlation of `needle` within `haystack`, and the sample at which it begins."""
    size = 1 << (len(needle) + len(haystack) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(haystack, size) * np.conj(np.fft.rfft(needle, size)), size)
    products = product[: len(haystack) - len(needle) + 1]
    power = np.concatenate([[0.0], np.cumsum(haystack**2)])
    energies = power[len(needle) :] - power[: -len(needle)]
    scores = products / np.sqrt(np.maximum(energies, 1e-9) * np.sum(needle**2))
    place = int(np.argmax(scores))
    return float(scores[place]), place
