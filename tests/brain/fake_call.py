"""A call whose far end is the test."""

from collections.abc import Mapping
from typing import Any

from sipagent.brain import Caller


class FakeCall:
    """Call controls that write down what the brain did."""

    def __init__(self, history: tuple[Mapping[str, Any], ...] = (), transfer_outcome: str = "transferred") -> None:
        self.caller = Caller("call-1", "inbound", "+4930123", "+4930456")
        self.variables: dict[str, Any] = {}
        self.history = history
        self.said: list[str] = []
        self.hung_up: str | None = None
        self.digits = ""
        self.transferred: list[tuple[str, str]] = []
        self.wishes: list[dict[str, Any]] = []  # what is to become of the agent, one for each transfer
        self.held: list[bool] = []
        self.texts: list[str] = []
        self._transfer_outcome = transfer_outcome

    def set_variable(self, name: str, value: Any) -> None:
        self.variables[name] = value

    def say(self, text: str) -> None:
        self.said.append(text)

    def hangup(self, disposition: str = "") -> None:
        self.hung_up = disposition

    def send_digits(self, digits: str) -> None:
        self.digits += digits

    def send_text(self, body: str, content_type: str = "text/plain") -> None:
        self.texts.append(body)

    def hold(self, held: bool) -> None:
        self.held.append(held)

    async def transfer(self, to: str, mode: str = "blind", ring_seconds: float = 25.0, **wish: Any) -> str:
        self.transferred.append((to, mode))
        self.wishes.append(wish)
        return self._transfer_outcome
