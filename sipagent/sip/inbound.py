"""A call that comes to us, up to its answer: the UAS core of INVITE (RFC 3261 §13.3) and of 100rel (RFC 3262 §3)."""

from dataclasses import dataclass
from typing import Final

from sipmessage import Request, Response

from sipagent.sip import message
from sipagent.sip.body import session_description
from sipagent.sip.call import Call
from sipagent.sip.call_state import CallInput, CallState
from sipagent.sip.engine import Cancelled, EarlySession, HeaderList
from sipagent.sip.exchange import Incoming
from sipagent.sip.reoffer import add_timer
from sipagent.sip.timing import Repeater, earliest

# A proxy gives an INVITE up three minutes after the last provisional response (timer C).
REMIND_S: Final = 60.0  # RFC 3261 §13.3.1.1
REMIND_RELIABLY_S: Final = 150.0  # RFC 3262 §3


@dataclass(slots=True)
class _Reliable:
    """A provisional response that waits for its PRACK."""

    response: Response
    sequence: int
    repeater: Repeater


class InboundInvite:
    """Rings, answers, refuses; takes CANCEL, PRACK and the expiry of the INVITE."""

    def __init__(self, call: Call, incoming: Incoming, offer: bytes | None, terms: HeaderList, now: float) -> None:
        """`terms` are the session timer's headers for the 2xx."""
        self.call, self.incoming, self.offer, self._terms = call, incoming, offer, terms
        request = incoming.request
        options = {tag.lower() for tag in message.tokens(request, "Supported")}
        required = {tag.lower() for tag in message.tokens(request, "Require")}
        self.supports = frozenset(options | required)
        self._reliable_required = "100rel" in required
        self._rseq = call.host.layer.rng.randrange(1, 2**20)
        self._unacknowledged: _Reliable | None = None
        self._queued: list[tuple[int, bytes, HeaderList]] = []  # provisionals behind the one without PRACK
        self._answer: tuple[bytes, HeaderList] | None = None
        self._early_answer: bytes | None = None  # brought by a PRACK when our 18x held the offer
        self.settled = False  # offer and answer were exchanged reliably, by PRACK (RFC 3262 §5)
        self._reminder: tuple[int, bytes, HeaderList] | None = None  # the last provisional response
        self._remind_at: float | None = None
        expires_s = message.integer(request, "Expires")
        self._expires_at = now + expires_s if expires_s else None  # RFC 3261 §13.3.1

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        waiting = self._unacknowledged.repeater.deadline if self._unacknowledged else None
        return earliest(waiting, self._expires_at, self._remind_at)

    def on_deadline(self, now: float) -> None:
        """Repeat a reliable provisional, give up on it, or on the whole INVITE."""
        if self._expires_at is not None and now >= self._expires_at:
            self._expires_at = None
            if self.call.step(CallInput.REFUSE):
                self._refuse(487, "", (), now)
                self._cancelled("the INVITE expired")
            return
        if self._remind_at is not None and now >= self._remind_at and self._reminder is not None:
            self._remind_at = None
            status, body, headers = self._reminder
            self.provisional(status, b"" if self.settled else body, headers, now)
        waiting = self._unacknowledged
        if waiting is None:
            return
        if waiting.repeater.expired(now):
            # RFC 3262 §3: no PRACK within 64*T1: 5xx
            self._unacknowledged = None
            if self.call.step(CallInput.LOST):
                self._refuse(504, "no PRACK", (), now)
                self.call.end("timeout", 504, "no PRACK")
        elif waiting.repeater.due(now):
            self.call.host.layer.servers.respond(self.incoming, waiting.response, now)

    # ---- what we do

    def provisional(self, status: int, body: bytes, headers: HeaderList, now: float) -> None:
        """180 or 183; reliable when the caller requires it, or when it carries a session and the caller can."""
        if self.call.state is not CallState.INCOMING or self._answer is not None:
            return
        if self._unacknowledged is not None:
            self._queued.append((status, body, headers))  # RFC 3262 §3: the second waits for the PRACK of the first
            return
        reliable = self._reliable_required or (bool(body) and "100rel" in self.supports)
        response = self._make(status, "", headers, body)
        if reliable:
            self._rseq += 1
            response.headers.add("Require", "100rel")
            response.headers.add("RSeq", str(self._rseq))
            self._unacknowledged = _Reliable(response, self._rseq, Repeater(self.call.host.layer.timers, now))
        if body:
            self.call.local_body = body
        self._reminder = (status, body, headers)
        self._remind_at = now + (REMIND_RELIABLY_S if reliable else REMIND_S)
        self.call.host.layer.servers.respond(self.incoming, response, now)
        if body and not reliable:
            self.call.host.emit(EarlySession(self.call.handle))
        self.call.host.watch(self.call)

    def answer(self, body: bytes, headers: HeaderList, now: float) -> None:
        """200 OK, after the PRACK of a reliable provisional that is on its way (RFC 3262 §3)."""
        if self.call.state is not CallState.INCOMING:
            return
        if self._unacknowledged is not None:
            self._answer = (body, headers)
            return
        if not self.call.step(CallInput.ANSWER):
            return
        self._expires_at = self._remind_at = None
        # After an unreliable 18x with SDP the 2xx repeats it (RFC 3261 §13.2.1). After a PRACK it would be a new offer,
        # or, when the session has been changed meanwhile, a lie (RFC 6337 §3.1.1).
        response = self._make(200, "", headers, b"" if self.settled else body)
        add_timer(response, self._terms)
        self.call.session_timer.answered(now)
        if not self.settled:
            self.call.local_body = body
        self.call.remote_body = self._early_answer or self.offer
        self.call.host.layer.servers.respond(self.incoming, response, now)
        self.call.await_ack(self.incoming, response, self.offer is None and not self.settled, now)

    def reject(self, status: int, reason: str, headers: HeaderList, now: float) -> None:
        """A final refusal."""
        if self.call.state is CallState.INCOMING and self.call.step(CallInput.REFUSE):
            self._refuse(status, reason, headers, now)
            self.call.end("local", status, reason)

    def hangup(self, headers: HeaderList, now: float) -> None:
        """We no longer want a call that we have not answered."""
        if self.call.step(CallInput.HANGUP):
            self._refuse(487, "", headers, now)
            self.call.end("local", 487)

    # ---- what the far end does

    def on_cancel(self, request: Request, now: float) -> None:
        """RFC 3261 §9.2: 487 unless a final response has been sent."""
        if self.call.step(CallInput.REFUSE):
            self._refuse(487, "", (), now)
            self._cancelled(request.headers.get("Reason") or "")

    def on_bye(self, request: Request, now: float) -> None:
        """RFC 3261 §15: the caller may end an early dialog by BYE; the INVITE gets 487."""
        self.on_cancel(request, now)

    def on_prack(self, incoming: Incoming, now: float) -> None:
        """RFC 3262 §3: 200 when RAck names the waiting response, else 481."""
        waiting = self._unacknowledged
        sequence, _ = message.cseq(self.incoming.request)
        rack = (incoming.request.headers.get("RAck") or "").split()
        if waiting is None or rack != [str(waiting.sequence), str(sequence), "INVITE"]:
            self.call.respond(incoming, 481, now)
            return
        body = session_description(incoming.request)
        self._unacknowledged = None
        answer = body if self.offer is None and not self.settled else None
        if waiting.response.body and not self.settled and (self.offer is not None or answer is not None):
            self.settled, self._early_answer = True, answer
            self.call.host.emit(EarlySession(self.call.handle, answer))
        if body is not None and answer is None:
            self.call.reoffers.on_offer(incoming, body, now)
        else:
            self.call.respond(incoming, 200, now)
        queued, self._queued = self._queued, []
        for status, description, headers in queued:
            self.provisional(status, description, headers, now)
        if self._answer is not None and self._unacknowledged is None:
            description, headers = self._answer
            self._answer = None
            self.answer(description, headers, now)

    def _cancelled(self, reason: str) -> None:
        self.call.host.emit(Cancelled(self.call.handle, reason))
        self.call.close_quietly()

    def _make(self, status: int, reason: str, headers: HeaderList, body: bytes) -> Response:
        call, request = self.call, self.incoming.request
        tag = call.dialog.local_tag if call.dialog else ""
        response = message.make_response(request, status, reason, tag)
        for value in request.headers.getlist("Record-Route"):
            response.headers.add("Record-Route", value)
        call.add_capabilities(response, self.incoming.flow)
        message.add_headers(response, headers)
        if body:
            response.headers.add("Content-Type", "application/sdp")
            response.body = body
        return response

    def _refuse(self, status: int, reason: str, headers: HeaderList, now: float) -> None:
        self._unacknowledged, self._answer = None, None
        self.call.reoffers.abandon(now)
        tag = self.call.dialog.local_tag if self.call.dialog else ""
        response = message.make_response(self.incoming.request, status, reason, tag)
        message.add_headers(response, headers)
        self.call.host.layer.servers.respond(self.incoming, response, now)
