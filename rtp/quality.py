"""How good a call sounds, estimated: the E-model (ITU-T G.107, wideband G.107.1) over arrays of rows.

    R = R0 - Id - Ie,eff        Id = 0.024 d + 0.11 (d - 177.3) H(d - 177.3)
                                Ie,eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl)

d is the one-way delay in milliseconds, Ppl the lost packets in percent. Narrow band runs from 0 to 93.2 (R0), wide band
from 0 to 129; a MOS is given on the scale of the row's own bandwidth, as G.107.1 does it. The E-model is a planning
tool and kinder than PESQ: it is for comparing calls, not for praising them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import COUNTER

Floats = NDArray[np.float64]

R0_NARROW: Final = 93.2  # G.107: every default
R0_WIDE: Final = 129.0  # G.107.1
IE_G711: Final = 0.0  # G.113 Appendix I
BPL_G711: Final = 25.1  # … with concealment as in G.711 Appendix I
IE_G722: Final = 13.0  # G.113 Appendix IV, 64 kbit/s
BPL_G722: Final = BPL_G711  # not tabled there: our own concealment works on samples, whichever codec they came from
SCALE_WIDE: Final = R0_WIDE / 100  # G.107.1: the MOS of R is that of R / 1.29


def loss_impairment(loss_fraction: Floats, burst_ratio: Floats, wide: NDArray[np.bool_]) -> Floats:
    """Ie,eff of rows; `loss_fraction` f8[n] in 0…1, `burst_ratio` f8[n] ≥ 1, `wide` bool[n] = G.722."""
    percent = 100 * loss_fraction
    ie = np.where(wide, IE_G722, IE_G711)
    bpl = np.where(wide, BPL_G722, BPL_G711)
    impairment: Floats = ie + (95 - ie) * percent / (percent / burst_ratio + bpl)
    return impairment


def delay_impairment(delay_ms: Floats) -> Floats:
    """Id of one-way delays in milliseconds, f8[n]."""
    impairment: Floats = 0.024 * delay_ms + 0.11 * np.maximum(delay_ms - 177.3, 0)
    return impairment


def r_factor(loss_fraction: Floats, burst_ratio: Floats, delay_ms: Floats, wide: NDArray[np.bool_]) -> Floats:
    """R of rows, f8[n], never below 0; arguments as above."""
    r0 = np.where(wide, R0_WIDE, R0_NARROW)
    r = r0 - delay_impairment(delay_ms) - loss_impairment(loss_fraction, burst_ratio, wide)
    floored: Floats = np.maximum(r, 0.0)
    return floored


def mos(r: Floats, wide: NDArray[np.bool_]) -> Floats:
    """Mean opinion score 1.0…4.5 of R factors f8[n] (G.107 Annex B)."""
    r = np.clip(np.where(wide, r / SCALE_WIDE, r), 0, 100)
    score: Floats = 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6
    return np.maximum(score, 1.0)  # the cubic dips below 1 near R = 3


def burst_ratio(lost: Floats, runs: Floats, loss_fraction: Floats) -> Floats:
    """Mean length of the runs of lost packets over what it would be if losses were independent, at least 1; f8[n].

    `lost` packets fell into `runs` runs; independent losses at probability p come in runs of 1 / (1 - p) on average.
    """
    mean_run = lost / np.maximum(runs, 1)
    ratio: Floats = np.maximum(mean_run * (1 - loss_fraction), 1.0)
    return ratio


def loss_fraction(lost: Floats, expected: Floats) -> Floats:
    """Lost over expected, 0…1, 0 where nothing was expected; f8[n]."""
    fraction: Floats = np.clip(lost / np.maximum(expected, 1), 0.0, 1.0)
    return fraction


def expected(counters: Floats) -> Floats:
    """Packets that rows should have received, lost or not, each once; f8[n] of their counters f8[n, len(COUNTERS)]."""
    received: Floats = counters[:, COUNTER["packets_received"]] - counters[:, COUNTER["dropped_duplicate"]]
    return received + counters[:, COUNTER["lost"]]
