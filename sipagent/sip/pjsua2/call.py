"""One call of PJSIP's, and what of its life the engine hears.

Callbacks only take notes and report: pjsua2 2.15 crashes when it is asked to answer from within one of them.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

import pjsua2 as pj
from sipmessage import Request, Response

from sipagent.sip import message
from sipagent.sip.body import session_description
from sipagent.sip.engine import (
    Answered,
    Cancelled,
    Confirmed,
    EarlySession,
    Ended,
    EngineEvent,
    HeaderList,
    PlaceCall,
    Progress,
    Reoffer,
    ReofferAnswered,
    ReofferRefused,
    TransferProgress,
)
from sipagent.sip.pjsua2.callback import callback
from sipagent.sip.pjsua2.messages import AcceptReoffer, RejectReoffer
from sipagent.sip.pjsua2.options import bytes_of, parameters, parse, request, text_of

RETRY_S: Final = 0.2  # after a re-INVITE that PJSIP cannot send yet
GLARE_S: Final = (2.3, 0.9)  # RFC 3261 §14.1: the caller waits 2.1–4 s, the callee 0–2 s


class Host(Protocol):
    """What a call needs of the user agent."""

    def emit(self, event: EngineEvent) -> None:
        """To the engine."""

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Outside of every callback."""

    def ask(self, handle: str) -> AcceptReoffer | RejectReoffer | None:
        """Wait a little for the engine's word on a Reoffer that has been emitted; None when it does not come."""

    def ended(self, call: "Call") -> None:
        """Forget it, when no callback runs."""

    def challenged(self, call: "Call", response: Response | None) -> bool:
        """Whether a refused call is placed anew with the realm that the challenge names."""


class Call(pj.Call):  # type: ignore[misc]
    """A call by its handle. Inbound when `call_id` is given, else to be placed with `place`."""

    def __init__(self, host: Host, account: pj.Account, handle: str, trunk: str, call_id: int = -1) -> None:
        super().__init__(account, call_id)
        self.handle, self.trunk, self.inbound = handle, trunk, call_id >= 0
        self.placed: PlaceCall | None = None
        self._host = host
        self._body = ""  # the session description that we stand by
        self._described = False  # a 183 has carried it
        self.reliable = False  # the caller acknowledges provisional responses
        self._unacknowledged = 0  # of these
        self._answered = self._over = self._asked = self._reoffering = self._challenged = False
        self._accepted: Response | None = None
        self._early: bytes | None = None  # what a provisional response answered to our offer

    # ---- what we do

    def place(self, wanted: PlaceCall, uri: str, caller: str, headers: HeaderList) -> None:
        """INVITE."""
        self.placed = wanted
        self._body = text_of(wanted.offer)
        self.makeCall(uri, parameters(headers=headers, caller=caller))

    def provisional(self, status: int, body: bytes, headers: HeaderList) -> None:
        """180 or 183."""
        if not self._over and not self._answered:
            if body:
                self._body, self._described = text_of(body), True
            self.answer(parameters(status, headers=headers, body=body))
            self._unacknowledged += self.reliable
            if body and not self.reliable:
                self._host.emit(EarlySession(self.handle))

    def accept(self, body: bytes, headers: HeaderList) -> None:
        """200."""
        if not self._over and not self._answered:
            self._answered = True
            if not self._described:
                self._body = text_of(body)
            # after a 183 PJSIP repeats its session description by itself, and aborts when it is given one
            self.answer(parameters(200, headers=headers, body=b"" if self._described else body))

    def refuse(self, status: int, reason: str, headers: HeaderList) -> None:
        """A final status."""
        if not self._over and not self._answered:
            self._end(Ended(self.handle, "local", status, reason))
            # RFC 3261 §20.33: PJSIP's hangup answers an INVITE that waits
            self.hangup(parameters(status, reason, headers))

    def leave(self, headers: HeaderList) -> None:
        """BYE, CANCEL or 487."""
        if not self._over:
            status = 0 if self._answered else 487
            self._end(Ended(self.handle, "local", status))
            self.hangup(parameters(487 if self.inbound and not self._answered else 0, headers=headers))

    def offer(self, body: bytes) -> None:
        """re-INVITE, as soon as no other exchange is under way."""
        if self._over or not self._answered:
            return
        before, self._body = self._body, text_of(body)
        try:
            self.reinvite(parameters())
            self._reoffering = True
        except pj.Error:
            self._body = before
            self._host.later(RETRY_S, lambda: self.offer(body))

    def answer_reoffer(self, status: int, reason: str, body: bytes) -> None:
        """Our word on their re-INVITE."""
        if self._asked and not self._over:
            self._asked = False
            if body:
                self._body = text_of(body)
            self.answer(parameters(status, reason, body=body))

    def send(self, method: str, content_type: str, body: bytes, headers: HeaderList = ()) -> None:
        """A request within the dialog."""
        if not self._over:
            self.sendRequest(request(method, content_type, body, headers))

    def transfer(self, refer_to: str, other: "Call | None") -> None:
        """REFER."""
        if self._over:
            return
        if other is not None:
            self.xferReplaces(other, parameters())
        else:
            self.xfer(f"<{refer_to.strip('<>')}>", parameters())

    # ---- what PJSIP says (names of pjsua2)

    @callback
    def onCallState(self, prm: Any) -> None:  # noqa: N802
        """The INVITE's state moved."""
        info = self.getInfo()  # held: its parts die with it
        received = _received(prm.e)
        if info.state == pj.PJSIP_INV_STATE_CONNECTING and not self.inbound and isinstance(received, Response):
            self._accepted = received
        elif info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self._confirmed(received)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self._disconnected(int(info.lastStatusCode), str(info.lastReason), received)

    @callback
    def onCallTsxState(self, prm: Any) -> None:  # noqa: N802
        """A transaction within the call moved."""
        state = prm.e.body.tsxState
        tsx = state.tsx
        if tsx.method == "PRACK" and tsx.role == pj.PJSIP_ROLE_UAS and state.type == pj.PJSIP_EVENT_RX_MSG:
            self._acknowledged()
            return
        if tsx.method != "INVITE" or tsx.role != pj.PJSIP_ROLE_UAC or state.type != pj.PJSIP_EVENT_RX_MSG:
            return
        status = int(tsx.statusCode)
        response = parse(state.src.rdata.wholeMsg)
        if not isinstance(response, Response):
            return
        if 100 < status < 200 and not self._answered:
            body = session_description(response)
            self._early = body or self._early
            self._host.emit(Progress(self.handle, status, response.phrase, body, message.header_list(response)))
        elif status >= 200 and self._reoffering:
            self._reoffered(status, response)

    @callback
    def onCallSdpCreated(self, prm: Any) -> None:  # noqa: N802
        """PJSIP has made a session description; ours takes its place."""
        if self._body:
            prm.sdp.wholeSdp = self._body

    @callback
    def onCallRxReinvite(self, prm: Any) -> None:  # noqa: N802
        """re-INVITE: the engine answers when it has thought."""
        prm.isAsync = True
        self._asked = True
        self._host.emit(Reoffer(self.handle, bytes_of(prm.offer.wholeSdp) or None))

    @callback
    def onCallRxOffer(self, prm: Any) -> None:  # noqa: N802
        """UPDATE with an offer: PJSIP wants the answer before this returns."""
        self._host.emit(Reoffer(self.handle, bytes_of(prm.offer.wholeSdp)))
        word = self._host.ask(self.handle)
        if isinstance(word, AcceptReoffer):
            self._body = text_of(word.body)
        else:
            prm.statusCode = word.status if word is not None else 500

    @callback
    def onCallTransferStatus(self, prm: Any) -> None:  # noqa: N802
        """NOTIFY of our REFER."""
        prm.cont = not prm.finalNotify
        event = TransferProgress(self.handle, int(prm.statusCode), str(prm.reason), bool(prm.finalNotify))
        self._host.emit(event)

    # ---- the same in our words

    def _acknowledged(self) -> None:
        self._unacknowledged -= 1
        if self._described and self._unacknowledged == 0:
            self._host.emit(EarlySession(self.handle))

    def _confirmed(self, received: Request | Response | None) -> None:
        if self.inbound:
            self._host.emit(Confirmed(self.handle))
        elif not self._answered and self._accepted is not None:
            self._answered = True
            response = self._accepted
            body = session_description(response) or self._early
            self._host.emit(Answered(self.handle, body, message.header_list(response)))

    def _reoffered(self, status: int, response: Response) -> None:
        if status in (401, 407) and not self._challenged:
            self._challenged = True  # PJSIP answers the first challenge
            return
        self._reoffering = self._challenged = False
        if status < 300:
            self._host.emit(ReofferAnswered(self.handle, session_description(response)))
        elif status == 491:
            wanted = bytes_of(self._body)
            self._host.later(GLARE_S[self.inbound], lambda: self.offer(wanted))
        else:
            self._host.emit(ReofferRefused(self.handle, status, response.phrase))

    def _disconnected(self, status: int, reason: str, received: Request | Response | None) -> None:
        response = received if isinstance(received, Response) else None
        if not self._over:
            if status in (401, 407) and not self._answered and self._host.challenged(self, response):
                self._over = True
            else:
                self._end(self._outcome(status, reason, received))
        self._host.ended(self)

    def _outcome(self, status: int, reason: str, received: Request | Response | None) -> Ended | Cancelled:
        headers = message.header_list(received) if received is not None else ()
        if isinstance(received, Request) and received.method == "BYE":
            return Ended(self.handle, "remote", headers=headers)
        if self.inbound and not self._answered and status == 487:
            return Cancelled(self.handle, reason)
        if not self._answered and not self.inbound and isinstance(received, Response):
            # of a 302 pjsua makes 487, since nobody tells it to follow
            return Ended(self.handle, "refused", received.code, received.phrase, headers)
        by = "timeout" if status == 408 else "remote" if status == 200 else "transport"
        return Ended(self.handle, by, status, reason)

    def _end(self, event: EngineEvent) -> None:
        self._over = True
        self._host.emit(event)


def _received(event: Any) -> Request | Response | None:
    """The message behind an event, when it was one of the far end's."""
    if event.type == pj.PJSIP_EVENT_RX_MSG:
        return parse(event.body.rxMsg.rdata.wholeMsg)
    if event.type == pj.PJSIP_EVENT_TSX_STATE and event.body.tsxState.type == pj.PJSIP_EVENT_RX_MSG:
        return parse(event.body.tsxState.src.rdata.wholeMsg)
    return None
