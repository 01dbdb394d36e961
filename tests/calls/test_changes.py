"""What changes during a call, without a network: hold by either side, messages, silence, a redirect."""

import msgspec
import pytest

from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, SDP, Board


def directed(direction: str, version: int = 2) -> bytes:
    return SDP.replace(b"o=- 1 1", f"o=- 1 {version}".encode()) + f"a={direction}\r\n".encode()


def offers(board: Board, handle: str) -> list[bytes]:
    """Directions of our offers, in order."""
    bodies = [arguments[0] for name, *arguments in board.engine.to(handle) if name == "reoffer"]
    return [line for body in bodies for line in body.split(b"\r\n") if line in (b"a=sendonly", b"a=sendrecv")]


async def test_hold_and_resume_in_one_breath_are_offered_one_after_the_other() -> None:
    board = Board()
    call = board.incoming()
    board.says(messages.Hold(call.id, True))
    board.says(messages.Hold(call.id, False))
    assert offers(board, call.handle) == [b"a=sendonly"]
    board.control.on_engine(sip.ReofferAnswered(call.handle, directed("recvonly")))
    assert offers(board, call.handle) == [b"a=sendonly", b"a=sendrecv"]
    board.control.on_engine(sip.ReofferAnswered(call.handle, directed("sendrecv", 3)))
    assert len(offers(board, call.handle)) == 2


async def test_a_refused_hold_is_forgotten_and_may_be_tried_again() -> None:
    board = Board()
    call = board.incoming()
    for _ in range(2):
        board.says(messages.Hold(call.id, True))
        board.control.on_engine(sip.ReofferRefused(call.handle, 488, "Not Acceptable Here"))
    assert offers(board, call.handle) == [b"a=sendonly"] * 2


@pytest.mark.rfc("3264", "8.3.2", "MUST", role="both", text="the codec changes in mid-call when a re-offer asks for it")
async def test_codec_and_address_change_in_mid_call() -> None:
    board = Board()
    call = board.incoming()
    offer = SDP.replace(b"o=- 1 1", b"o=- 1 2").replace(b"RTP/AVP 0", b"RTP/AVP 8").replace(b"0 PCMU", b"8 PCMA")
    board.control.on_engine(sip.Reoffer(call.handle, offer.replace(b"audio 30000", b"audio 30100")))
    name, answer = board.engine.to(call.handle)[-1]
    assert name == "accept_reoffer" and b" RTP/AVP 8" in answer
    stream = next(command for command in reversed(board.plane.to(call)) if isinstance(command, media.SetStream))
    assert (stream.send.name, stream.remote_port) == ("PCMA", 30100)


async def test_music_plays_while_the_far_end_is_on_hold() -> None:
    talk = msgspec.structs.replace(CONFIG.conversation, hold_music="music.wav")
    board = Board(msgspec.structs.replace(CONFIG, conversation=talk))
    call = board.incoming()
    board.says(messages.Hold(call.id, True))
    play = board.plane.to(call)[-1]
    assert isinstance(play, media.Play) and (play.source, play.loop, play.exclusive) == ("music.wav", True, True)
    board.says(messages.Hold(call.id, False))
    assert isinstance(board.plane.to(call)[-1], media.StopPlay)


async def test_the_brain_hears_that_the_far_end_has_put_it_on_hold_and_silence_is_borne() -> None:
    board = Board()
    call = board.incoming()
    for direction, held in (("sendonly", True), ("sendrecv", False)):
        board.control.on_engine(sip.Reoffer(call.handle, directed(direction, 2 + (not held))))
        assert board.worker.heard[-1] == messages.HoldChanged(call.id, held)
        assert call.place is not None
        silence = media.NoMedia(call.place.row, call.place.generation, 600_000, 0)
        board.control.on_media(0, silence)
        assert call.alive  # also afterwards: such a silence began while we were on hold
    board.life.live[call.id].resumed_at -= 601.0
    board.control.on_media(0, silence)
    assert not call.alive


async def test_silence_is_told_at_once_and_then_every_ten_seconds() -> None:
    media_config = msgspec.structs.replace(CONFIG.media, rtp_timeout_seconds=0.0)
    board = Board(msgspec.structs.replace(CONFIG, media=media_config))
    call = board.incoming()
    assert call.place is not None
    for silent_ms in (*range(2_000, 25_000, 1_000), 2_000, 3_000):  # the far end speaks once, then is silent again
        board.control.on_media(0, media.NoMedia(call.place.row, call.place.generation, silent_ms, 0))
    assert [event["silent_ms"] for event in board.events(call, "no_media")] == [2_000, 12_000, 22_000, 2_000]


@pytest.mark.parametrize(
    ("status", "contact", "header"),
    [
        (302, "sip:777@127.0.0.1", (("Contact", "<sip:777@127.0.0.1>"),)),
        (302, "+4930777", (("Contact", "<tel:+4930777>"),)),
        (302, "sip:a@b>\r\nEvil: yes", ()),
        (486, "sip:777@127.0.0.1", ()),
    ],
)
async def test_a_redirect_names_a_contact_that_can_be_written(
    status: int, contact: str, header: sip.HeaderList
) -> None:
    board = Board()
    incoming = sip.IncomingCall(
        "in", "office", "sip:agent@x", "sip:caller@y", "", "sip:agent@x", SDP, (), ("127.0.0.1", 5099)
    )
    board.control.on_engine(incoming)
    call = board.life.calls.by_handle("in")
    assert call is not None
    board.says(messages.Reject(call.id, status, "Elsewhere", contact))
    assert ("reject", status, "Elsewhere", header) in board.engine.to("in")


async def test_text_goes_both_ways_and_a_digit_in_info_is_a_digit() -> None:
    board = Board()
    call = board.incoming()
    board.control.on_engine(sip.InDialogMessage(call.handle, "MESSAGE", "text/plain", b"hello"))
    assert board.worker.heard[-1] == messages.TextMessage(call.id, "text/plain", "hello")
    board.says(messages.SendText(call.id, "INFO", "application/x-note", "noted"))
    assert ("send_in_dialog", "INFO", "application/x-note", b"noted") in board.engine.to(call.handle)
    board.control.on_engine(
        sip.InDialogMessage(call.handle, "INFO", "application/dtmf-relay", b"Signal=5\r\nDuration=160")
    )
    digit = board.plane.to(call)[-1]
    assert isinstance(digit, media.InjectDigit) and (digit.digit, digit.duration_ms) == ("5", 160)
