import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sipagent.rtp.bursts import G_MIN, LossBursts


def of_the_appendix(lost: list[bool], packet_ms: float) -> tuple[float, float, float, float]:
    """RFC 3611 Appendix A.2, packet by packet: burst and gap density, burst and gap duration."""
    c11 = c13 = c14 = c22 = c23 = c33 = 0
    pkt = run = 0
    for is_lost in lost:
        if not is_lost:
            pkt += 1
            continue
        if pkt >= G_MIN:
            if run == 1:
                c14 += 1
            else:
                c13 += 1
            run = 1
            c11 += pkt
        else:
            run += 1
            if pkt == 0:
                c33 += 1
            else:
                c23 += 1
                c22 += pkt - 1
        pkt = 0
    c11 += pkt
    c31, c32 = c13, c23
    total = c11 + c14 + c13 + c22 + c23 + c31 + c32 + c33
    p32 = 0.0 if c32 == 0 else c32 / (c31 + c32 + c33)
    p23 = 1.0 if c22 + c23 < 1 else 1 - c22 / (c22 + c23)
    gap_density = c14 / (c11 + c14) if c11 + c14 else 0.0
    if not c13:
        return 0.0, gap_density, 0.0, (c11 + c14 + c13) * packet_ms
    gap_ms = (c11 + c14 + c13) * packet_ms / c13
    return p23 / (p23 + p32), gap_density, total * packet_ms / c13 - gap_ms, gap_ms


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4)), max_size=30), st.integers(0, 30))
def test_bursts_and_gaps_are_those_of_the_standards_appendix(runs: list[tuple[int, int]], tail: int) -> None:
    counted = LossBursts(2)
    row = np.array([1])
    counted.begin(row, np.array([100]))
    lost: list[bool] = []
    for received, missing in runs:
        lost += [False] * received + [True] * missing
        end = 100 + len(lost)
        counted.lose(row, np.array([end - missing]), np.array([end]))
    lost += [False] * tail
    metrics = counted.metrics(row, np.array([100 + len(lost)]), np.array([20.0]))
    found = metrics.burst_density[0], metrics.gap_density[0], metrics.burst_ms[0], metrics.gap_ms[0]
    assert np.allclose(found, of_the_appendix(lost, 20.0))
    assert counted.runs.tolist() == [0, len(runs)]


def test_rows_are_counted_apart_and_a_new_call_begins_anew() -> None:
    counted = LossBursts(3)
    rows = np.array([0, 2])
    counted.begin(rows, np.array([0, 0]))
    counted.lose(rows, np.array([30, 5]), np.array([31, 9]))
    counted.lose(np.array([2]), np.array([11]), np.array([12]))
    assert counted.runs.tolist() == [1, 0, 2]
    counted.reset(2)
    assert counted.runs.tolist() == [1, 0, 0]
    assert counted.metrics(np.array([2]), np.array([12]), np.array([20.0])).burst_density[0] == 0
