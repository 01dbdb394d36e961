"""Recordings as the signalling plane sees them: who may begin, pause and end one, and what is left of it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sipagent.calls.call import Call, CallState
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.service.config.tree import Records
from sipagent.service.recordings import RecordingPaths
from tests.calls.board import CONFIG, Board


@pytest.fixture
async def board(tmp_path: Path) -> Board:
    board = Board()
    board.life.paths = RecordingPaths(msgspec.structs.replace(CONFIG, records=Records(str(tmp_path))))
    return board


def commands(board: Board, call: Call) -> list[str]:
    """What the row was told of its recording: the name of the file, or the action."""
    told: list[str] = []
    for command in board.plane.to(call):
        if isinstance(command, media.Record):
            told.append(Path(command.path).name)
        elif isinstance(command, media.ControlRecording):
            told.append(command.action)
    return told


def states(board: Board, call: Call) -> list[str]:
    return [event["state"] for event in board.events(call, "recording_state")]


def closed(board: Board, call: Call, path: Path) -> None:
    path.touch()
    assert call.place is not None
    board.control.on_media(0, media.RecordingEnded(call.place.row, call.place.generation, str(path), 1500, ""))


def replace_plane(board: Board) -> None:
    board.control.on_media_lost(0)
    board.plane.commands.clear()
    board.up(0)


async def test_a_recording_is_begun_paused_ended_and_begun_again(board: Board, tmp_path: Path) -> None:
    call = board.incoming()
    record = board.control.changes.record
    assert [record(call, action) for action in ("start", "pause", "pause", "resume", "stop")] == [""] * 5
    assert commands(board, call) == [f"{call.id}.wav", "pause", "resume", "stop"]
    assert states(board, call) == ["recording", "paused", "recording"]
    assert record(call, "start", "flac") == "its last recording is being closed"
    closed(board, call, tmp_path / f"{call.id}.wav")
    assert record(call, "start", "flac") == ""
    assert board.life.recordings.path(call) == str(tmp_path / f"{call.id}.flac")


@pytest.mark.parametrize("action", ["pause", "resume", "stop"])
async def test_what_is_not_recorded_is_not_paused_or_ended(board: Board, action: str) -> None:
    call = board.incoming()
    assert board.control.changes.record(call, action) == "the call is not being recorded"
    assert commands(board, call) == []


async def test_a_call_is_not_recorded_twice_at_once_nor_after_its_end(board: Board) -> None:
    call = board.incoming()
    record = board.control.changes.record
    assert (record(call, "start"), record(call, "start")) == ("", "the call is being recorded already")
    board.life.hang_up(call, "over")
    assert record(call, "pause") == "the call is ending"
    assert record(call, "rewind") == "the call is ending"


async def test_a_brain_does_the_same_and_is_told_in_the_events_when_it_cannot(board: Board) -> None:
    call = board.incoming()
    for action in ("pause", "start", "pause"):
        board.says(messages.ControlRecording(call.id, action))
    assert commands(board, call) == [f"{call.id}.wav", "pause"]
    assert [event["problem"] for event in board.events(call, "warning")] == [
        "pause recording: the call is not being recorded"
    ]


async def test_a_call_whose_media_plane_died_in_a_pause_is_not_heard_in_the_next_file(board: Board) -> None:
    call = board.incoming()
    board.control.changes.record(call, "start")
    board.control.changes.record(call, "pause")
    replace_plane(board)
    told = commands(board, call)
    assert told[-1] == "pause" and len(told) == 2


async def test_a_recording_that_was_being_ended_when_the_plane_died_is_not_begun_anew(board: Board) -> None:
    call = board.incoming()
    board.control.changes.record(call, "start")
    board.control.changes.record(call, "stop")
    replace_plane(board)
    assert commands(board, call) == [] and not board.life.recordings.is_open(call)


async def test_the_end_of_a_call_waits_for_its_file(board: Board, tmp_path: Path) -> None:
    call = board.incoming()
    board.control.changes.record(call, "start")
    board.life.hang_up(call, "over")
    assert call.place is not None
    board.life.finish(call)
    board.says(messages.Finished(call.id, (), {}, {}))
    board.control.on_media(0, media.RowClosed(call.place.row, call.place.generation, {}, {}))
    ended: Any = call.state
    assert ended is not CallState.ENDED
    closed(board, call, tmp_path / f"{call.id}.wav")
    assert call.state is CallState.ENDED and call.summary()["recording"] == str(tmp_path / f"{call.id}.wav")
