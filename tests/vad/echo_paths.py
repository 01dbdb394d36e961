"""Lines that send our own words back: telephone hybrids and speakerphones, with G.711 both ways."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import g711

RATE_HZ = 8000


@dataclass(frozen=True)
class EchoPath:
    """`kind` is hybrid, speakerphone or none; `return_loss_db` is the drop in level from what was sent to its echo."""

    kind: str
    delay_ms: float
    return_loss_db: float
    seed: int = 1


def response(path: EchoPath) -> NDArray[np.float64]:
    """Impulse response from what was sent to what comes back, its energy that of the return loss."""
    rng = np.random.default_rng(path.seed)
    if path.kind == "hybrid":  # dispersion of some 8 ms, as in the models of ITU-T G.168 annex D
        time_s = np.arange(96) / RATE_HZ
        shape = rng.normal(0, 1, 96) * np.exp(-time_s / rng.uniform(0.001, 0.003))
    else:  # direct sound, then a room that decays by 60 dB in 250 to 400 ms
        time_s = np.arange(3200) / RATE_HZ
        shape = rng.normal(0, 0.12, 3200) * 10 ** (-3 * time_s / rng.uniform(0.25, 0.4))
        shape[0] = 1.0
        shape = np.convolve(shape, [1, -0.9])  # a small loudspeaker has no bass
    shape *= 10 ** (-path.return_loss_db / 20) / np.sqrt((shape**2).sum())
    return np.concatenate([np.zeros(int(path.delay_ms * RATE_HZ / 1000)), shape])


def echo(sent: NDArray[np.int16], path: EchoPath) -> NDArray[np.float64]:
    """What comes back of `sent`."""
    if path.kind == "none":
        return np.zeros(len(sent))
    driven = sent.astype(np.float64)
    if path.kind == "speakerphone":  # an overdriven loudspeaker
        driven = np.tanh(driven / 20000) * 20000
    h = response(path)
    size = 1 << (len(driven) + len(h)).bit_length()
    return np.fft.irfft(np.fft.rfft(driven, size) * np.fft.rfft(h, size), size)[: len(driven)]


def received(
    sent: NDArray[np.int16], path: EchoPath, caller: NDArray[np.int16] | None = None, noise_dbov: float = -62.0
) -> NDArray[np.int16]:
    """What we receive: the echo of `sent`, the caller's own voice and some noise, after µ-law."""
    rng = np.random.default_rng(path.seed + 1000)
    mixed = echo(sent, path) + rng.normal(0, 32768 * 10 ** (noise_dbov / 20), len(sent))
    if caller is not None:
        mixed[: len(caller)] += caller[: len(mixed)]
    return through_g711(mixed.clip(-32768, 32767).astype(np.int16))


def through_g711(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    return g711.ulaw_decode(g711.ulaw_encode(pcm))
