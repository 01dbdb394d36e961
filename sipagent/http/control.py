"""The seam between HTTP and call control: what the endpoint may ask, and what it may be refused.

All methods are called in the event loop of the signalling plane and return at once; what a request leads to is told
by the events of the call. So HTTP can be tested against a few lines of Python, and call control knows no HTTP.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import Metric

from sipagent.errors import SipagentError


class Refusal(Enum):
    """Why call control says no; `sipagent.http.problems` gives each its status."""

    NO_SUCH_CALL = "no-such-call"
    NO_CAPTURE = "no-capture"  # nobody has asked for one, or its file is gone
    NO_RECORDING = "no-recording"
    WRONG_STATE = "wrong-state"  # answer, digits, transfer … at a moment that does not allow it
    NO_SUCH_TRUNK = "no-such-trunk"
    NO_SUCH_BRAIN = "no-such-brain"
    NO_ROUTE = "no-route"  # neither the request nor a route names a brain or a trunk
    DESTINATION_NOT_ALLOWED = "destination-not-allowed"
    TOO_MANY_REQUESTS = "too-many-requests"  # a rate or cap on placing calls
    NO_CAPACITY = "no-capacity"  # `max_calls` is reached, or no row or worker is free
    TRUNK_UNAVAILABLE = "trunk-unavailable"
    DRAINING = "draining"  # the service is on its way out


class Refused(SipagentError):  # noqa: N818 - a refusal is an answer, not a fault
    """Raised by `CallControl`; `detail` is for the reader, `retry_after_seconds` 0 = do not tell."""

    def __init__(self, refusal: Refusal, detail: str, retry_after_seconds: int = 0) -> None:
        self.refusal, self.detail, self.retry_after_seconds = refusal, detail, retry_after_seconds
        super().__init__(f"{refusal.value}: {detail}")


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call to place. `to` is an E.164 number or a SIP URI, both checked; "" elsewhere = the configuration decides."""

    to: str
    from_number: str = ""
    trunk: str = ""
    brain: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransferWish:
    """Where the far end is to go, and what becomes of the agent; fields as in `messages.Transfer`."""

    to: str
    mode: str = "blind"
    ring_seconds: float = 25.0
    whisper: str = ""
    listen: bool = False
    back: bool = False
    back_key: str = ""


@dataclass(frozen=True, slots=True)
class CallView:
    """What HTTP shows of a call. Times are Unix seconds, None = not yet; `outcome` is "" while the call lasts."""

    id: str
    direction: str  # inbound | outbound
    state: str  # value of sipagent.call.CallState
    from_number: str
    to_number: str
    trunk: str
    brain: str
    created_at: float
    answered_at: float | None = None
    ended_at: float | None = None
    outcome: str = ""
    status: int = 0  # final SIP status of a call that was not answered
    reason: str = ""
    quality: Mapping[str, float] = field(default_factory=dict)  # gauges of the media plane, by name
    disposition: str = ""  # what the brain made of the call
    transcript: Sequence[Mapping[str, Any]] = ()  # so far: {"role", "text", …}
    collected_vars: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    recording: str = ""  # path of the file
    redirects: Sequence[Mapping[str, Any]] = ()  # addresses that 3xx responses named: {"to", "status", "problem"?}
    stir: Mapping[str, Any] = field(default_factory=dict)  # who vouches for the caller's number


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One event of a call; `number` counts from 1 within the call without gaps, `at` is Unix seconds.

    `type` is state, transcript, barge_in, dtmf, turn, tool, transfer, warning, …
    """

    number: int
    type: str
    at: float
    data: Mapping[str, Any]


class CallControl(Protocol):
    """The calls of this service, seen from outside."""

    def place(self, request: CallRequest) -> CallView:
        """Begin a call and return its first view (the id is in it); raises Refused."""

    def calls(self) -> Sequence[CallView]:
        """Calls in progress, oldest first, and those that ended a short while ago."""

    def call(self, call_id: str) -> CallView:
        """One call; raises Refused(NO_SUCH_CALL)."""

    def ladder(self, call_id: str) -> str:
        """The call's SIP messages as text, secrets masked, "" = none are kept; raises Refused(NO_SUCH_CALL)."""

    def ladder_svg(self, call_id: str) -> str:
        """The same as an SVG document; raises Refused(NO_SUCH_CALL)."""

    def capture(self, call_id: str, on: bool) -> None:
        """Begin or end a capture of SIP and RTP; raises Refused."""

    def captured(self, call_id: str) -> Path:
        """The file of the call's last capture; raises Refused(NO_CAPTURE). May be called in another thread."""

    def record(self, call_id: str, action: str, suffix: str = "") -> None:
        """Start, pause, resume or stop the recording; `suffix` "" = as the route says. Raises Refused."""

    def recorded(self, call_id: str) -> Path:
        """The file of the call's last recording; raises Refused(NO_RECORDING). May be called in another thread."""

    def hangup(self, call_id: str, reason: str) -> None:
        """End a call; no error when it is over already. Raises Refused(NO_SUCH_CALL)."""

    def answer(self, call_id: str) -> None:
        """Answer a caller in early media; raises Refused."""

    def reject(self, call_id: str, status: int, reason: str, contact: str, retry_after_seconds: int) -> None:
        """Refuse a caller who is not answered yet; with `contact` and a 3xx it may call there. Raises Refused."""

    def press_digits(self, call_id: str, digits: str) -> None:
        """Send DTMF; raises Refused."""

    def transfer(self, call_id: str, wish: TransferWish) -> None:
        """Transfer the far end; raises Refused."""

    def whisper(self, call_id: str, text: str, to: str) -> None:
        """Say something to one of two who are joined, `to` the colleague or the caller; raises Refused."""

    def step_in(self, call_id: str, heard: bool) -> None:
        """Let the agent take part in a talk that it listens to; not `heard`: listen only. Raises Refused."""

    def take_back(self, call_id: str) -> None:
        """Let the colleague go, the caller is the agent's again; raises Refused."""

    def hold(self, call_id: str, held: bool) -> None:
        """Put the far end on hold, or take it back; raises Refused."""

    def events(self, call_id: str, after: int = 0) -> AsyncIterator[CallEvent]:
        """Events with a number above `after`: those kept first, then live ones; ends with the call.

        Raises Refused(NO_SUCH_CALL) at once, not at the first iteration. Closing the iterator releases what it holds.
        """

    def health(self) -> Mapping[str, Any]:
        """State of the planes and of each trunk's registration, JSON-ready."""

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        """True while new calls are welcome; the mapping says what is missing."""

    def metrics(self) -> Iterable[Metric]:
        """Metric families of this moment (`prometheus_client.core`); asked at each scrape."""
