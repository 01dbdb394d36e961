import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.rtp import quality
from sipagent.rtp.control import CloseRow, RowClosed
from sipagent.rtp.table import GAUGE
from tests.rtp.line import Line, rtp, talk


def array(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)


NARROW, WIDE = np.array([False]), np.array([True])


@pytest.mark.parametrize(
    ("percent", "r", "mos"),
    [(0, 93.2, 4.41), (1, 89.6, 4.33), (3, 83.1, 4.13), (5, 77.4, 3.92), (10, 66.1, 3.41), (20, 51.1, 2.63)],
)
def test_r_and_mos_of_concealed_g711_under_random_loss(percent: float, r: float, mos: float) -> None:
    found = quality.r_factor(array(percent / 100), array(1), array(0), NARROW)
    assert found[0] == pytest.approx(r, abs=0.1)
    assert quality.mos(found, NARROW)[0] == pytest.approx(mos, abs=0.01)


def test_loss_in_bursts_is_worse_than_the_same_loss_spread_out() -> None:
    scattered, bursty = quality.r_factor(array(0.1, 0.1), array(1, 2), array(0, 0), np.array([False, False]))
    assert scattered == pytest.approx(66.1, abs=0.1) and bursty == pytest.approx(61.6, abs=0.1)


def test_delay_costs_little_up_to_177_ms_and_much_beyond() -> None:
    cost = quality.delay_impairment(array(0, 100, 177.3, 277.3))
    assert cost.tolist() == pytest.approx([0, 2.4, 4.2552, 17.6552])


def test_g722_is_scored_on_the_wideband_scale() -> None:
    r = quality.r_factor(array(0), array(1), array(0), WIDE)
    assert r[0] == pytest.approx(116)
    assert quality.mos(r, WIDE)[0] == pytest.approx(4.34, abs=0.01)


def test_a_dead_line_scores_one_and_not_less() -> None:
    r = quality.r_factor(array(1), array(50), array(900), NARROW)
    assert r[0] == 0 and quality.mos(r, NARROW)[0] == 1
    assert (quality.mos(np.linspace(0, 100, 1001), np.zeros(1001, np.bool_)) >= 1).all()


def test_independent_losses_have_a_burst_ratio_of_one() -> None:
    lost = np.random.default_rng(1).random(200_000) < 0.1
    runs = np.count_nonzero(lost[1:] & ~lost[:-1]) + int(lost[0])
    ratio = quality.burst_ratio(array(lost.sum()), array(runs), array(lost.mean()))
    assert ratio[0] == pytest.approx(1, abs=0.02)
    assert quality.burst_ratio(array(100), array(25), array(0.1))[0] == pytest.approx(3.6)
    assert quality.loss_fraction(array(0, 5), array(0, 4)).tolist() == [0, 1]


def gauge(line: Line, name: str, row: int = 0) -> float:
    return float(line.table.gauges[row, GAUGE[name]])


def test_a_clean_line_is_scored_as_one_and_the_score_reaches_the_record() -> None:
    line = Line().open()
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(200)])
    line.do(CloseRow(0, 1))
    closed = line.events_of(RowClosed)[0]
    assert closed.gauges["r_factor_in"] == pytest.approx(93.2 - 0.024 * 25, abs=0.01)
    assert closed.gauges["mos_in"] == pytest.approx(4.40, abs=0.01)
    assert closed.gauges["loss_fraction"] == 0 and closed.gauges["mos_out"] == 0
    assert str(closed.gauges["echo_return_loss_db"]) == "0.0", "no echo was found, and not less than none"


def test_loss_lowers_the_score_and_bursts_lower_it_more() -> None:
    scores = {}
    for name, gone in {
        "clean": [],
        "scattered": range(10, 400, 10),
        "bursts": [n for n in range(400) if n % 40 < 4],
    }.items():
        line = Line().open()
        talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(401) if n == 0 or n not in gone], until_ms=8200)
        scores[name] = gauge(line, "r_factor_in")
        if gone:
            assert gauge(line, "loss_fraction") == pytest.approx(0.1, abs=0.01)
    assert scores["clean"] > 92 and scores["scattered"] == pytest.approx(65.5, abs=1.5)
    assert scores["bursts"] < scores["scattered"] - 3


def test_gauges_follow_once_a_second_for_every_row() -> None:
    line = Line(rows=3).open(0).open(2)
    for n in range(60):
        line.arrive(rtp(n, 160 * n), row=0)
        line.arrive(rtp(2 * n, 320 * n), row=2)
        line.tick(4)
    assert gauge(line, "mos_in", 0) > 4.3
    assert gauge(line, "mos_in", 1) == 0
    assert gauge(line, "mos_in", 2) < gauge(line, "mos_in", 0) and gauge(line, "loss_fraction", 2) > 0.4
