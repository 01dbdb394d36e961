"""What transactions put on the wire: queued for the engine, counted, and traced for the ladder of their call."""

import random
from collections import Counter
from collections.abc import Callable

from sipagent.sip.flow import Flow, Locate, Send
from sipagent.sip.ladder import Message

Action = Send | Locate


class Wire:
    """No socket is opened here: `drain` gives what is to be sent and located."""

    def __init__(self, rng: random.Random, user_agent: str, trace: Callable[[str, Message], None]) -> None:
        self.rng, self.user_agent, self.trace = rng, user_agent, trace
        self.stats: Counter[str] = Counter()
        self._actions: list[Action] = []

    def send(self, flow: Flow, data: bytes, call_id: str, now: float) -> None:
        """The bytes of a message of the call `call_id`."""
        self.stats["messages_out"] += 1
        self.trace(call_id, Message(now, "out", data, flow.protocol, flow.local, flow.remote))
        self._actions.append(Send(flow, data))

    def send_bytes(self, flow: Flow, data: bytes) -> None:
        """What is no SIP message: a keepalive."""
        self._actions.append(Send(flow, data))

    def locate(self, wanted: Locate) -> None:
        """Ask for a flow."""
        self._actions.append(wanted)

    def drain(self) -> list[Action]:
        """What is to be sent and located, once."""
        actions, self._actions = self._actions, []
        return actions

    def token(self, size: int = 12) -> str:
        """Random text for tags, branches and Call-IDs (RFC 3261 §19.3 asks for 32 bits of it at least)."""
        return f"{self.rng.getrandbits(size * 4):0{size}x}"
