"""The seams to the services that listen and speak. Every method may be called for many calls at once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sipagent.pipeline.frames import Word


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was understood; `confidence` in 0..1. An empty text means that nothing was said."""

    text: str
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Speech:
    """A stretch of synthesized speech: `pcm` int16 shape (n,); words are relative to its first sample."""

    pcm: NDArray[np.int16]
    rate_hz: int
    words: tuple[Word, ...] = ()


class SpeechToText(Protocol):
    """Understands one utterance."""

    async def transcribe(self, pcm: NDArray[np.int16], rate_hz: int) -> Transcript:
        """The text of `pcm`, shape (n,); raises ServiceError."""


class EndOfTurn(Protocol):
    """Judges from the sound whether somebody who paused has finished."""

    async def probability(self, pcm: NDArray[np.int16], rate_hz: int) -> float:
        """Probability that the turn whose last seconds are `pcm`, shape (n,), is complete; raises ServiceError."""


class TextToSpeech(Protocol):
    """Speaks one text, usually a sentence."""

    def synthesize(self, text: str) -> AsyncIterator[Speech]:
        """The speech of `text`, piece by piece as it becomes ready; raises ServiceError."""
