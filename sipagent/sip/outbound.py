"""A call that we place, up to its answer: the UAC core of INVITE (RFC 3261 §13.2), forks, CANCEL and PRACK."""

from sipmessage import Request, Response

from sipagent.errors import ParseError, RemoteError
from sipagent.sip import message
from sipagent.sip.body import session_description
from sipagent.sip.call import Call
from sipagent.sip.call_state import CallInput, CallState
from sipagent.sip.dialog import Dialog, dialog_from_response
from sipagent.sip.engine import Answered, HeaderList, Progress
from sipagent.sip.exchange import Exchange, Incoming
from sipagent.sip.reoffer import add_timer


class OutboundInvite:
    """Sends INVITE, follows its early dialogs, keeps the first that answers and ends the others."""

    def __init__(self, call: Call, exchange: Exchange) -> None:
        self.call, self.exchange = call, exchange
        self.settled = False  # a reliable response has answered our offer
        self._answers: dict[str, bytes] = {}  # in provisional responses, by To tag
        self._early: dict[str, Dialog] = {}  # by To tag
        self._rseq: dict[str, int] = {}
        self._acks: dict[str, Exchange] = {}
        self._give_up_at: float | None = None  # no final response after CANCEL

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return self._give_up_at

    def on_deadline(self, now: float) -> None:
        """RFC 3261 §9.1: 64*T1 after CANCEL the INVITE counts as cancelled, answer or not."""
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            if self.call.step(CallInput.LOST):
                self.call.end("local", 487)

    def hangup(self, headers: HeaderList, now: float) -> None:
        """CANCEL, as soon as a provisional response allows it."""
        if self.call.step(CallInput.HANGUP):
            self._give_up_at = now + self.call.host.layer.timers.give_up_s
            self.call.host.layer.clients.cancel(self.exchange, now, headers)
            self.call.end("local", 487)

    def on_prack(self, incoming: Incoming, now: float) -> None:
        """We sent no reliable provisional response in this role."""
        self.call.respond(incoming, 481, now)

    def on_bye(self, request: Request, now: float) -> None:
        """The callee must not send BYE before the answer (RFC 3261 §15); the INVITE's own end will come."""

    def on_failure(self, status: int, now: float) -> None:
        """No answer (408), or no way to the far end (503)."""
        if self.call.step(CallInput.LOST):
            self._drop_early()
            by = "local" if status == 487 else "timeout" if status == 408 else "transport"
            self.call.end(by, status, "no answer" if status == 408 else self.exchange.problem or "not reachable")

    def on_response(self, response: Response, now: float) -> None:
        """Any response to the INVITE but the challenges that were answered."""
        if response.code < 200:
            self._on_provisional(response, now)
        elif response.code < 300:
            self._on_accepted(response, now)
        elif response.code == 422 and self._retry_with_longer_interval(response, now):
            return
        elif self.call.step(CallInput.REFUSE):
            self._drop_early()
            self._give_up_at = None
            self.call.end("refused", response.code, response.phrase, message.header_list(response))

    def _on_provisional(self, response: Response, now: float) -> None:
        if response.code == 100:
            return
        self.call.step(CallInput.RING)
        tag = message.address(response, "To").tag
        dialog = self._dialog(tag, response) if tag and tag not in self._early else None
        if dialog is not None:
            self._early[tag] = dialog
            self.call.host.index(self.call, dialog)
            self.call.dialog = self.call.dialog or dialog
        self.call.learn(response)
        if not self._acknowledge(tag, response, now):
            return
        if body := _body(response):
            self._answers[tag] = body
        if self.call.state is CallState.RINGING:
            self.call.host.emit(
                Progress(
                    self.call.handle, response.code, response.phrase, _body(response), message.header_list(response)
                )
            )

    def _acknowledge(self, tag: str, response: Response, now: float) -> bool:
        """PRACK a reliable response (RFC 3262 §4); False for one that came again or out of order."""
        rseq = message.integer(response, "RSeq")
        required = "100rel" in {option.lower() for option in message.tokens(response, "Require")}
        dialog = self._early.get(tag)
        if not required or rseq is None or dialog is None:
            return True
        last = self._rseq.get(tag)
        if last is not None and rseq != last + 1:
            return False
        self._rseq[tag] = rseq
        self.settled = self.settled or _body(response) is not None
        sequence, _ = message.cseq(response)
        prack = dialog.request("PRACK")
        prack.headers.add("RAck", f"{rseq} {sequence} INVITE")
        self.call.send(prack, dialog, now)
        return True

    def _on_accepted(self, response: Response, now: float) -> None:
        tag = message.address(response, "To").tag
        known = self._acks.get(tag)
        if known is not None:
            self.call.host.layer.clients.resend(known, now)  # RFC 3261 §13.2.2.4: the ACK was lost
            return
        dialog = self._dialog(tag, response)
        if dialog is None:
            if self.call.step(CallInput.LOST):
                self._drop_early()
                self.call.end("transport", 502, "the answer names no way back")
            return
        sequence, _ = message.cseq(response)
        self._acks[tag] = self.call.send(dialog.request("ACK", sequence), dialog, now)
        if self.call.state in (CallState.CALLING, CallState.RINGING) and self.call.step(CallInput.ACCEPT):
            self._drop_early(keep=tag)
            self.call.dialog = dialog
            self.call.host.index(self.call, dialog)
            self.call.learn(response)
            self.call.session_timer.accepted(message.header_list(response), now)
            # a 2xx that repeats no answer leaves the one of a reliable 18x (RFC 3262 §5)
            self.call.remote_body = _body(response) or self._answers.get(tag)
            self.call.host.emit(Answered(self.call.handle, self.call.remote_body, message.header_list(response)))
            self.call.reoffers.pump(now)
            self.call.host.watch(self.call)
            return
        # Another fork answered too, or the answer crossed our CANCEL: acknowledge it and end it.
        self.call.send_bye(dialog, now)
        if self.call.state is CallState.CANCELLING:
            self._give_up_at = None
            self.call.step(CallInput.ACCEPT)
            self.call.end("local", 487)

    def on_late(self, response: Response, now: float) -> None:
        """A 2xx from a server that kept silent until we had asked the next one: ACK and BYE, like a second fork."""
        tag = message.address(response, "To").tag
        known = self._acks.get(tag)
        dialog = self._dialog(tag, response)
        if known is not None:
            self.call.host.layer.clients.resend(known, now)
        elif dialog is not None:
            self._acks[tag] = self.call.send(dialog.request("ACK", message.cseq(response)[0]), dialog, now)
            self.call.send_bye(dialog, now)

    def _dialog(self, tag: str, response: Response) -> Dialog | None:
        """RFC 3261 §13.2.2.4: the route set is that of the 2xx, the counters go on. None when it leads nowhere."""
        if self.exchange.flow is None:
            return None
        try:
            dialog = dialog_from_response(self.exchange.request, response, self.exchange.flow)
        except ParseError:
            return None
        early = self._early.get(tag)
        if early is not None:
            dialog.local_cseq = max(dialog.local_cseq, early.local_cseq)
            dialog.remote_cseq = early.remote_cseq
        return dialog

    def _drop_early(self, keep: str = "") -> None:
        for tag, dialog in self._early.items():
            if tag != keep:
                self.call.host.forget(self.call, dialog)

    def _retry_with_longer_interval(self, response: Response, now: float) -> bool:
        """RFC 4028 §7.3: ask again with the interval that the far end needs."""
        timer = self.call.session_timer
        if self.call.state is CallState.CANCELLING or not timer.refused(422, message.header_list(response), now):
            return False
        add_timer(self.exchange.request, timer.request_headers())
        self.call.host.layer.clients.repeat(self.exchange, self.exchange.request, now)
        return True


def _body(response: Response) -> bytes | None:
    try:
        return session_description(response)
    except (RemoteError, ParseError):
        return None
