"""Audio before the answer, as call control sees it: who is told what, and what becomes of the call."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from sipagent.calls.call import Call, CallState
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.service.config.tree import Limits, Records
from sipagent.service.http_control import HttpControl
from sipagent.service.recordings import RecordingPaths
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, SDP, Board

EARLY = SDP.replace(b"audio 30000", b"audio 31000")
RECORDING = msgspec.structs.replace(CONFIG, route=(msgspec.structs.replace(CONFIG.route[0], record="wav"),))


def offered(board: Board, offer: bytes | None = SDP, *options: str) -> Call:
    """A caller who hears ringing, while the brain is being asked."""
    event = sip.IncomingCall(
        "in1", "office", "sip:agent@x", "sip:+4930111@y", "Ada", "sip:agent@x", offer, (), ("127.0.0.1", 5099),
        frozenset(options),
    )  # fmt: skip
    board.control.on_engine(event)
    call = board.life.calls.by_handle("in1")
    assert call is not None
    return call


def early(board: Board, offer: bytes | None = SDP, *options: str) -> Call:
    """A caller who hears the brain, and is not answered."""
    call = offered(board, offer, *options)
    board.says(messages.Accept(call.id, early_media=True))
    board.control.on_engine(sip.EarlySession("in1", None if offer else EARLY))
    board.control.on_media(0, first_packet(call))
    return call


def first_packet(call: Call) -> media.FirstPacket:
    assert call.place is not None
    return media.FirstPacket(call.place.row, call.place.generation, "127.0.0.1", 31000)


def connected(board: Board) -> list[bool]:
    """What the worker was told: False for audio before the answer, True for the answer."""
    return [message.answered for message in board.worker.heard if isinstance(message, messages.Connected)]


async def test_a_brain_is_heard_before_it_answers_and_the_200_repeats_the_183() -> None:
    board = Board()
    call = early(board)
    assert board.engine.names("in1") == ["ring", "progress"]
    assert call.state is CallState.EARLY and connected(board) == [False] and not call.answered
    assert "SetStream" in board.plane.names(call)
    board.says(messages.Answer(call.id))
    assert board.engine.names("in1") == ["ring", "progress", "answer"]
    (_, early_body), (_, body) = board.engine.to("in1")[1:]
    assert early_body == body
    board.control.on_engine(sip.Confirmed("in1"))
    assert call.state is CallState.CONNECTED and connected(board) == [False, True]


async def test_the_conversation_waits_until_the_caller_can_hear_it() -> None:
    board = Board()
    call = offered(board)
    board.says(messages.Accept(call.id, early_media=True))
    board.control.on_media(0, first_packet(call))
    assert connected(board) == []  # no PRACK yet
    board.control.on_engine(sip.EarlySession("in1"))
    assert connected(board) == [False]
    board.control.on_engine(sip.EarlySession("in1"))  # a reminder of the 183
    assert connected(board) == [False]


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (messages.Reject("", 404, "Not in service"), ()),
        (messages.Reject("", 302, "Moved", "sip:other@x"), (("Contact", "<sip:other@x>"),)),
        (messages.Reject("", 480, "Closed", retry_after_seconds=3600), (("Retry-After", "3600"),)),
    ],
)
async def test_a_caller_who_was_refused_after_an_announcement_was_not_answered(
    message: messages.Reject, headers: sip.HeaderList
) -> None:
    board = Board()
    call = early(board)
    board.says(msgspec.structs.replace(message, call_id=call.id))
    assert board.engine.to("in1")[-1] == ("reject", message.status, message.reason, headers)
    board.life.conclude(call)
    summary = call.summary()
    assert (summary["outcome"], summary["status"], summary["ended_by"]) == ("rejected", message.status, "local")
    assert summary["duration_seconds"] == 0 and "early" in summary["times"] and "answered" not in summary["times"]


async def test_a_caller_who_gives_up_in_early_media_has_cancelled() -> None:
    board = Board()
    call = early(board)
    board.control.on_engine(sip.Cancelled("in1"))
    board.life.conclude(call)
    assert call.summary()["outcome"] == "cancelled" and not call.answered


async def test_without_an_offer_the_prack_brings_the_answer() -> None:
    board = Board()
    call = early(board, None, "100rel")
    assert board.engine.names("in1") == ["ring", "progress"] and connected(board) == [False]
    board.says(messages.Answer(call.id))
    board.control.on_engine(sip.Confirmed("in1"))
    assert call.state is CallState.CONNECTED
    streams = [command for command in board.plane.to(call) if isinstance(command, media.SetStream)]
    assert [stream.remote_port for stream in streams] == [31000]


async def test_a_caller_who_can_hear_nothing_before_the_answer_is_answered_at_once() -> None:
    board = Board()
    call = offered(board, None)
    offer = next(message for message in board.worker.heard if isinstance(message, messages.Offer))
    assert not offer.party.early_media
    board.says(messages.Accept(call.id, early_media=True))
    assert board.engine.names("in1") == ["ring", "answer"]


async def test_a_caller_whom_nobody_answers_is_refused_in_the_end() -> None:
    board = Board(msgspec.structs.replace(CONFIG, limits=Limits(early_media_seconds=0.01)))
    call = early(board)
    async with asyncio.timeout(5):
        async for event in call.watch():
            if event.get("state") == "ending":
                break
    assert board.engine.to("in1")[-1][:2] == ("reject", 480)


async def test_a_worker_that_takes_over_in_early_media_is_heard_without_a_second_183() -> None:
    board = Board()
    call = early(board)
    board.control.on_worker_lost(0)
    board.says(messages.Accept(call.id, early_media=True))
    assert board.engine.names("in1") == ["ring", "progress"] and connected(board) == [False, False]


def by_http(status: int) -> Callable[[HttpControl, str], None]:
    return lambda http, call_id: http.reject(call_id, status, "", "", 0) if status else http.answer(call_id)


@pytest.mark.parametrize(("status", "expected"), [(0, "answer"), (486, "reject")])
async def test_a_caller_in_early_media_is_answered_or_refused_by_http(status: int, expected: str) -> None:
    board = Board()
    by_http(status)(HttpControl(board.control), early(board).id)
    assert board.engine.names("in1")[-1] == expected


def placed(board: Board) -> Call:
    route = board.life.config.route[0]
    call = board.control.outbound.place("+4930999", "", board.life.config.trunk[0], route, {})
    assert call is not None
    return call


@pytest.mark.parametrize("wanted", [True, False])
async def test_what_the_network_plays_before_the_callee_answers_reaches_a_brain_that_wants_it(wanted: bool) -> None:
    board = Board()
    call = placed(board)
    board.says(messages.Accept(call.id, early_media=wanted))
    board.control.on_engine(sip.Progress(call.handle, 183, "Session Progress", EARLY))
    board.control.on_engine(sip.Progress(call.handle, 180, "Ringing", None))
    assert call.state is CallState.EARLY and "SetStream" in board.plane.names(call)
    assert connected(board) == [False] * wanted
    board.control.on_engine(sip.Answered(call.handle, EARLY))
    board.control.on_media(0, first_packet(call))
    assert connected(board) == [False] * wanted + [True]


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_the_recording_begins_with_the_first_audio(direction: str, tmp_path: Path) -> None:
    board = Board(RECORDING)
    board.life.paths = RecordingPaths(msgspec.structs.replace(CONFIG, records=Records(str(tmp_path))))
    if direction == "inbound":
        call = early(board)
    else:
        call = placed(board)
        board.says(messages.Accept(call.id))
        board.control.on_engine(sip.Progress(call.handle, 183, "Session Progress", EARLY))
    assert board.plane.names(call).count("Record") == 1
    if direction == "inbound":
        board.says(messages.Answer(call.id))
        board.control.on_engine(sip.Confirmed("in1"))
    else:
        board.control.on_engine(sip.Answered(call.handle, EARLY))
        board.control.on_media(0, first_packet(call))
    assert call.state is CallState.CONNECTED and board.plane.names(call).count("Record") == 1


async def test_a_recording_that_fails_is_told_in_the_log_and_begun_again_with_the_conversation(tmp_path: Path) -> None:
    board = Board(RECORDING)
    board.life.paths = RecordingPaths(msgspec.structs.replace(CONFIG, records=Records(str(tmp_path))))
    call = early(board)
    assert call.place is not None
    row, generation = call.place.row, call.place.generation
    (tmp_path / f"{call.id}.wav").write_bytes(b"as far as it came")
    with capture_logs() as lines:
        board.control.on_media(0, media.RecordingEnded(row, generation, "x.wav", 0, "No space left on device"))
    assert [(line["log_level"], line["problem"]) for line in lines] == [("warning", "No space left on device")]
    assert call.media.recording_problem == "No space left on device" and call.state is CallState.EARLY
    board.says(messages.Answer(call.id))
    board.control.on_engine(sip.Confirmed("in1"))
    board.control.on_media(0, first_packet(call))
    assert call.state is CallState.CONNECTED
    again = [each.path for each in board.plane.to(call) if isinstance(each, media.Record)]
    assert [Path(path).name for path in again] == [f"{call.id}.wav", f"{call.id}-2.wav"]
