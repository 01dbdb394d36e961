"""A media plane dies and comes back, without processes: what its calls are told, and which of them end."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sipagent.calls import media_events
from sipagent.calls.call import Call
from sipagent.rtp import control as media
from sipagent.service.config.tree import Records
from sipagent.service.recordings import RecordingPaths
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, SDP, Board

KEY = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
ENCRYPTED = SDP.replace(b"RTP/AVP", b"RTP/SAVP") + f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n".encode()


def since(board: Board, call: Call, plane: int = 0) -> list[Any]:
    """Commands for the row of a call since the plane was lost, which forgets those before."""
    assert call.place is not None
    row, generation = call.place.row, call.place.generation
    return [each for each in board.planes[plane].commands if (each.row, each.generation) == (row, generation)]


def lose(board: Board, plane: int = 0) -> None:
    board.control.on_media_lost(plane)
    board.planes[plane].commands.clear()


async def test_the_row_of_a_call_is_opened_again_where_it_was_with_all_that_was_agreed() -> None:
    board = Board()
    call = board.incoming()
    (stream,) = [each for each in board.plane.to(call) if isinstance(each, media.SetStream)]
    lose(board)
    assert call.alive and since(board, call) == []
    board.up(0)
    opened, again = since(board, call)
    assert isinstance(opened, media.OpenRow) and opened.resumed_ms >= 0 and opened.worker == 0
    assert again == stream
    assert [event["problem"] for event in board.events(call, "warning")] == ["the media plane of this call died"]
    assert len(board.events(call, "media_resumed")) == 1
    assert "hangup" not in board.engine.names(call.handle)
    board.life.hang_up(call, "over")
    assert board.plane.names(call)[-1] == "CloseRow"


async def test_the_row_of_a_call_that_outlived_its_plane_is_given_to_nobody_else() -> None:
    board = Board(rows=2)
    call = board.incoming()
    lose(board)
    board.up(0, rows=2)
    other = board.incoming()
    assert call.place is not None and other.place is not None and other.place.row != call.place.row
    assert board.life.rows.take(board.life.loop.time()) is None


async def test_what_was_decided_while_there_was_no_plane_holds_when_it_is_back() -> None:
    board = Board()
    call, gone = board.incoming(), board.incoming()
    lose(board)
    offer = SDP.replace(b"30000", b"30002").replace(b"o=- 1 1", b"o=- 1 2")
    board.control.on_engine(sip.Reoffer(call.handle, offer))
    board.control.on_engine(sip.Ended(gone.handle, "remote", 0, "hung up"))
    board.planes[0].commands.clear()  # they were sent to nobody
    board.up(0)
    assert [each.remote_port for each in since(board, call) if isinstance(each, media.SetStream)] == [30002]
    assert since(board, gone) == []


async def test_a_plane_that_does_not_come_back_ends_its_calls_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_events, "REPAIR_S", 0.0)
    board = Board(planes=2)
    calls = [board.incoming(), board.incoming()]
    planes = [call.place.plane for call in calls if call.place is not None]
    assert sorted(planes) == [0, 1]
    lose(board, planes[0])
    await asyncio.sleep(0.01)
    assert not calls[0].alive and calls[1].alive
    assert calls[0].ending is not None and calls[0].ending.reason == "media plane died"
    assert ("hangup", ()) in board.engine.to(calls[0].handle)


async def test_a_call_that_is_there_each_time_its_plane_dies_is_ended() -> None:
    board = Board()
    call = board.incoming()
    alive = []
    for _ in range(3):
        lose(board)
        alive.append(call.alive)
        board.up(0)
    assert alive == [True, True, False]


async def test_a_call_whose_port_is_taken_afterwards_is_ended() -> None:
    board = Board()
    call = board.incoming()
    lose(board)
    assert call.place is not None
    ports = tuple(0 if row == call.place.row else 4000 + 2 * row for row in range(4))
    board.control.on_media_ready(0, media.MediaReady(ports, "epoll"))
    assert not call.alive and since(board, call) == []


async def test_an_encrypted_call_gets_its_keys_again() -> None:
    trunk = msgspec.structs.replace(CONFIG.trunk[0], srtp="optional")
    board = Board(msgspec.structs.replace(CONFIG, trunk=(trunk,)))
    call = board.incoming(offer=ENCRYPTED)
    (before,) = [each for each in board.plane.to(call) if isinstance(each, media.SetStream)]
    lose(board)
    assert call.alive
    board.up(0)
    (again,) = [each for each in since(board, call) if isinstance(each, media.SetStream)]
    assert again.srtp is not None and again.srtp == before.srtp


async def test_joined_calls_are_joined_again_once_both_are_open() -> None:
    board = Board()
    first, second = board.incoming(), board.incoming()
    assert second.place is not None
    other = second.place
    bridge = lambda row, generation: media.Bridge(row, generation, other.row, other.generation)  # noqa: E731
    board.life.tell_row(first, bridge)
    lose(board)
    board.up(0)
    names = [type(each).__name__ for each in board.planes[0].commands]
    assert names.index("Bridge") > max(index for index, name in enumerate(names) if name == "OpenRow")
    board.life.tell_row(first, media.Unbridge)
    lose(board)
    board.up(0)
    assert "Bridge" not in [type(each).__name__ for each in board.planes[0].commands]


async def test_music_plays_on_and_a_recording_goes_on_in_another_file(tmp_path: Path) -> None:
    board = Board()
    board.life.paths = RecordingPaths(msgspec.structs.replace(CONFIG, records=Records(str(tmp_path))))
    call = board.incoming()
    board.life.tell_row(call, lambda row, generation: media.Play(row, generation, "music.wav", loop=True))
    board.life.recordings.start(call)
    lose(board)
    board.up(0)
    kinds = {type(each): each for each in since(board, call)}
    assert kinds[media.Play].source == "music.wav" and kinds[media.Record].path == str(tmp_path / f"{call.id}-2.wav")
    (event,) = board.events(call, "recording")
    assert event["path"] == str(tmp_path / f"{call.id}.wav") and "died" in event["problem"]
    board.life.tell_row(call, media.StopPlay)
    lose(board)
    board.up(0)
    assert media.Play not in [type(each) for each in since(board, call)]
