"""Changes of a running session: re-INVITE and UPDATE both ways, and their collisions (RFC 3261 §14, RFC 3311)."""

from typing import TYPE_CHECKING

from sipmessage import Request, Response

from sipagent.errors import ParseError, RemoteError
from sipagent.sip import message
from sipagent.sip.body import session_description
from sipagent.sip.dialog import Dialog
from sipagent.sip.engine import HeaderList, Reoffer, ReofferAnswered, ReofferRefused
from sipagent.sip.exchange import Exchange, Incoming

if TYPE_CHECKING:
    from sipagent.sip.call import Call

RETRY_AFTER_LIMIT_S = 10  # RFC 3261 §14.2: a random value between 0 and 10 seconds


class Reoffers:
    """One change at a time, whoever asks for it; ours wait in a queue of one, the latest offer wins."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._wanted: bytes | None = None  # our next offer
        self._refresh_wanted = False  # the session timer asks for a sign of life
        self._sent: Exchange | None = None  # our re-INVITE in progress
        self._retry_at: float | None = None
        self._pending: Incoming | None = None  # theirs, waiting for our user
        self._acks: dict[int, Exchange] = {}
        self._terms: HeaderList = ()  # what the session timer wants in our next 2xx

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return self._retry_at

    def on_deadline(self, now: float) -> None:
        """After a glare, try again."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self.pump(now)

    # ---- ours

    def offer(self, body: bytes, now: float) -> None:
        """Send a re-INVITE as soon as nothing else is going on."""
        self._wanted = body
        self.pump(now)

    def refresh(self, now: float) -> None:
        """Send UPDATE, or re-INVITE with what we offered last, to keep the session alive (RFC 4028 §10)."""
        self._refresh_wanted = True
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send what waits, if it may be sent now."""
        call = self._call
        busy = self._sent is not None or self._pending is not None or call.accepted is not None
        idle = self._wanted is None and not self._refresh_wanted
        if idle or busy or self._retry_at is not None or not call.confirmed or call.dialog is None:
            return
        wanted, self._wanted = self._wanted, None
        if wanted is None and "UPDATE" in call.peer_allow:
            self._send("UPDATE", b"", True, call.dialog, now)  # RFC 4028 §7.4 prefers it: no offer, no answer
        else:
            self._send("INVITE", wanted or call.local_body, wanted is None, call.dialog, now)
        self._refresh_wanted = False  # whatever goes out refreshes the session

    def _send(self, method: str, body: bytes, refresh: bool, dialog: Dialog, now: float) -> None:
        call = self._call
        request = dialog.request(method)
        call.add_capabilities(request, None)
        add_timer(request, call.session_timer.request_headers())
        if body:
            request.headers.add("Content-Type", "application/sdp")
            request.body = body
        self._sent = call.send(
            request,
            dialog,
            now,
            lambda response, at: self._on_response(response, body, refresh, at),
            self._on_failure,
            contact=True,
        )

    def _on_response(self, response: Response, body: bytes, refresh: bool, now: float) -> None:
        call, sent = self._call, self._sent
        if response.code < 200 or call.dialog is None:
            return
        sequence, method = message.cseq(response)
        if response.code < 300:
            known = self._acks.get(sequence)
            if known is not None:
                call.host.layer.clients.resend(known, now)
                return
            _refresh(call, response)
            if method == "INVITE":
                self._acks = {sequence: call.send(call.dialog.request("ACK", sequence), call.dialog, now)}
            self._sent = None
            if not call.confirmed:
                return
            call.session_timer.accepted(message.header_list(response), now)
            call.local_body = body or call.local_body
            answer = _body(response)
            if not refresh or (answer is not None and answer != call.remote_body):
                call.host.emit(ReofferAnswered(call.handle, answer))
            call.remote_body = answer or call.remote_body
        elif not call.confirmed:
            return
        elif response.code == 491:
            self._sent = None
            if refresh:
                self._refresh_wanted = True
            elif self._wanted is None:
                self._wanted = body
            self._retry_at = now + self._glare_wait_s()
        elif response.code in (408, 481):
            self._sent = None
            call.lose(response.code, response.phrase, "remote", now)  # RFC 3261 §12.2.1.2
            return
        elif call.session_timer.refused(response.code, message.header_list(response), now) and sent is not None:
            add_timer(sent.request, call.session_timer.request_headers())
            call.host.layer.clients.repeat(sent, sent.request, now)
            return
        else:
            self._sent = None
            if not refresh:
                call.host.emit(ReofferRefused(call.handle, response.code, response.phrase))
        self.pump(now)
        call.host.watch(call)

    def _on_failure(self, status: int, now: float) -> None:
        if self._sent is None:
            return
        self._sent = None
        self._call.lose(status, "no answer to a re-INVITE", "timeout" if status == 408 else "transport", now)

    def _glare_wait_s(self) -> float:
        """RFC 3261 §14.1: who owns the Call-ID waits 2.1 to 4 s, the other 0 to 2 s, in steps of 10 ms."""
        rng = self._call.host.layer.rng
        return rng.randrange(210, 401) / 100 if self._call.outbound else rng.randrange(0, 201) / 100

    # ---- theirs

    def on_invite(self, incoming: Incoming, now: float) -> None:
        """A re-INVITE."""
        call = self._call
        if not call.confirmed or self._pending is not None or call.accepted is not None:
            self._busy(incoming, now)  # RFC 3261 §14.2: the first is not finished
        elif self._sent is not None:
            call.respond(incoming, 491, now)
        else:
            self._take(incoming, now)

    def on_update(self, incoming: Incoming, now: float) -> None:
        """UPDATE: with an offer it is a change, without one a sign of life (RFC 3311 §5.2)."""
        call = self._call
        if not incoming.request.body:
            if not self._interval_too_small(incoming, now):
                _refresh(call, incoming.request)
                self._accept(incoming, b"", now)
        elif self._pending is not None or call.accepted is not None:
            self._busy(incoming, now)
        elif self._sent is not None:
            call.respond(incoming, 491, now)
        elif not call.confirmed and call.setup is not None and not call.setup.settled:
            # the INVITE's own offer has no answer yet that they know of
            self._refuse_early(incoming, now)
        else:
            self._take(incoming, now)

    def on_offer(self, incoming: Incoming, offer: bytes, now: float) -> None:
        """An offer in a PRACK (RFC 3262 §5): the 200 of the PRACK brings the answer."""
        if self._pending is not None or self._sent is not None:
            self._call.respond(incoming, 491, now)
            return
        self._pending = incoming
        self._call.host.emit(Reoffer(self._call.handle, offer))

    def accept(self, body: bytes, now: float) -> None:
        """Our user's answer (or offer, when theirs was empty)."""
        incoming, self._pending = self._pending, None
        if incoming is not None:
            _refresh(self._call, incoming.request)
            self._call.local_body = body
            self._accept(incoming, body, now)
            self.pump(now)

    def reject(self, status: int, reason: str, now: float) -> None:
        """Our user does not want the change; the session stays."""
        incoming, self._pending = self._pending, None
        if incoming is not None:
            self._call.respond(incoming, status, now, reason)
            self.pump(now)

    def on_cancel(self, invite: Incoming, now: float) -> None:
        """CANCEL of a pending re-INVITE."""
        if self._pending is invite:
            self._pending = None
            self._call.respond(invite, 487, now)
            self.pump(now)

    def abandon(self, now: float) -> None:
        """The call ends: what waits gets 487 (RFC 3261 §15.1.2)."""
        incoming, self._pending = self._pending, None
        self._wanted = self._retry_at = self._sent = None
        self._refresh_wanted = False
        if incoming is not None:
            self._call.respond(incoming, 487, now)

    def _take(self, incoming: Incoming, now: float) -> None:
        call = self._call
        try:
            offer = session_description(incoming.request)
        except RemoteError as error:
            call.respond(incoming, error.status, now, headers=(("Accept", "application/sdp"),))
            return
        if self._interval_too_small(incoming, now):
            return
        self._pending = incoming
        if incoming.request.method == "INVITE":
            call.respond(incoming, 100, now)  # our user may need longer than the 200 ms of RFC 3261 §17.2.1
        call.host.emit(Reoffer(call.handle, offer))

    def _accept(self, incoming: Incoming, body: bytes, now: float) -> None:
        call, method = self._call, incoming.request.method
        response = call.make_answer(incoming, body)
        if method != "PRACK":
            add_timer(response, self._terms)
            call.session_timer.answered(now)
        call.host.layer.servers.respond(incoming, response, now)
        if method == "INVITE":
            call.await_ack(incoming, response, not incoming.request.body, now)

    def _refuse_early(self, incoming: Incoming, now: float) -> None:
        """RFC 3311 §5.2: 491 when that offer was ours, 500 when it was theirs."""
        if self._call.outbound:
            self._call.respond(incoming, 491, now)
        else:
            self._busy(incoming, now)

    def _busy(self, incoming: Incoming, now: float) -> None:
        wait_s = self._call.host.layer.rng.randrange(0, RETRY_AFTER_LIMIT_S + 1)
        self._call.respond(incoming, 500, now, headers=(("Retry-After", str(wait_s)),))

    def _interval_too_small(self, incoming: Incoming, now: float) -> bool:
        """Answer 422 when the session timer wants it (RFC 4028 §9), else keep the terms for the 2xx."""
        judgement = self._call.session_timer.judge(message.header_list(incoming.request))
        if judgement.status == 200:
            self._terms = judgement.headers
            return False
        self._call.respond(incoming, judgement.status, now, headers=judgement.headers)
        return True


def add_timer(outgoing: Request | Response, headers: HeaderList) -> None:
    """Session-Expires, Min-SE and Require; timer stands in our Supported already."""
    for name, value in headers:
        if name != "Supported":
            outgoing.headers.set(name, value)


def _refresh(call: "Call", received: Request | Response) -> None:
    if call.dialog is not None:
        try:
            call.dialog.refresh_target(received)
        except ParseError:
            return


def _body(response: Response) -> bytes | None:
    try:
        return session_description(response)
    except (RemoteError, ParseError):
        return None
