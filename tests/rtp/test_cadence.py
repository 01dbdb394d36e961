"""What is done in which tick, so that none of them is long."""

from typing import cast

import numpy as np
import pytest

from sipagent.rtp.concealer import SilenceInstead
from sipagent.rtp.loop import ControlChannel, run_loop
from sipagent.rtp.meters import LOOK, MOST, OFTEN_TICKS, TURN, Meters
from sipagent.rtp.table import GAUGE
from sipagent.rtp.waking import WAKE_TICKS, Waker
from tests.rtp.line import TICK_NS, Line, new_table, rtp

UNTOUCHED = 1.0


class Turns:
    """A control channel that says nothing, and closes after some turns of the loop."""

    def __init__(self, turns: int) -> None:
        self._left = turns

    @property
    def closed(self) -> bool:
        return self._left <= 0

    def emit(self, event: object) -> None: ...

    def flush(self) -> None:
        self._left -= 1

    def receive(self) -> None: ...


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


def test_the_loop_sends_between_the_ticks_in_which_it_takes_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line().open().open(row=1)
    plane, taken, worked = line.plane, [], []
    plane.sender.due[1] += 1  # its phase is another one: every tick but one in four is worked in
    receive = plane.io.receive
    monkeypatch.setattr(plane.io, "receive", lambda: (taken.append(plane._tick), receive())[1])
    monkeypatch.setattr(plane.io, "send", lambda rows, length: worked.append(plane._tick))
    run_loop(plane, cast(ControlChannel, Turns(40)), Waker(line.table, (), -1), tick_ms=5)
    assert min(np.diff(taken)) >= WAKE_TICKS
    assert set(worked) - set(taken)


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
