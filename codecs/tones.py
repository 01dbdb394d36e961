"""Call progress tones (ITU-T E.180, by national plan) and DTMF digits (ITU-T Q.23) as samples.

Levels are in dBm0 per frequency, as the plans state them. Every burst is ramped for 5 ms, so that it does not click.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RAMP_MS: Final = 5
DTMF_LOW_HZ: Final = (697, 770, 852, 941)
DTMF_HIGH_HZ: Final = (1209, 1336, 1477, 1633)
DTMF_DIGITS: Final = ("123A", "456B", "789C", "*0#D")  # row: low frequency, column: high frequency
PAUSE_MS: Final = {",": 1000, "w": 500}  # what may stand between digits
FULL_SCALE_DBM0: Final = 3.17  # of a sine, ITU-T G.711 §6


@dataclass(frozen=True, slots=True)
class Tone:
    """Frequencies that sound together, and their cadence: seconds on, off, on, off …"""

    frequencies_hz: tuple[float, ...]
    cadence_s: tuple[float, ...]
    level_dbm0: float


RINGBACK: Final = {
    "etsi": Tone((425,), (1.0, 4.0), -12),  # ETSI TR 101 041-2: most of Europe
    "us": Tone((440, 480), (2.0, 4.0), -19),  # Telcordia GR-506
    "uk": Tone((400, 450), (0.4, 0.2, 0.4, 2.0), -19),  # BT SIN 350
}
BUSY: Final = {
    "etsi": Tone((425,), (0.5, 0.5), -12),
    "us": Tone((480, 620), (0.5, 0.5), -24),
    "uk": Tone((400,), (0.375, 0.375), -19),
}


def ringback(rate_hz: int, plan: str = "etsi") -> NDArray[np.int16]:
    """One period of the ringback tone of `plan` (etsi, us, uk), to be looped; i2[samples]. KeyError otherwise."""
    return cadence(RINGBACK[plan], rate_hz)


def busy(rate_hz: int, plan: str = "etsi") -> NDArray[np.int16]:
    """One period of the busy tone of `plan` (etsi, us, uk), to be looped; i2[samples]. KeyError otherwise."""
    return cadence(BUSY[plan], rate_hz)


def cadence(tone: Tone, rate_hz: int) -> NDArray[np.int16]:
    """One period of `tone` at `rate_hz`; i2[samples]."""
    parts = []
    for index, seconds in enumerate(tone.cadence_s):
        samples = round(seconds * rate_hz)
        if index % 2:
            parts.append(np.zeros(samples, np.int16))
        else:
            parts.append(burst([(hz, tone.level_dbm0) for hz in tone.frequencies_hz], samples, rate_hz))
    return np.concatenate(parts)


def dtmf(
    digits: str,
    rate_hz: int,
    duration_ms: int = 100,
    gap_ms: int = 100,
    low_dbm0: float = -8.0,
    high_dbm0: float = -6.0,  # ETSI ES 201 235-2: the high group 2 dB above the low one
) -> NDArray[np.int16]:
    """The digits (0–9, *, #, A–D; PAUSE_MS) with a gap after each; i2[samples]. ValueError otherwise."""
    parts = []
    for digit in digits:
        if digit in PAUSE_MS:
            parts.append(np.zeros(PAUSE_MS[digit] * rate_hz // 1000, np.int16))
            continue
        low_hz, high_hz = dtmf_frequencies(digit.upper())
        parts.append(burst([(low_hz, low_dbm0), (high_hz, high_dbm0)], duration_ms * rate_hz // 1000, rate_hz))
        parts.append(np.zeros(gap_ms * rate_hz // 1000, np.int16))
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def dtmf_frequencies(digit: str) -> tuple[int, int]:
    """Low and high frequency in Hz of one digit; ValueError when there is none."""
    for low_hz, columns in zip(DTMF_LOW_HZ, DTMF_DIGITS, strict=True):
        if len(digit) == 1 and digit in columns:
            return low_hz, DTMF_HIGH_HZ[columns.index(digit)]
    raise ValueError(f"not a DTMF digit: {digit!r}")


def burst(components: list[tuple[float, float]], samples: int, rate_hz: int) -> NDArray[np.int16]:
    """A sum of sines, each (frequency in Hz, level in dBm0), ramped at both ends; i2[samples]."""
    time = np.arange(samples) / rate_hz
    total = np.zeros(samples)
    for frequency_hz, level_dbm0 in components:
        total += 32767 * 10 ** ((level_dbm0 - FULL_SCALE_DBM0) / 20) * np.sin(2 * np.pi * frequency_hz * time)
    length = min(RAMP_MS * rate_hz // 1000, samples // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(1, length))
    total[:length] *= ramp
    total[samples - length :] *= ramp[::-1]
    return np.clip(np.rint(total), -32768, 32767).astype(np.int16)
