"""A caller's voice."""

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.resample import resample
from sipagent.pipeline.services.hibari import HibariVoice


async def spoken(voice: HibariVoice, text: str) -> NDArray[np.int16]:
    """The text at 8 kHz, int16 shape (n,)."""
    return np.concatenate([resample(piece.pcm, piece.rate_hz, 8000) async for piece in voice.synthesize(text)])
