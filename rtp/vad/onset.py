"""Where in the samples speech really began: its soft first sound lies before the window that gave it away."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK_MS: Final = 8
_WINDOW_BLOCKS: Final = 4  # the window of 32 ms that was recognised
_RISE: Final = 4.0  # 6 dB above the floor is no longer the floor
_FLOOR_POWER: Final = (32768 * 10 ** (-65 / 20)) ** 2  # noise below -65 dBov does not raise the bar


def span_samples(backdate_ms: int, rate_hz: int) -> tuple[int, int]:
    """How many samples before the recognised window's start, and from there on, `first_sample` wants to see."""
    before = max(1, backdate_ms // BLOCK_MS) * BLOCK_MS * rate_hz // 1000
    return before, _WINDOW_BLOCKS * BLOCK_MS * rate_hz // 1000


def first_sample(pcm: NDArray[np.int16], start: NDArray[np.int64], before: int, rate_hz: int) -> NDArray[np.int64]:
    """Position i8[n] at which the sound around each window begins.

    pcm: i2 [n, before + window], samples that end with the window recognised; start: i8[n], position of its first one.
    From the loudest block of the window it goes back as long as blocks stand 6 dB out of the floor.
    """
    block = BLOCK_MS * rate_hz // 1000
    wide = pcm.astype(np.float32).reshape(len(pcm), -1, block)
    power = np.einsum("nbs,nbs->nb", wide, wide) / block
    quiet = power.shape[1] // 5  # partition, since np.quantile first loads numpy.ma for 50 ms
    floor = np.maximum(np.partition(power, quiet, axis=1)[:, quiet], _FLOOR_POWER)
    above = power > _RISE * floor[:, None]
    blocks = power.shape[1]
    anchor = blocks - _WINDOW_BLOCKS + np.argmax(power[:, -_WINDOW_BLOCKS:], axis=1)
    below = ~above & (np.arange(blocks) < anchor[:, None])
    last_below = np.where(below.any(axis=1), blocks - 1 - np.argmax(below[:, ::-1], axis=1), -1)
    position: NDArray[np.int64] = start - before + (last_below + 1) * block
    return np.where(last_below >= 0, np.maximum(position, 0), np.maximum(start - before, 0))
