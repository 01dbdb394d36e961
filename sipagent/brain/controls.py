"""What a brain may do with its call."""

from collections.abc import Mapping
from typing import Any, Protocol

from sipagent.brain.contract import Caller


class CallControls(Protocol):
    """The call, as `self.call` of a `Brain`. Nothing here waits, except `transfer`."""

    @property
    def caller(self) -> Caller:
        """Who calls whom."""

    @property
    def variables(self) -> Mapping[str, Any]:
        """Variables of the call: those it was placed with, and those set since."""

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """What has been said so far, oldest first: {"role": "user" | "assistant", "text": …}, as heard."""

    @property
    def answered(self) -> bool:
        """False before the answer, also while there is early media."""

    def set_variable(self, name: str, value: Any) -> None:
        """Keep a value, of a type that JSON has, for the call's record."""

    def say(self, text: str) -> None:
        """Speak, after what is being said now."""

    def play(self, path: str) -> None:
        """Play a WAV file, after what is being said now."""

    def answer(self) -> None:
        """Answer a caller in early media, when everything said so far has been heard; `Brain.greeting` comes next."""

    def reject(
        self, status: int = 603, reason: str = "Decline", contact: str = "", retry_after_seconds: int = 0
    ) -> None:
        """Refuse a caller in early media, when everything said so far has been heard; as with `Decline`."""

    def hangup(self, disposition: str = "") -> None:
        """End the call when everything said so far has been heard to its last sample."""

    def send_digits(self, digits: str) -> None:
        """Send DTMF: 0-9, *, #, A-D; `w` pauses for half a second, a comma for one. Speech waits meanwhile."""

    def send_text(self, body: str, content_type: str = "text/plain") -> None:
        """Send a SIP MESSAGE within the call."""

    def hold(self, held: bool) -> None:
        """Put the far end on hold, or take it back."""

    def start_recording(self, suffix: str = "") -> None:
        """Record both sides, as wav, flac or opus; "" = as the route does. Each time into a file of its own."""

    def pause_recording(self) -> None:
        """Keep both sides out of the recording, as silence, for as long as a card number is told."""

    def resume_recording(self) -> None:
        """Go on with it."""

    def stop_recording(self) -> None:
        """End the recording before the call ends."""

    @property
    def presence(self) -> str:
        """Who is on the line: `caller`; `alone`, a colleague while the caller hears music; `joined`; `three_way`."""

    def whisper(self, text: str, to: str = "colleague") -> None:
        """Say something to the colleague or the caller, unheard by the other, while you are with both."""

    def step_in(self) -> None:
        """Be heard by caller and colleague, and answer the caller."""

    def step_out(self) -> None:
        """Listen only, again; what you say is for the colleague."""

    def take_back(self) -> None:
        """Let the colleague go: the caller is yours again, see `Brain.on_colleague_left`."""

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
        """Transfer the caller to a number or SIP URI; `mode` is blind, attended or bridged.

        Returns "transferred", or the name of the outcome that says why not: then the call is the brain's again.

        A bridged transfer keeps both with us. The colleague hears `whisper` before the two are joined. With `listen`
        you stay, silent: see `Brain.on_overheard`. With `back` the caller is yours again when the colleague hangs up,
        with `back_key` when they press that key; without either the call ends.
        """
