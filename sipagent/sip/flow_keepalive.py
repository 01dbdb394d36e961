"""A flow by UDP that is kept open and watched (RFC 5626 §4.4.2): STUN on the flow itself, or CRLF that nobody answers.

    0 s   request ── no answer ─► again after 0.5, 1, 2, 4, 8, 16 s, given up 8 s after the seventh (RFC 8489 §6.2.1)
          answer with the same address ─► ALIVE; with another one: the NAT's binding is a new one ─► LOST

Streams need none of this: their connections ping by themselves.
"""

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sipagent.errors import ParseError
from sipagent.sip.flow import Flow
from sipagent.sip.stun import BindingRequest, BindingResponse, decode, encode_request

CRLF: Final = b"\r\n\r\n"
RTO_S: Final = 0.5
SENDS: Final = 7
LAST_WAIT_S: Final = 16 * RTO_S
SPREAD: Final = (0.8, 0.97)  # of the interval: 24 to 29 s of 30 (RFC 5626 §4.4.2)


class Outcome(Enum):
    """What a keepalive says of its flow."""

    ALIVE = "alive"
    LOST = "lost"  # it answered before, or it has another address now: register anew
    UNANSWERED = "unanswered"  # and never was answered: perhaps the far end speaks no STUN


@dataclass(frozen=True, slots=True)
class FlowOwner:
    """What a keepalive needs: its flow (None = not yet), its interval in seconds, and who hears of it."""

    flow: Callable[[], Flow | None]
    interval_s: Callable[[], float]
    send: Callable[[Flow, bytes], None]
    tell: Callable[[Outcome, float], None]


class FlowKeepalive:
    """One flow. `receive` is to be given the STUN datagrams of its socket."""

    def __init__(self, owner: FlowOwner, stun: bool, rng: random.Random, now: float) -> None:
        self.deadline: float | None = now + owner.interval_s() * rng.random()
        self._owner, self._stun, self._rng = owner, stun, rng
        self._request: BindingRequest | None = None
        self._flow: Flow | None = None
        self._sent = 0
        self._mapped: tuple[str, int] | None = None  # our address as the far end sees it
        self._answered = False  # ever

    def on_deadline(self, now: float) -> None:
        """The next keepalive, or the same once more."""
        if self._request is None:
            self._begin(now)
        elif self._sent < SENDS:
            self._ask(now)
        else:
            self._request, self._mapped = None, None
            self._rest(now)
            self._owner.tell(Outcome.LOST if self._answered else Outcome.UNANSWERED, now)

    def receive(self, data: bytes, source: tuple[str, int], now: float) -> None:
        """A STUN datagram; only the answer to our own question, from where it was asked, counts."""
        if self._request is None or self._flow is None or source != self._flow.remote:
            return
        try:
            found = decode(data)
        except ParseError:
            return
        if not isinstance(found, BindingResponse) or found.transaction_id != self._request.transaction_id:
            return
        mapped = (found.address, found.port) if found.address else self._mapped
        moved = self._mapped is not None and mapped != self._mapped
        self._request, self._mapped, self._answered = None, mapped, True
        self._rest(now)
        self._owner.tell(Outcome.LOST if moved else Outcome.ALIVE, now)

    def _begin(self, now: float) -> None:
        flow = self._owner.flow()
        if flow is None or flow.reliable:
            self._rest(now)
            return
        if flow != self._flow:
            self._flow, self._mapped, self._answered = flow, None, False
        if self._stun:
            self._request, self._sent = BindingRequest(secrets.token_bytes(12)), 0
            self._ask(now)
        else:
            self._owner.send(flow, CRLF)
            self._rest(now)

    def _ask(self, now: float) -> None:
        assert self._flow is not None and self._request is not None
        self._owner.send(self._flow, encode_request(self._request))
        self._sent += 1
        self.deadline = now + (LAST_WAIT_S if self._sent == SENDS else RTO_S * (1 << (self._sent - 1)))

    def _rest(self, now: float) -> None:
        self.deadline = now + self._owner.interval_s() * self._rng.uniform(*SPREAD)
