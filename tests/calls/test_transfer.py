"""Transfers, without a network: what is said to far ends, rows and brain, for every end that one can have."""

import asyncio
from typing import Any

import msgspec
import pytest

from sipagent.calls.call import Call, CallState
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.service.config.tree import Config, Limits, Sip
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, SDP, Board

TARGET = "+4930777"
LATER = SDP.replace(b"30000", b"31000")


def with_music(config: Config, file: str) -> Config:
    return msgspec.structs.replace(config, conversation=msgspec.structs.replace(config.conversation, hold_music=file))


@pytest.fixture
async def board() -> Board:
    return Board()


def transfer(board: Board, mode: str, to: str = TARGET, ring_seconds: float = 25.0) -> Call:
    call = board.incoming()
    board.says(messages.Transfer(call.id, to, mode, ring_seconds))
    return call


def notify(board: Board, call: Call, status: int, done: bool = True) -> None:
    board.control.on_engine(sip.TransferProgress(call.handle, status, "", done))


def answer(board: Board) -> Call:
    second = board.second()
    board.control.on_engine(sip.Answered(second.handle, LATER))
    return second


def refuse(board: Board, status: int, headers: sip.HeaderList = ()) -> None:
    board.control.on_engine(sip.Ended(board.second().handle, "refused", status, "", headers))


OUTCOMES = [
    (486, "busy"),
    (600, "busy"),
    (480, "no_answer"),
    (408, "not_reachable"),
    (603, "rejected"),
    (404, "invalid_number"),
    (484, "invalid_number"),
    (403, "blocked"),
    (503, "congested"),
    (502, "not_reachable"),
    (500, "failed"),
    (302, "not_reachable"),
]


@pytest.mark.parametrize("mode", ["blind", "bridged", "attended"])
@pytest.mark.parametrize(("status", "outcome"), OUTCOMES)
async def test_a_refusal_gives_the_caller_back_with_its_name(
    board: Board, mode: str, status: int, outcome: str
) -> None:
    call = transfer(board, mode)
    if mode == "blind":
        notify(board, call, status)
        outcome = "no_answer" if status == 408 else outcome  # the far end may have let it ring
    else:
        refuse(board, status)
    assert board.worker.results() == [outcome]
    assert call.state is CallState.CONNECTED and not board.control.transfers.under_way(call)
    assert "hangup" not in board.engine.names(call.handle)


async def test_a_blind_transfer_that_succeeded_ends_the_call(board: Board) -> None:
    call = transfer(board, "blind")
    assert ("refer", TARGET) in board.engine.to(call.handle)
    notify(board, call, 180, done=False)
    assert board.worker.results() == []
    notify(board, call, 200)
    assert board.worker.results() == ["transferred"]
    assert board.engine.names(call.handle)[-1] == "hangup"


async def test_a_far_end_that_leaves_after_we_gave_up_is_let_go(board: Board) -> None:
    call = transfer(board, "blind", ring_seconds=0.01)
    await asyncio.sleep(0.05)
    assert board.worker.results() == ["no_answer"] and call.alive
    notify(board, call, 200)
    assert not call.alive


async def test_the_caller_hears_ringback_while_the_target_rings_and_then_the_target(board: Board) -> None:
    call = transfer(board, "bridged")
    second = board.second()
    board.control.on_engine(sip.Progress(second.handle, 180, "Ringing", None))
    (play,) = (command for command in board.plane.to(call) if isinstance(command, media.Play))
    assert (play.source, play.loop) == ("tone:ringback", True)
    answer(board)
    *_, stop, bridge, assign = board.plane.to(call)
    assert isinstance(stop, media.StopPlay) and isinstance(bridge, media.Bridge)
    assert second.place is not None
    assert (bridge.other_row, bridge.other_generation) == (second.place.row, second.place.generation)
    assert not bridge.agent and not bridge.apart
    assert isinstance(assign, media.AssignWorker) and assign.worker == -1
    assert board.worker.results() == ["transferred"]


async def test_music_is_played_from_the_beginning_where_it_is_configured() -> None:
    board = Board(with_music(CONFIG, "music.wav"))
    call = transfer(board, "bridged")
    board.control.on_engine(sip.Progress(board.second().handle, 180, "Ringing", None))
    assert [command.source for command in board.plane.to(call) if isinstance(command, media.Play)] == ["music.wav"]
    refuse(board, 486)
    assert board.plane.names(call)[-1] == "StopPlay"


async def test_the_second_call_shows_who_calls_and_has_no_brain(board: Board) -> None:
    call = transfer(board, "bridged")
    _, placed = board.placed()
    assert (placed.to, placed.from_user, placed.from_name, placed.trunk) == (TARGET, "agent", "Ada", "office")
    second = board.second()
    assert second.companion_of == call.id and second.summary()["companion_of"] == call.id
    assert sum(isinstance(message, messages.Offer) for message in board.worker.heard) == 1
    board.control.on_worker_ready(0)
    assert sum(isinstance(message, messages.Offer) for message in board.worker.heard) == 1
    assert board.life.count() == 1  # it takes no place of another caller


@pytest.mark.parametrize("who", ["caller", "target"])
async def test_either_end_of_a_joined_call_ends_both(board: Board, who: str) -> None:
    call = transfer(board, "bridged")
    second = answer(board)
    first, last = (call, second) if who == "caller" else (second, call)
    board.control.on_engine(sip.Ended(first.handle, "remote"))
    assert "hangup" in board.engine.names(last.handle)
    board.control.on_engine(sip.Ended(last.handle, "local"))
    assert not call.alive and not second.alive
    assert {call.ending and call.ending.outcome.value, second.ending and second.ending.outcome.value} == {"answered"}


async def test_the_agent_has_left_a_joined_call_and_its_worker_may_die(board: Board) -> None:
    call = transfer(board, "bridged")
    answer(board)
    assert isinstance(board.worker.heard[-1], messages.Ended)
    board.says(messages.Finished(call.id, (), {}, {}))
    assert call.alive and board.worker.calls == set()
    board.control.on_worker_lost(0)
    assert call.alive and call.takeovers == 0
    assert not any(isinstance(command, media.Play) for command in board.plane.to(call))


async def test_a_caller_who_hangs_up_stops_the_ringing(board: Board) -> None:
    call = transfer(board, "bridged")
    second = board.second()
    board.control.on_engine(sip.Ended(call.handle, "remote"))
    assert "hangup" in board.engine.names(second.handle)
    assert board.events(call, "transfer")[-1]["outcome"] == "cancelled"


async def test_a_target_that_lets_it_ring_is_given_up_in_time(board: Board) -> None:
    call = transfer(board, "bridged", ring_seconds=0.01)
    second = board.second()
    await asyncio.sleep(0.05)
    assert "hangup" in board.engine.names(second.handle)
    board.control.on_engine(sip.Ended(second.handle, "local", 487))
    assert board.worker.results() == ["no_answer"] and call.alive


async def test_an_attended_transfer_hands_over_the_answered_call(board: Board) -> None:
    call = transfer(board, "attended")
    second = answer(board)
    assert ("refer", TARGET, second.handle) in board.engine.to(call.handle)
    board.control.on_engine(sip.Ended(second.handle, "remote"))  # replaced, before the far end tells us
    assert board.worker.results() == []
    notify(board, call, 200)
    assert board.worker.results() == ["transferred"]
    assert "hangup" in board.engine.names(call.handle)


async def test_an_attended_transfer_that_is_refused_is_bridged(board: Board) -> None:
    call = transfer(board, "attended")
    answer(board)
    notify(board, call, 405)
    assert board.worker.results() == ["transferred"]
    assert "Bridge" in board.plane.names(call) and call.alive


async def test_an_attended_transfer_whose_target_is_gone_fails(board: Board) -> None:
    call = transfer(board, "attended")
    second = answer(board)
    board.control.on_engine(sip.Ended(second.handle, "remote"))
    notify(board, call, 481)
    assert board.worker.results() == ["failed"] and call.alive


@pytest.mark.parametrize("mode", ["blind", "bridged", "attended"])
@pytest.mark.parametrize(
    "to", ["+4900123", "sip:someone@elsewhere.example", "777", "sip:a@127.0.0.1>\r\nRoute: <sip:evil>", ""]
)
async def test_a_brain_cannot_send_a_caller_where_a_program_could_not_call(mode: str, to: str) -> None:
    board = Board(msgspec.structs.replace(CONFIG, limits=Limits(deny_numbers=("+4900*",))))
    call = transfer(board, mode, to)
    assert board.worker.results() == ["blocked"]
    assert not {"refer", "place"} & {name for name, *_ in board.engine.asked}
    assert call.alive


async def test_without_a_row_or_an_address_the_caller_stays_with_the_agent() -> None:
    board = Board(rows=1)
    transfer(board, "bridged")
    assert board.worker.results() == ["congested"]
    board = Board()
    board.engine.places_nothing = True
    transfer(board, "bridged")
    assert board.worker.results() == ["failed"]


async def test_a_second_wish_does_not_disturb_a_transfer_under_way(board: Board) -> None:
    call = transfer(board, "bridged")
    board.says(messages.Transfer(call.id, "+4930888", "blind"))
    assert board.worker.results() == [] and "refer" not in board.engine.names(call.handle)
    refuse(board, 486)
    assert board.worker.results() == ["busy"]


# ---- REFER from the far end

ALLOWED = msgspec.structs.replace(CONFIG, sip=Sip(refer="allow"))
REFER_TO = "sip:777@127.0.0.1:5099"


def asks(board: Board, call: Call, refer_to: str = REFER_TO) -> None:
    board.control.on_engine(sip.TransferRequested(call.handle, refer_to, "<sip:caller@y>"))


@pytest.mark.parametrize(
    ("config", "refer_to", "status"),
    [(CONFIG, REFER_TO, 603), (ALLOWED, "sip:777@elsewhere.example", 403), (ALLOWED, "mailto:me@x", 403)],
)
async def test_refer_is_refused_by_policy(config: Config, refer_to: str, status: int) -> None:
    board = Board(config)
    call = board.incoming()
    asks(board, call, refer_to)
    assert ("reject_refer", status) in board.engine.to(call.handle) and call.alive
    assert not any(name == "place" for name, *_ in board.engine.asked)


async def test_an_allowed_refer_moves_the_call_with_its_row_and_its_conversation() -> None:
    board = Board(ALLOWED)
    call = board.incoming()
    old = call.handle
    asks(board, call, f"{REFER_TO}?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&Subject=no")
    new, placed = board.placed()
    assert placed.to == REFER_TO and placed.from_user == "agent"
    assert placed.headers == (("Replaces", "a@b;to-tag=1;from-tag=2"), ("Referred-By", "<sip:caller@y>"))
    board.control.on_engine(sip.Progress(new, 180, "Ringing", None))
    board.control.on_engine(sip.Answered(new, LATER))
    wanted: list[tuple[Any, ...]] = [
        ("accept_refer",),
        ("notify_refer", 180, "Ringing", False),
        ("notify_refer", 200, "OK", True),
        ("hangup",),
    ]
    assert board.engine.to(old)[-4:] == wanted
    board.control.on_engine(sip.Ended(old, "local"))
    assert call.state is CallState.CONNECTED and call.handle == new
    stream = board.plane.to(call)[-1]
    assert isinstance(stream, media.SetStream) and stream.remote_port == 31000
    assert not any(isinstance(message, messages.Ended) for message in board.worker.heard)
    board.control.on_engine(sip.Ended(new, "remote"))
    assert not call.alive


async def test_a_refused_move_leaves_the_call_where_it_was() -> None:
    board = Board(ALLOWED)
    call = board.incoming()
    asks(board, call)
    new, _ = board.placed()
    board.control.on_engine(sip.Ended(new, "refused", 486, "Busy Here"))
    assert ("notify_refer", 486, "Busy Here", True) in board.engine.to(call.handle)
    assert call.state is CallState.CONNECTED and "hangup" not in board.engine.names(call.handle)


async def test_a_far_end_that_leaves_while_its_target_rings_stops_the_ringing() -> None:
    board = Board(ALLOWED)
    call = board.incoming()
    asks(board, call)
    new, _ = board.placed()
    board.control.on_engine(sip.Ended(call.handle, "remote"))
    assert "hangup" in board.engine.names(new)
    assert not call.alive
