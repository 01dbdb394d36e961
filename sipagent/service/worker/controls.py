"""What a brain does to its call, as messages to the signalling plane and as work for the conversation."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from sipagent.brain.contract import Caller, Decline
from sipagent.service.messages import (
    CallEvent,
    ControlRecording,
    FromWorker,
    Hold,
    Offer,
    PressDigits,
    SendText,
    Transfer,
)
from sipagent.service.worker.meeting import Meeting

RECORDED_AS: Final = ("", "wav", "flac", "opus")


def plain(value: Any) -> Any:
    """`value` in types that JSON has; what has no such form becomes its text."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=str)


class Controls:
    """The `call` of a brain. `post` takes work that the conversation does, in order, outside of the brain's hooks."""

    def __init__(
        self,
        offer: Offer,
        send: Callable[[FromWorker], None],
        post: Callable[[Callable[[], Awaitable[None]]], None],
        say: Callable[[str], Awaitable[None]],
        play: Callable[[str], Awaitable[None]],
        answer: Callable[[], Awaitable[None]],
        hang_up: Callable[[], Awaitable[None]],
        transcript: Sequence[Mapping[str, Any]],
        meeting: Meeting,
    ) -> None:
        self._call_id, self._send, self._post = offer.call_id, send, post
        self._say, self._play, self._answer, self._hang_up = say, play, answer, hang_up
        self._variables = dict(offer.variables)
        self._transcript = transcript
        self._meeting = meeting
        self._transferred: asyncio.Future[str] | None = None
        self.answered = offer.resumed
        self.ending: str | None = None
        self.refusal = Decline(480, "Temporarily Unavailable")  # of a caller whom nobody answers
        party = offer.party
        self.caller = Caller(
            call_id=offer.call_id,
            direction=party.direction,
            from_number=party.from_number,
            to_number=party.to_number,
            from_name=party.from_name,
            trunk=party.trunk,
            headers=dict(party.headers),
            stir=party.stir,
            variables=dict(offer.variables),
            resumed=offer.resumed,
            early_media=party.early_media,
        )

    @property
    def variables(self) -> Mapping[str, Any]:
        """Those that the call was placed with, and those set since."""
        return self._variables

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """What has been said so far, also in a worker that died."""
        return tuple(self._transcript)

    @property
    def transferring(self) -> bool:
        """True while a transfer is under way."""
        return self._transferred is not None

    def set_variable(self, name: str, value: Any) -> None:
        """Keep a value, and tell those who watch the call."""
        value = self._variables[name] = plain(value)
        self._send(CallEvent(self._call_id, "variable", {"name": name, "value": value}))

    def say(self, text: str) -> None:
        """Speak, after what is being said."""
        if text:
            self._post(lambda: self._say(text))

    def play(self, path: str) -> None:
        """Play a file, after what is being said."""
        self._post(lambda: self._play(path))

    def answer(self) -> None:
        """Answer when everything said has been heard."""
        if not self.answered:
            self._post(self._answer)

    def reject(
        self, status: int = 603, reason: str = "Decline", contact: str = "", retry_after_seconds: int = 0
    ) -> None:
        """Refuse when everything said has been heard."""
        if self.ending is None:
            self.refusal = Decline(status, reason, contact, retry_after_seconds)
        self.hangup("rejected")

    def hangup(self, disposition: str = "") -> None:
        """End the call when everything said has been heard."""
        if self.ending is None:
            self.ending = disposition or "finished"
            self._post(self._hang_up)

    def send_digits(self, digits: str) -> None:
        """Send DTMF."""
        self._send(PressDigits(self._call_id, digits))

    def send_text(self, body: str, content_type: str = "text/plain") -> None:
        """Send a SIP MESSAGE."""
        self._send(SendText(self._call_id, "MESSAGE", content_type, body))

    def hold(self, held: bool) -> None:
        """Put the far end on hold, or take it back."""
        self._send(Hold(self._call_id, held))

    def start_recording(self, suffix: str = "") -> None:
        """Record both sides."""
        if suffix not in RECORDED_AS:
            raise ValueError(f"a recording is {', '.join(RECORDED_AS[1:])}, not {suffix!r}")
        self._send(ControlRecording(self._call_id, "start", suffix))

    def pause_recording(self) -> None:
        """Keep both sides out of the recording."""
        self._send(ControlRecording(self._call_id, "pause"))

    def resume_recording(self) -> None:
        """Go on with it."""
        self._send(ControlRecording(self._call_id, "resume"))

    def stop_recording(self) -> None:
        """End it."""
        self._send(ControlRecording(self._call_id, "stop"))

    @property
    def aside(self) -> bool:
        """True while the caller does not hear us, but a colleague."""
        return self._meeting.aside

    @property
    def presence(self) -> str:
        """Who is on the line with us."""
        return self._meeting.presence.value

    def whisper(self, text: str, to: str = "colleague") -> None:
        """Say something to one of caller and colleague."""
        self._meeting.whisper(text, to)

    def step_in(self) -> None:
        """Take part in the talk of the two."""
        self._meeting.step_in(True)

    def step_out(self) -> None:
        """Listen only."""
        self._meeting.step_in(False)

    def take_back(self) -> None:
        """Let the colleague go."""
        self._meeting.take_back()

    async def transfer(
        self,
        to: str,
        mode: str = "blind",
        ring_seconds: float = 25.0,
        *,
        whisper: str = "",
        listen: bool = False,
        back: bool = False,
        back_key: str = "",
    ) -> str:
        """Transfer the caller, and wait for the outcome."""
        if self._transferred is None:
            self._transferred = asyncio.get_running_loop().create_future()
            self._send(Transfer(self._call_id, to, mode, ring_seconds, whisper, listen, back, back_key))
        return await asyncio.shield(self._transferred)

    def transfer_ended(self, outcome: str) -> None:
        """The signalling plane reports how the transfer went."""
        transferred, self._transferred = self._transferred, None
        if transferred is not None and not transferred.done():
            transferred.set_result(outcome)
