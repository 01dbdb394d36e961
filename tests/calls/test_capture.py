"""Captures as the signalling plane sees them: whose messages go where, and what a call waits for at its end."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sipagent.calls.call import Call, CallState
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.service.config.tree import Config, Records
from sipagent.service.recordings import RecordingPaths
from sipagent.sip import engine as sip
from sipagent.sip.ladder import Message
from tests.calls.board import CONFIG, Board

US, THEM = ("127.0.0.1", 5060), ("127.0.0.1", 5099)


@pytest.fixture
async def board(tmp_path: Path) -> Board:
    route = msgspec.structs.replace(CONFIG.route[0], capture=True)
    board = Board(msgspec.structs.replace(CONFIG, route=(route,)))
    records = Records(directory=str(tmp_path), capture_megabytes=3)
    board.life.paths = RecordingPaths(Config(records=records))
    return board


def observe(board: Board, handle: str, message: Message) -> None:
    ((_, observer),) = [asked for asked in board.engine.asked if asked[0] == "observe"]
    observer(handle, "call-id", message)


def of(board: Board, call: Call, kind: type) -> list[Any]:
    return [command for command in board.plane.to(call) if isinstance(command, kind)]


def close(board: Board, call: Call) -> None:
    """The worker and the media plane have said their last words, but for the capture."""
    assert call.place is not None
    board.says(messages.Finished(call.id, (), {}, {}))
    board.control.on_media(0, media.RowClosed(call.place.row, call.place.generation, {}, {}))


async def test_a_route_captures_its_calls_from_the_row_to_the_last_word_of_sip(board: Board, tmp_path: Path) -> None:
    call = board.incoming()
    assert call.place is not None
    (start,) = of(board, call, media.StartCapture)
    assert (start.path, start.limit_octets) == (str(tmp_path / f"{call.id}.pcapng"), 3_000_000)
    assert board.plane.names(call)[:2] == ["OpenRow", "StartCapture"]
    bye = Message(7.0, "in", b"BYE sip:a@b SIP/2.0\r\nAuthorization: x\r\n\r\n", "UDP", US, THEM)
    observe(board, call.handle, bye)
    observe(board, "another", bye)
    (sent,) = of(board, call, media.CaptureMessage)
    assert (sent.at_ns, sent.source, sent.target) == (7_000_000_000, THEM, US)
    assert sent.data == bye.octets != bye.data
    board.control.on_engine(sip.Ended(call.handle, "remote", 0, "hung up"))
    assert len(of(board, call, media.StopCapture)) == 1
    close(board, call)
    assert call.state is not CallState.ENDED, "its capture is not closed"
    ended = media.CaptureEnded(call.place.row, call.place.generation, start.path, 100, 3, "No space left on device")
    board.control.on_media(0, ended)
    assert call.state is CallState.ENDED
    (event,) = board.events(call, "capture")
    assert (event["left_out"], event["problem"]) == (3, "No space left on device")
    assert call.summary()["capture"] == start.path


async def test_a_call_that_nobody_captures_sends_no_message_and_waits_for_nothing() -> None:
    board = Board()
    call = board.incoming()
    observe(board, call.handle, Message(7.0, "in", b"BYE", "UDP", US, THEM))
    board.control.on_engine(sip.Ended(call.handle, "remote", 0, "hung up"))
    close(board, call)
    assert call.state is CallState.ENDED
    assert not {"StartCapture", "CaptureMessage", "StopCapture"} & set(board.plane.names(call))


async def test_when_the_media_plane_dies_the_capture_goes_on_in_another_file(board: Board, tmp_path: Path) -> None:
    call = board.incoming()
    (tmp_path / f"{call.id}.pcapng").touch()
    board.control.on_media_lost(0)
    board.up(0)
    paths = [Path(command.path).name for command in of(board, call, media.StartCapture)]
    assert paths == [f"{call.id}.pcapng", f"{call.id}-2.pcapng"]
    (event,) = board.events(call, "capture")
    assert event["path"].endswith(f"/{call.id}.pcapng") and "died" in event["problem"]
    assert call.media.capture.endswith(f"{call.id}-2.pcapng") and board.life.captures.is_open(call)
