"""What the demo's caller says and does, and the files that it needs for that."""

import wave
from pathlib import Path
from typing import Any, Final

import numpy as np
import soxr
from numpy.typing import NDArray

from sipagent.pipeline.services.hibari import HibariVoice

RATE_HZ: Final = 8000
LOWER: Final = 0.84  # pitch and formants of the packaged voice, lowered: another speaker
PADDING_S: Final = 0.5  # silence behind each clip, so that the player never meets the end of its file
ROOM_S: Final = 180  # longer than any call of the demo
FASTER: Final = 1.15  # and as fast as before

# Each step waits until the agent has spoken and is silent again; `interrupt` and `hangup` come while it speaks.
STEPS: Final[tuple[dict[str, str], ...]] = (
    {"do": "say", "text": "Hello, my name is Peter Miller."},
    {"do": "say", "text": "When are you open?"},
    {"do": "interrupt", "text": "I would like to come on Tuesday, please."},
    {"do": "say", "text": "At ten o'clock in the morning."},
    {"do": "press", "digits": "1"},
)
CALLBACK_STEPS: Final[tuple[dict[str, str], ...]] = (
    {"do": "say", "text": "Yes, I will be there."},
    {"do": "hangup"},
)


async def prepare(steps: tuple[dict[str, str], ...], folder: Path, name: str) -> list[dict[str, Any]]:
    """The steps with a `wav` for everything that is spoken, 8 kHz mono 16 bit."""
    voice = HibariVoice(speed=FASTER)
    prepared: list[dict[str, Any]] = []
    for number, step in enumerate(steps):
        step = dict(step)
        if "text" in step:
            pieces = [piece async for piece in voice.synthesize(step["text"])]
            path = folder / f"{name}-{number}.wav"
            padding = np.zeros(int(PADDING_S * RATE_HZ), np.int16)
            write_wav(path, np.concatenate([*(_lower(piece.pcm, piece.rate_hz) for piece in pieces), padding]))
            step["wav"] = str(path)
        prepared.append(step)
    voice.close()
    return prepared


def _lower(pcm: NDArray[np.int16], rate_hz: int) -> NDArray[np.int16]:
    lowered: NDArray[np.int16] = soxr.resample(pcm, rate_hz * LOWER, RATE_HZ)
    return lowered


def room_noise() -> NDArray[np.int16]:
    """A quiet room, about -66 dBov."""
    return np.random.default_rng(1).normal(0.0, 16.0, ROOM_S * RATE_HZ).astype(np.int16)


def write_wav(path: Path, pcm: NDArray[np.int16]) -> None:
    """Write mono samples, shape (n,)."""
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(RATE_HZ)
        clip.writeframes(pcm.astype("<i2").tobytes())
