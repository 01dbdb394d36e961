"""Digits that one row sends as tones, for far ends without telephone events."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import tones

SHORTEST_MS: Final = 40  # that must be heard (ITU-T Q.24)


@dataclass(slots=True)
class ToneSender:
    """What is still to be sounded at `rate_hz`, digit by digit, each i2[samples] with the gap behind it."""

    rate_hz: int
    queue: deque[NDArray[np.int16]] = field(default_factory=deque)
    announced: deque[tuple[int, str]] = field(default_factory=deque)  # of each request: digits still to come, all
    _position: int = 0  # in the first one of the queue

    def add(self, digits: str, duration_ms: int, gap_ms: int, announced: str = "") -> None:
        """Append digits, whose end is told as `announced`; ValueError when one of them is none."""
        sounds = [tones.dtmf(digit, self.rate_hz, duration_ms, gap_ms) for digit in digits]
        if not sounds:
            raise ValueError("not digits: ''")
        self.queue.extend(sounds)
        self.announced.append((len(sounds), announced or digits))

    def next(self, samples: int) -> tuple[NDArray[np.float32], list[str]]:
        """The next `samples` as f4[samples], zeros behind the end, and the requests that are done with them."""
        out = np.zeros(samples, np.float32)
        filled = 0
        done: list[str] = []
        while filled < samples and self.queue:
            part = self.queue[0][self._position : self._position + samples - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            self._position += len(part)
            if self._position >= len(self.queue[0]):
                done += self._advance()
        return out, done

    def interrupt(self) -> list[str]:
        """Nothing can be sent for now: a digit that was heard counts as pressed, its rest would be another press."""
        if self._position < SHORTEST_MS * self.rate_hz // 1000:
            self._position = 0
        return self._advance() if self._position and self.queue[0].any() else []

    def _advance(self) -> list[str]:
        self._position = 0
        self.queue.popleft()
        left, digits = self.announced.popleft()
        if left == 1:
            return [digits]
        self.announced.appendleft((left - 1, digits))
        return []
