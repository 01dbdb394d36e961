"""What is done in which tick, so that none of them is long."""

import numpy as np

from sipagent.rtp.concealer import SilenceInstead
from sipagent.rtp.meters import LOOK, MOST, OFTEN_TICKS, TURN, Meters
from sipagent.rtp.table import GAUGE
from tests.rtp.line import TICK_NS, Line, new_table, rtp

UNTOUCHED = 1.0


def test_packets_are_taken_in_the_ticks_in_which_workers_are_woken() -> None:
    line = Line().open()
    line.run_ms(20)
    head = int(line.table.rx_head[0])
    tick = line.tick_number
    line.arrive(rtp(1, 160))
    for following in (tick + 1, tick + 2):
        receives = line.plane.receives(following)
        assert receives == (following % 2 == 0)
        line.plane.tick(following, line.now_ns + (following - tick) * TICK_NS, receives=receives)
        assert (line.table.rx_head[0] > head) == receives


def test_packets_are_taken_at_once_when_the_tick_of_their_turn_was_missed() -> None:
    line = Line().open()
    line.run_ms(20)
    assert not line.plane.receives(line.tick_number + 1)
    assert line.plane.receives(line.tick_number + 3)


def test_meters_look_at_many_rows_in_parts_and_soon_at_all() -> None:
    rows = 4 * MOST
    table = new_table(rows)
    table.active[:] = 1
    table.tx_clock[:] = LOOK
    meters = Meters(table, SilenceInstead())
    floor = table.gauges[:, GAUGE["noise_floor_dbov"]]
    floor[:] = UNTOUCHED
    looked_at = []
    for tick in range(TURN, TURN + 4 * OFTEN_TICKS):
        meters.on_tick(tick)
        looked_at.append(int(np.count_nonzero(floor != UNTOUCHED)))
    assert max(np.diff([0, *looked_at])) == MOST
    assert looked_at[-1] == rows
