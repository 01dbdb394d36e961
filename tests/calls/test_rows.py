"""Rows are handed out in turn and rest after a call."""

from typing import Any

from sipagent.calls.call import CallState
from sipagent.calls.media_events import MAX_LOSSES
from sipagent.calls.rows import QUARANTINE_S, RowPool
from sipagent.service.recordings import RecordingPaths
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, Board


def test_a_row_rests_in_quarantine_before_it_is_handed_out_again() -> None:
    pool = RowPool()
    pool.add_plane(0, (16000,))
    row = pool.take(now=10.0)
    assert row is not None and row.port == 16000
    pool.give_back(row, now=20.0)
    assert pool.take(now=20.0 + QUARANTINE_S - 0.1) is None
    assert pool.take(now=20.0 + QUARANTINE_S) == row


def test_ports_that_could_not_be_bound_are_never_handed_out() -> None:
    pool = RowPool()
    pool.add_plane(0, (0, 16002, 0))
    row = pool.take(now=0.0)
    assert row is not None and (row.number, row.port) == (1, 16002)
    assert pool.take(now=0.0) is None


def test_calls_are_spread_over_planes() -> None:
    pool = RowPool()
    pool.add_plane(0, (16000, 16002))
    pool.add_plane(1, (17000, 17002))
    planes = [row.plane for row in (pool.take(0.0) for _ in range(4)) if row is not None]
    assert sorted(planes) == [0, 0, 1, 1] and planes[0] != planes[1]


def test_a_row_of_a_plane_that_is_gone_is_not_taken_back() -> None:
    pool = RowPool()
    pool.add_plane(0, (16000,))
    row = pool.take(0.0)
    assert row is not None
    pool.remove_plane(0)
    pool.give_back(row, 0.0)
    assert pool.free(100.0) == 0


async def test_a_call_that_loses_its_worker_and_its_media_plane_is_over_with_its_bye() -> None:
    board = Board()
    call = board.incoming()

    def ends_at_once(handle: str, headers: Any = ()) -> None:
        board.control.on_engine(sip.Ended(handle, "local"))

    board.engine.hangup = ends_at_once
    board.life.paths = RecordingPaths(CONFIG)
    board.life.workers.pick = lambda avoid: None  # type: ignore[method-assign]
    board.control.on_worker_lost(0)
    for _ in range(MAX_LOSSES + 1):
        board.control.on_media_lost(0)
    assert call.state is CallState.ENDED and not board.life.live
