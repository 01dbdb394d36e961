"""Transactions (RFC 3261 §17 with the corrections of RFC 6026), without input or output of their own.

`receive` takes a message, `on_deadline` the time; `drain` gives what is to be done: bytes to send, messages for the
user, and the end. What a table does not list is ignored: the network may deliver anything at any time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from sipmessage import Request, Response

from sipagent.sip import message
from sipagent.sip.timing import TimerSettings, earliest


class State(Enum):
    """The states of figures 5 to 8, and Accepted of RFC 6026."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


class Input(Enum):
    """What can happen to a transaction; for a server the statuses are the user's answers."""

    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    REQUEST = "request again"
    ACK = "ACK"
    REPEAT = "timer A, E or G"
    TIMEOUT = "timer B, F or H"
    LINGER = "timer D, I, J, K, L or M"
    TRANSPORT_ERROR = "transport error"


Table = Mapping[tuple[State, Input], State]

# RFC 3261 figure 5, RFC 6026 §8.4
INVITE_CLIENT: Table = {
    (State.CALLING, Input.REPEAT): State.CALLING,
    (State.CALLING, Input.PROVISIONAL): State.PROCEEDING,
    (State.CALLING, Input.SUCCESS): State.ACCEPTED,
    (State.CALLING, Input.FAILURE): State.COMPLETED,
    (State.CALLING, Input.TIMEOUT): State.TERMINATED,
    (State.CALLING, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.PROCEEDING, Input.PROVISIONAL): State.PROCEEDING,
    (State.PROCEEDING, Input.SUCCESS): State.ACCEPTED,
    (State.PROCEEDING, Input.FAILURE): State.COMPLETED,
    (State.PROCEEDING, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.COMPLETED, Input.FAILURE): State.COMPLETED,
    (State.COMPLETED, Input.LINGER): State.TERMINATED,
    (State.COMPLETED, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.ACCEPTED, Input.SUCCESS): State.ACCEPTED,
    (State.ACCEPTED, Input.LINGER): State.TERMINATED,
}

# RFC 3261 figure 6
CLIENT: Table = {
    (State.TRYING, Input.REPEAT): State.TRYING,
    (State.TRYING, Input.PROVISIONAL): State.PROCEEDING,
    (State.TRYING, Input.SUCCESS): State.COMPLETED,
    (State.TRYING, Input.FAILURE): State.COMPLETED,
    (State.TRYING, Input.TIMEOUT): State.TERMINATED,
    (State.TRYING, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.PROCEEDING, Input.REPEAT): State.PROCEEDING,
    (State.PROCEEDING, Input.PROVISIONAL): State.PROCEEDING,
    (State.PROCEEDING, Input.SUCCESS): State.COMPLETED,
    (State.PROCEEDING, Input.FAILURE): State.COMPLETED,
    (State.PROCEEDING, Input.TIMEOUT): State.TERMINATED,
    (State.PROCEEDING, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.COMPLETED, Input.LINGER): State.TERMINATED,
}

# RFC 3261 figure 7, RFC 6026 §8.5: a 2xx leads to Accepted, its repetition is the user's business
INVITE_SERVER: Table = {
    (State.PROCEEDING, Input.REQUEST): State.PROCEEDING,
    (State.PROCEEDING, Input.PROVISIONAL): State.PROCEEDING,
    (State.PROCEEDING, Input.SUCCESS): State.ACCEPTED,
    (State.PROCEEDING, Input.FAILURE): State.COMPLETED,
    (State.PROCEEDING, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.COMPLETED, Input.REQUEST): State.COMPLETED,
    (State.COMPLETED, Input.REPEAT): State.COMPLETED,
    (State.COMPLETED, Input.ACK): State.CONFIRMED,
    (State.COMPLETED, Input.TIMEOUT): State.TERMINATED,
    (State.COMPLETED, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.CONFIRMED, Input.ACK): State.CONFIRMED,
    (State.CONFIRMED, Input.LINGER): State.TERMINATED,
    (State.ACCEPTED, Input.REQUEST): State.ACCEPTED,
    (State.ACCEPTED, Input.ACK): State.ACCEPTED,
    (State.ACCEPTED, Input.SUCCESS): State.ACCEPTED,
    (State.ACCEPTED, Input.LINGER): State.TERMINATED,
}

# RFC 3261 figure 8; after 64*T1 the client has given up and an answer would only do harm (RFC 4320 §4.2)
SERVER: Table = {
    (State.TRYING, Input.REQUEST): State.TRYING,
    (State.TRYING, Input.TIMEOUT): State.TERMINATED,
    (State.PROCEEDING, Input.TIMEOUT): State.TERMINATED,
    (State.TRYING, Input.PROVISIONAL): State.PROCEEDING,
    (State.TRYING, Input.SUCCESS): State.COMPLETED,
    (State.TRYING, Input.FAILURE): State.COMPLETED,
    (State.TRYING, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.PROCEEDING, Input.REQUEST): State.PROCEEDING,
    (State.PROCEEDING, Input.PROVISIONAL): State.PROCEEDING,
    (State.PROCEEDING, Input.SUCCESS): State.COMPLETED,
    (State.PROCEEDING, Input.FAILURE): State.COMPLETED,
    (State.PROCEEDING, Input.TRANSPORT_ERROR): State.TERMINATED,
    (State.COMPLETED, Input.REQUEST): State.COMPLETED,
    (State.COMPLETED, Input.LINGER): State.TERMINATED,
    (State.COMPLETED, Input.TRANSPORT_ERROR): State.TERMINATED,
}


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send these bytes on the transaction's flow."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message for the transaction's user."""

    message: Request | Response


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No final answer came (or, for a server, no ACK), or the transport broke."""

    transport: bool


Output = Transmit | Deliver | GaveUp


def _status_input(status: int) -> Input:
    if status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if status < 300 else Input.FAILURE


class ClientTransaction:
    """A request that we sent; send it by draining right after construction. RFC 3261 §17.1."""

    def __init__(self, request: Request, reliable: bool, settings: TimerSettings, now: float) -> None:
        self.request = request
        self.invite = request.method == "INVITE"
        self.table = INVITE_CLIENT if self.invite else CLIENT
        self.state = State.CALLING if self.invite else State.TRYING
        self._reliable, self._settings = reliable, settings
        self._data = message.serialize(request)
        self._ack = b""
        self._interval_s = settings.t1_s
        self._repeat_at = None if reliable else now + settings.t1_s  # timer A, E
        self._timeout_at: float | None = now + settings.give_up_s  # timer B, F
        self._linger_at: float | None = None  # timer D, K, M
        self._outputs: list[Output] = [Transmit(self._data)]

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return earliest(self._repeat_at, self._timeout_at, self._linger_at)

    def drain(self) -> list[Output]:
        """What is to be done, once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def receive(self, response: Response, now: float) -> None:
        """A response whose branch and method are ours."""
        before = self.state
        if not self._step(_status_input(response.code)):
            return
        if response.code < 200:
            if self.invite:
                self._repeat_at = self._timeout_at = None  # the caller of an INVITE may wait as long as it rings
            elif self._repeat_at is not None and before is State.TRYING:
                self._interval_s = self._settings.t2_s
            self._outputs.append(Deliver(response))
        elif self.invite and response.code >= 300:
            if before is not State.COMPLETED:
                self._ack = message.serialize(failure_ack(self.request, response))
                self._stop(now + (0.0 if self._reliable else self._settings.timer_d_s))
            self._outputs.append(Transmit(self._ack))  # before the user may send the request again
            if before is not State.COMPLETED:
                self._outputs.append(Deliver(response))
        else:
            if before is not State.ACCEPTED:
                linger_s = self._settings.give_up_s if self.invite else 0.0 if self._reliable else self._settings.t4_s
                self._stop(now + linger_s)
            self._outputs.append(Deliver(response))

    def on_deadline(self, now: float) -> None:
        """Timers A to F, K and M."""
        if self._linger_at is not None and now >= self._linger_at:
            self._step(Input.LINGER)
            self._stop(None)
        elif self._timeout_at is not None and now >= self._timeout_at:
            self._step(Input.TIMEOUT)
            self._stop(None)
            self._outputs.append(GaveUp(transport=False))
        elif self._repeat_at is not None and now >= self._repeat_at:
            self._step(Input.REPEAT)
            self._interval_s *= 2
            if not self.invite:
                self._interval_s = min(self._interval_s, self._settings.t2_s)
            self._repeat_at = now + self._interval_s
            self._outputs.append(Transmit(self._data))

    def fail(self, now: float) -> None:
        """The transport could not send, or the connection is gone."""
        unanswered = self.state in (State.CALLING, State.TRYING, State.PROCEEDING)
        if self._step(Input.TRANSPORT_ERROR):
            self._stop(None)
            if unanswered:
                self._outputs.append(GaveUp(transport=True))

    def _stop(self, linger_at: float | None) -> None:
        self._repeat_at = self._timeout_at = None
        self._linger_at = linger_at

    def _step(self, event: Input) -> bool:
        following = self.table.get((self.state, event))
        if following is None:
            return False
        self.state = following
        return True


class ServerTransaction:
    """A request that we got. The user answers with `respond`; RFC 3261 §17.2."""

    def __init__(self, request: Request, reliable: bool, settings: TimerSettings, now: float) -> None:
        self.request = request
        self.invite = request.method == "INVITE"
        self.table = INVITE_SERVER if self.invite else SERVER
        self.state = State.PROCEEDING if self.invite else State.TRYING
        self._reliable, self._settings = reliable, settings
        self._last = b""
        self._interval_s = settings.t1_s
        self._repeat_at: float | None = None  # timer G
        self._timeout_at = None if self.invite else now + settings.give_up_s  # timer H; their timer F
        self._linger_at: float | None = None  # timer I, J, L
        self._outputs: list[Output] = []

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return earliest(self._repeat_at, self._timeout_at, self._linger_at)

    @property
    def answered(self) -> bool:
        """Whether a final response has been given."""
        return self.state not in (State.TRYING, State.PROCEEDING)

    def drain(self) -> list[Output]:
        """What is to be done, once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def receive(self, request: Request, now: float) -> None:
        """The same request again, or the ACK of a failure."""
        if request.method == "ACK":
            if self.state is State.COMPLETED and self._step(Input.ACK):
                self._repeat_at = self._timeout_at = None
                self._linger_at = now + (0.0 if self._reliable else self._settings.t4_s)
        elif self._step(Input.REQUEST) and self._last and self.state is not State.ACCEPTED:
            # RFC 6026 §7.1: in Accepted the user repeats the 2xx, a repeated INVITE triggers nothing
            self._outputs.append(Transmit(self._last))

    def respond(self, response: Response, now: float) -> bool:
        """Send a response; False when the state does not allow it any more."""
        if not self._step(_status_input(response.code)):
            return False
        self._last = message.serialize(response)
        self._outputs.append(Transmit(self._last))
        if response.code >= 200 and self._linger_at is None and (not self.invite or self._timeout_at is None):
            if not self.invite:
                self._timeout_at = None
                self._linger_at = now + (0.0 if self._reliable else self._settings.give_up_s)  # timer J
            elif response.code < 300:
                self._linger_at = now + self._settings.give_up_s  # timer L
            else:
                self._repeat_at = None if self._reliable else now + self._settings.t1_s
                self._timeout_at = now + self._settings.give_up_s
        return True

    def on_deadline(self, now: float) -> None:
        """Timers G to J and L."""
        if self._linger_at is not None and now >= self._linger_at:
            self._step(Input.LINGER)
            self._stop()
        elif self._timeout_at is not None and now >= self._timeout_at:
            self._step(Input.TIMEOUT)
            self._stop()
            self._outputs.append(GaveUp(transport=False))
        elif self._repeat_at is not None and now >= self._repeat_at:
            self._step(Input.REPEAT)
            self._interval_s = min(self._interval_s * 2, self._settings.t2_s)
            self._repeat_at = now + self._interval_s
            self._outputs.append(Transmit(self._last))

    def fail(self, now: float) -> None:
        """The transport is gone."""
        if self._step(Input.TRANSPORT_ERROR):
            self._stop()
            self._outputs.append(GaveUp(transport=True))

    def _stop(self) -> None:
        self._repeat_at = self._timeout_at = self._linger_at = None

    def _step(self, event: Input) -> bool:
        following = self.table.get((self.state, event))
        if following is None:
            return False
        self.state = following
        return True


def failure_ack(invite: Request, response: Response) -> Request:
    """The ACK of a 300-699, part of the INVITE's own transaction (RFC 3261 §17.1.1.3)."""
    ack = Request("ACK", invite.uri)
    ack.headers.add("Via", message.values(invite, "Via")[0])
    ack.headers.add("Max-Forwards", "70")
    for route in invite.headers.getlist("Route"):
        ack.headers.add("Route", route)
    ack.headers.add("From", invite.headers["From"])
    ack.headers.add("To", response.headers["To"])
    ack.headers.add("Call-ID", invite.headers["Call-ID"])
    ack.headers.add("CSeq", f"{message.cseq(invite)[0]} ACK")
    return ack


def client_key(response: Response) -> tuple[str, str]:
    """RFC 3261 §17.1.3: branch of the top Via, and the method in CSeq."""
    return message.top_via(response).branch, message.cseq(response)[1]


def server_key(request: Request) -> tuple[str, ...]:
    """RFC 3261 §17.2.3; requests of RFC 2543 have no unique branch and are matched by what else names them."""
    via = message.top_via(request)
    method = "INVITE" if request.method == "ACK" else request.method
    if via.branch.startswith("z9hG4bK") and len(via.branch) > 7:
        return via.branch, via.sent_by, method
    sequence, _ = message.cseq(request)
    tag = message.address(request, "From").tag
    return "2543", message.call_id(request), str(sequence), tag, via.sent_by, via.branch, method
