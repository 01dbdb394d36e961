"""Requests with what belongs to them: one that came in and the way back, one of ours and what follows from it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sipmessage import Request, Response

from sipagent.sip.digest import Authentication
from sipagent.sip.engine import HeaderList
from sipagent.sip.flow import Flow
from sipagent.sip.transaction import ClientTransaction, ServerTransaction


@dataclass(slots=True, eq=False)
class Incoming:
    """A request and the way back to its sender."""

    request: Request
    flow: Flow  # where the request came from; requests in the other direction may use it
    reply: Flow  # where responses go (RFC 3581, RFC 3261 §18.2.2)
    transaction: ServerTransaction
    key: tuple[str, ...]

    @property
    def deadline(self) -> float | None:
        """The transaction's."""
        return self.transaction.deadline


@dataclass(slots=True, eq=False)
class Exchange:
    """A request of ours and what follows from it. `hop` is the URI that it is sent to."""

    request: Request  # without Via; with Contact when `contact_user` is None
    hop: str
    on_response: Callable[[Response, float], None]
    on_failure: Callable[[int, float], None]  # 408 or 503 that we made ourselves
    on_late: Callable[[Response, float], None] | None = None  # a 2xx from a target that we had given up waiting for
    contact_user: str | None = None
    authentication: Authentication | None = None  # whose password may answer a challenge
    trunk: str = ""  # and the trunk whose far end may ask for it
    next_cseq: Callable[[], int] | None = None  # for a repetition; None = count from the request's own
    failover: bool = False  # 503, time-out and a broken connection lead to the next target (RFC 3263 §4.3)
    flow: Flow | None = None
    transaction: ClientTransaction | None = None  # the latest; a challenge or a failover makes a new one
    search: int = 0  # key of its Locate, the same for every attempt
    attempt: int = 0
    tried: set[tuple[str, str, int]] = field(default_factory=set)  # where it has been sent: protocol, address, port
    challenges: int = 0
    cancelled: bool = False
    cancel_headers: HeaderList = ()
    answered: bool = False  # any response has come
    sent: bytes = b""
    problem: str = ""  # why no target could be reached
    hastening: bool = False  # the next target is looked for while the last one may still answer
    silent: bool = False  # a target was reached and did not answer
    refusal: Response | None = field(default=None)  # the 503 that made us look for another target
