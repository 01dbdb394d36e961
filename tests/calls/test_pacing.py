"""Admission by measured pacing error, without a clock: planes say how late they are."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from sipagent.calls.pacing import RELIEF, PacingGate
from sipagent.http.control import CallRequest, Refusal, Refused
from sipagent.service.http_control import HttpControl
from sipagent.service.metrics import _lateness
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, SDP, Board

SOURCE = ("127.0.0.1", 5099)
LIMITED = msgspec.structs.replace(CONFIG, limits=msgspec.structs.replace(CONFIG.limits, max_pacing_ms=10.0))


@dataclass
class Paced:
    number: int
    late_ms: float = 0.0

    def pacing_ms(self) -> float:
        return self.late_ms


def test_a_late_plane_gets_no_call_until_it_is_well_below_the_limit() -> None:
    plane = Paced(0)
    gate = PacingGate([plane])
    found = []
    for late_ms in (0.1, 10.0, 10.1, 9.0, 7.1, 7.0, 9.9, 10.1):
        plane.late_ms = late_ms
        found.append((late_ms, bool(gate.late(10.0))))
    assert RELIEF == 0.7
    assert [late for _, late in found] == [False, False, True, True, True, False, False, True]


def test_without_a_limit_no_plane_is_late() -> None:
    gate = PacingGate([Paced(0, 500.0)])
    assert gate.late(10.0) and not gate.late(0.0) and gate.objection(0.0) == ""


def test_calls_are_welcome_while_one_plane_keeps_time() -> None:
    planes = [Paced(0, 50.0), Paced(1, 0.5)]
    gate = PacingGate(planes)
    assert gate.late(10.0) == {0} and gate.objection(10.0) == ""
    planes[1].late_ms = 12.0
    assert gate.objection(10.0) == "media is late: p99 of pacing 12.0 ms, limits.max_pacing_ms is 10"


def incoming(board: Board, handle: str) -> Any:
    board.control.on_engine(
        sip.IncomingCall(handle, "office", "sip:agent@x", "sip:+4930111@y", "", "sip:agent@x", SDP, (), SOURCE)
    )
    return board.life.calls.by_handle(handle)


async def test_new_calls_go_to_the_plane_that_keeps_time() -> None:
    board = Board(LIMITED, planes=2)
    board.planes[0].late_ms = 11.0
    places = [incoming(board, f"in{number}").place for number in range(3)]
    assert [place.plane for place in places] == [1, 1, 1]


@pytest.mark.parametrize("status", [503, 486])
async def test_while_media_is_late_calls_are_refused_with_the_configured_status_and_come_back_later(
    status: int,
) -> None:
    limits = msgspec.structs.replace(LIMITED.limits, full_status=status, retry_after_seconds=7)
    board = Board(msgspec.structs.replace(LIMITED, limits=limits))
    board.plane.late_ms = 11.0
    assert incoming(board, "late") is None
    ((_, refused, _, headers),) = board.engine.to("late")
    assert refused == status and headers == (("Retry-After", "7"),)
    assert board.life.refused == {"late": 1}
    board.plane.late_ms = 1.0
    assert incoming(board, "later") is not None


async def test_while_media_is_late_no_call_can_be_placed_and_readiness_and_metrics_say_so() -> None:
    board = Board(LIMITED)
    http = HttpControl(board.control)
    board.plane.late_ms = 30.0
    with pytest.raises(Refused) as refused:
        http.place(CallRequest("+4930123", trunk="office"))
    assert refused.value.refusal is Refusal.NO_CAPACITY and "30.0 ms" in str(refused.value)
    assert board.life.lateness() and [sample.value for sample in _lateness(board.life).samples] == [1.0]
    board.plane.late_ms = 3.0
    assert http.place(CallRequest("+4930123", trunk="office")).state == "offered"
    assert [sample.value for sample in _lateness(board.life).samples] == [0.0]
