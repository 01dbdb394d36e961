"""The prompt that a row plays: its samples, how far it is, and its end."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class PromptPlayer:
    """One prompt being mixed into one row; `pcm` i2[samples] at the row's rate."""

    source: str
    pcm: NDArray[np.int16]
    loop: bool
    gain: float
    exclusive: bool
    position: int = 0
    stopping: bool = False

    def next(self, samples: int) -> tuple[NDArray[np.float32], bool]:
        """The next `samples` as f4[samples], zeros behind the end, and whether the prompt is over with them."""
        out = np.zeros(samples, np.float32)
        filled = 0
        while filled < samples and len(self.pcm):
            part = self.pcm[self.position : self.position + samples - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            self.position += len(part)
            if self.position < len(self.pcm):
                break
            if not self.loop:
                break
            self.position = 0
        out *= self.gain
        if self.stopping:  # faded out within this packet
            out *= np.linspace(1.0, 0.0, samples, dtype=np.float32)
        ended = self.stopping or not len(self.pcm) or (not self.loop and self.position >= len(self.pcm))
        return out, ended
