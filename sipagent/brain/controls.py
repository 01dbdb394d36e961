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

    def set_variable(self, name: str, value: Any) -> None:
        """Keep a value, of a type that JSON has, for the call's record."""

    def say(self, text: str) -> None:
        """Speak, after what is being said now."""

    def hangup(self, disposition: str = "") -> None:
        """End the call when everything said so far has been heard to its last sample."""

    def send_digits(self, digits: str) -> None:
        """Send DTMF: 0-9, *, #, A-D."""

    def send_text(self, body: str, content_type: str = "text/plain") -> None:
        """Send a SIP MESSAGE within the call."""

    def hold(self, held: bool) -> None:
        """Put the far end on hold, or take it back."""

    async def transfer(self, to: str, mode: str = "blind", ring_seconds: float = 25.0) -> str:
        """Transfer the caller to a number or SIP URI; `mode` is blind, attended or bridged.

        Returns "transferred", or the name of the outcome that says why not: then the call is the brain's again.
        """
