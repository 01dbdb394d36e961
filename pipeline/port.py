"""The seam between a conversation and a call's audio."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SpeechEvent:
    """Voice activity of the caller: `speaking` began or ended at `position` (samples of the receive clock)."""

    speaking: bool
    position: int


class AudioPort(Protocol):
    """One call's audio. Every position is a sample count at `rate_hz` that only grows; nothing here ever blocks.

    Receive and playout have separate clocks. Playout positions are given out by `write` without gaps, also for audio
    that is still waiting for room; after a flush they go on from where `flush` says.
    """

    @property
    def rate_hz(self) -> int:
        """Sample rate of the call: 8000 or 16000."""

    def received(self) -> int:
        """Receive position: samples received so far, gaps included."""

    def read(self, start: int, end: int) -> NDArray[np.int16]:
        """Received samples [start, end), shape (end - start,); what the ring no longer holds comes back as zeros."""

    def speech_events(self) -> list[SpeechEvent]:
        """Voice activity since the last call of this method, oldest first."""

    def write(self, pcm: NDArray[np.int16]) -> int:
        """Append samples, shape (n,), to what is to be played; returns the playout position of the first one."""

    def written(self) -> int:
        """Playout position behind the last sample written."""

    def played(self) -> int:
        """Playout position behind the last sample that left the socket."""

    def flush(self) -> None:
        """Drop what has not been played yet; at most one packet more is heard."""

    def flushed_at(self) -> int | None:
        """Playout position at which the last flush cut, once the media plane has carried it out; None before."""

    def set_gain(self, gain: float) -> None:
        """Gain of our speech, 1.0 = as written; ramped, so that it does not click."""

    def pump(self) -> None:
        """Move waiting samples into the ring; to be called at every wake-up."""
