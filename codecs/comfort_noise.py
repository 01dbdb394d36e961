"""Comfort noise (RFC 3389): its payload, and noise of a given level and spectrum for many rows at once."""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy import fft
from numpy.typing import NDArray

from sipagent.codecs.level import root_mean_square

MAXIMUM_ORDER: Final = 12  # coefficients used of a payload; more of them add nothing that is heard
_RESPONSE: Final = 48  # samples after which the shaping filter is taken to have died away
_TABLE: Final = 1 << 16  # white samples to draw from: 8 s, which nobody hears repeat at random offsets


@dataclass(frozen=True, slots=True)
class Description:
    """What a CN payload says: the level in dBov and the reflection coefficients, each within ±1."""

    level_dbov: float
    reflection: tuple[float, ...] = ()


def parse(payload: bytes) -> Description | None:
    """The content of a CN payload (RFC 3389 §3), None when it is empty."""
    if not payload:
        return None
    reflection = tuple((octet - 127) * 258 / 32768 for octet in payload[1 : 1 + MAXIMUM_ORDER])  # §3.2
    return Description(-float(payload[0] & 0x7F), tuple(max(-0.99, min(0.99, k)) for k in reflection))


def serialize(description: Description) -> bytes:
    """The CN payload of `description` (RFC 3389 §3)."""
    level = max(0, min(127, round(-description.level_dbov)))
    return bytes([level, *(max(0, min(254, round(k * 32768 / 258) + 127)) for k in description.reflection)])


@functools.cache
def _white() -> NDArray[np.float32]:
    return np.random.default_rng(3389).standard_normal(_TABLE, dtype=np.float32)


def generate(
    level_dbov: NDArray[np.float32],
    samples: int,
    random: np.random.Generator,
    reflection: NDArray[np.float32] | None = None,
) -> NDArray[np.int16]:
    """Noise for as many rows as there are levels: level_dbov f4[rows] -> i2[rows, samples].

    `reflection` f4[rows, order] shapes the spectrum, zeros leave it white. A level of -127 is digital silence.
    """
    rows = len(level_dbov)
    if reflection is None or reflection.shape[1] == 0:
        noise = _draw(rows, samples, random)
    else:
        response = _impulse_response(reflection)
        size = 1 << (samples + _RESPONSE - 1).bit_length()
        # Every packet is its own piece of a stationary noise: the warm-up is cut off, and no filter state is kept.
        white = _draw(rows, samples + _RESPONSE, random)
        spectrum = fft.rfft(white, size) * fft.rfft(response, size)
        noise = fft.irfft(spectrum, size)[:, _RESPONSE : _RESPONSE + samples].astype(np.float32)
    gain = np.where(level_dbov <= -127, np.float32(0), root_mean_square(level_dbov))
    return np.clip(np.rint(noise * gain[:, None]), -32768, 32767).astype(np.int16)


def _draw(rows: int, samples: int, random: np.random.Generator) -> NDArray[np.float32]:
    starts = random.integers(0, _TABLE, rows)
    return np.take(_white(), (starts[:, None] + np.arange(samples)) & (_TABLE - 1))


def _impulse_response(reflection: NDArray[np.float32]) -> NDArray[np.float32]:
    """First samples of 1/A(z), scaled to unit energy; f4[rows, order] -> f4[rows, _RESPONSE]."""
    rows, order = reflection.shape
    predictor = np.ones((rows, 1), np.float32)
    for index in range(order):  # step-up recursion: reflection to direct form
        longer = np.pad(predictor, ((0, 0), (0, 1)))
        predictor = longer + reflection[:, index, None] * longer[:, ::-1]
    response = np.zeros((rows, _RESPONSE + order), np.float32)
    response[:, order] = 1
    for sample in range(1, _RESPONSE):
        past = response[:, sample : sample + order]
        response[:, sample + order] = -np.einsum("rk,rk->r", past, predictor[:, :0:-1])
    response = response[:, order:]
    scaled: NDArray[np.float32] = response / np.sqrt(np.einsum("rs,rs->r", response, response))[:, None]
    return scaled
