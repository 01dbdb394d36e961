"""A call as SIP sees it: one INVITE session from its first message to the end of its dialog."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sipmessage import Request, Response

from sipagent.sip import header, message
from sipagent.sip.call_state import TRANSITIONS, CallInput, CallState
from sipagent.sip.dialog import Dialog
from sipagent.sip.digest import Authentication
from sipagent.sip.engine import Confirmed, Ended, EngineEvent, HeaderList, InDialogMessage
from sipagent.sip.exchange import Exchange, Incoming
from sipagent.sip.flow import Flow
from sipagent.sip.layer import TransactionLayer
from sipagent.sip.reoffer import Reoffers
from sipagent.sip.session_timer import SessionTimer, TimerAction, TimerPolicy
from sipagent.sip.timing import Repeater, earliest
from sipagent.sip.transfer import Transfers

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY, MESSAGE"
SUPPORTED = "100rel, timer, replaces, norefersub"


class CallHost(Protocol):
    """What a call needs of the user agent."""

    layer: TransactionLayer
    session_expires_s: int

    def emit(self, event: EngineEvent) -> None:
        """Report to the engine's user."""

    def index(self, call: "Call", dialog: Dialog) -> None:
        """Requests within this dialog belong to the call."""

    def forget(self, call: "Call", dialog: Dialog | None = None) -> None:
        """The call (or one of its dialogs) is over."""

    def watch(self, call: "Call") -> None:
        """The call's deadline may have moved."""

    def credentials(self, call: "Call", flow: Flow | None) -> Authentication | None:
        """What may answer a challenge from this flow's far end; None for a stranger."""

    def replaces(self, handle: str) -> str:
        """The Replaces value that names another call (RFC 3891), "" when there is no such call."""


class Setup(Protocol):
    """The half of a call that ends with its answer: `InboundInvite` or `OutboundInvite`."""

    settled: bool  # offer and answer were exchanged reliably before the 2xx

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""

    def on_deadline(self, now: float) -> None:
        """Repeat, expire."""

    def on_prack(self, incoming: Incoming, now: float) -> None:
        """PRACK of a reliable provisional response of ours."""

    def on_bye(self, request: Request, now: float) -> None:
        """BYE before the answer; it has been answered."""

    def hangup(self, headers: HeaderList, now: float) -> None:
        """End the call before it was confirmed."""


@dataclass(slots=True)
class AcceptedInvite:
    """A 2xx of ours that waits for its ACK (RFC 3261 §13.3.1.4)."""

    incoming: Incoming
    response: Response
    sequence: int
    repeater: Repeater
    delayed: bool  # the 2xx held the offer: the ACK brings the answer


class Call:
    """State and dialog of one call; `setup` leads it to the answer, `reoffers` and `transfers` serve it afterwards."""

    def __init__(self, host: CallHost, handle: str, trunk: str, state: CallState) -> None:
        self.host, self.handle, self.trunk, self.state = host, handle, trunk, state
        self.setup: Setup | None = None
        self.dialog: Dialog | None = None
        self.dialog_keys: set[tuple[str, str, str]] = set()  # early ones too
        self.invite_key: tuple[str, ...] = ()  # of the server transaction that began the call
        self.replaces = ""  # handle of the call that this one takes over
        self.contact_user = ""
        self.authentication: Authentication | None = None
        self.outbound = state is CallState.CALLING
        self.peer_allow: frozenset[str] = frozenset()
        self.session_timer = SessionTimer(TimerPolicy(host.session_expires_s))
        self.local_body = b""  # our latest session description, for a refresh by re-INVITE
        self.remote_body: bytes | None = None
        self.accepted: AcceptedInvite | None = None
        self.reoffers = Reoffers(self)
        self.transfers = Transfers(self)
        self.hangup_headers: HeaderList = ()
        self._ended = False

    # ---- life

    def step(self, event: CallInput) -> bool:
        """Move by the table; False when the input has no place in the present state."""
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            return False
        self.state = following
        return True

    def end(self, by: str, status: int = 0, reason: str = "", headers: HeaderList = ()) -> None:
        """Report the end once; the call may live on for a moment to finish its signalling."""
        if not self._ended:
            self._ended = True
            self.host.emit(Ended(self.handle, by, status, reason, headers))
        if self.state is CallState.ENDED:
            self.accepted = None
            self.host.forget(self)

    @property
    def confirmed(self) -> bool:
        """Both ends have the session."""
        return self.state is CallState.CONFIRMED

    def close_quietly(self) -> None:
        """End without a report, when another event has told it (Cancelled)."""
        self._ended = True
        self.host.forget(self)

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return earliest(
            self.setup.deadline if self.setup else None,
            self.accepted.repeater.deadline if self.accepted else None,
            self.reoffers.deadline,
            self.session_timer.deadline if self.confirmed else None,
        )

    def on_deadline(self, now: float) -> None:
        """Repeat a 2xx, give up waiting for an ACK, retry a re-INVITE."""
        accepted = self.accepted
        if accepted is not None:
            if accepted.repeater.expired(now):
                self._no_ack(now)
            elif accepted.repeater.due(now):
                self.host.layer.servers.respond(accepted.incoming, accepted.response, now)
        if self.setup is not None:
            self.setup.on_deadline(now)
        self.reoffers.on_deadline(now)
        action = self.session_timer.on_deadline(now) if self.confirmed else None
        if action is TimerAction.REFRESH:
            self.reoffers.refresh(now)
        elif action is TimerAction.BYE:
            self.lose(408, "the session was not refreshed", "timeout", now)

    def hangup(self, headers: HeaderList, now: float) -> None:
        """BYE, CANCEL or a refusal, whatever the state wants."""
        self.hangup_headers = headers
        if self.state is CallState.CONFIRMED:
            self._abandon(now)
            self.step(CallInput.HANGUP)
            self.send_bye(self.dialog, now)
            self.end("local")
        elif self.state is CallState.ANSWERED:
            self.step(CallInput.HANGUP)
            self.end("local")
        elif self.setup is not None and self.state in (CallState.INCOMING, CallState.CALLING, CallState.RINGING):
            self.setup.hangup(headers, now)
        self.host.watch(self)

    def lose(self, status: int, reason: str, by: str, now: float) -> None:
        """The far end no longer knows the dialog, or does not answer: BYE for good measure, and the end."""
        if self.step(CallInput.LOST):
            self._abandon(now)
            self.send_bye(self.dialog, now)
            self.end(by, status, reason)

    # ---- requests of ours within the dialog

    def send(
        self,
        request: Request,
        dialog: Dialog,
        now: float,
        on_response: Callable[[Response, float], None] | None = None,
        on_failure: Callable[[int, float], None] | None = None,
        contact: bool = False,
    ) -> Exchange:
        """Send a request of a dialog by the flow that its next hop asks for."""
        flow = self._flow_toward(dialog)
        exchange = Exchange(
            request,
            dialog.next_hop if request.uri.host or not dialog.routes else str(request.uri),
            on_response or _nothing_more,
            on_failure or _no_failure,
            contact_user=self.contact_user if contact else None,
            next_cseq=dialog.next_cseq,
            flow=flow,
        )
        if request.method != "ACK":
            toward = flow or self.host.layer.network.flow_for(dialog.next_hop, 0)
            exchange.authentication, exchange.trunk = self.host.credentials(self, toward), self.trunk
            if exchange.authentication is not None:
                for name, value in exchange.authentication.headers(request.method, str(request.uri), request.body):
                    request.headers.add(name, value)
        self.host.layer.clients.send(exchange, now)
        return exchange

    def send_bye(self, dialog: Dialog | None, now: float) -> None:
        """End a dialog; what is answered no longer matters."""
        if dialog is not None:
            request = dialog.request("BYE")
            message.add_headers(request, self.hangup_headers)
            self.send(request, dialog, now)

    def send_in_dialog(self, method: str, content_type: str, body: bytes, now: float) -> None:
        """INFO or MESSAGE."""
        if self.dialog is None or self.state is CallState.ENDED:
            return
        request = self.dialog.request(method)
        request.headers.add("Content-Type", message.clean(content_type))
        request.body = body
        self.send(request, self.dialog, now, contact=method == "INFO")

    def _flow_toward(self, dialog: Dialog) -> Flow | None:
        """The dialog's own flow when it leads to the next hop (RFC 5923: reuse), None = locate."""
        flow = dialog.flow
        if not self.host.layer.network.is_open(flow):
            return None
        if flow.reliable and not dialog.routes:
            return flow
        host, port = header.host_port(dialog.next_hop)
        if host != flow.remote[0]:
            return None
        wanted = (header.uri_parameter(dialog.next_hop, "transport") or "udp").upper()
        if flow.reliable:
            return flow if wanted == flow.protocol or dialog.next_hop.startswith("sips:") else None
        return flow if wanted == "UDP" and (port or 5060) == flow.remote[1] else None

    # ---- requests of the far end within the dialog

    def on_request(self, incoming: Incoming, now: float) -> None:
        """A request that matched one of the call's dialogs and came in order."""
        method = incoming.request.method
        if method == "BYE":
            self._on_bye(incoming, now)
        elif method == "INVITE":
            self.reoffers.on_invite(incoming, now)
        elif method == "UPDATE":
            self.reoffers.on_update(incoming, now)
        elif method == "PRACK":
            if self.setup is not None:
                self.setup.on_prack(incoming, now)
            else:
                self.respond(incoming, 481, now)
        elif method == "REFER":
            self.transfers.on_refer(incoming, now)
        elif method == "NOTIFY":
            self.transfers.on_notify(incoming, now)
        elif method in ("INFO", "MESSAGE"):
            self.respond(incoming, 200, now)
            content_type = incoming.request.headers.get("Content-Type") or ""
            self.host.emit(InDialogMessage(self.handle, method, content_type, incoming.request.body))
        self.host.watch(self)

    def on_ack(self, request: Request, now: float) -> None:
        """The ACK of a 2xx of ours."""
        accepted = self.accepted
        if accepted is None or message.cseq(request)[0] != accepted.sequence:
            return
        self.accepted = None
        answer = request.body or None
        if self.state is CallState.LEAVING:
            self.step(CallInput.ACK)
            self.send_bye(self.dialog, now)
            self.end("local")
        elif self.state is CallState.ANSWERED:
            self.step(CallInput.ACK)
            self.setup = None
            self.host.emit(Confirmed(self.handle, answer))
            self.reoffers.pump(now)
        else:
            if accepted.delayed:
                self.host.emit(Confirmed(self.handle, answer))
            self.reoffers.pump(now)
        self.host.watch(self)

    def on_cancel(self, invite: Incoming, request: Request, now: float) -> None:
        """CANCEL of a re-INVITE that is not answered yet."""
        self.reoffers.on_cancel(invite, now)

    def respond(
        self,
        incoming: Incoming,
        status: int,
        now: float,
        reason: str = "",
        headers: HeaderList = (),
        contact: bool = False,
    ) -> None:
        """Answer a request of the call."""
        tag = self.dialog.local_tag if self.dialog else ""
        response = message.make_response(incoming.request, status, reason, tag)
        if contact:
            self.add_capabilities(response, incoming.flow)
        message.add_headers(response, headers)
        self.host.layer.servers.respond(incoming, response, now)

    def make_answer(self, incoming: Incoming, body: bytes) -> Response:
        """A 200 to a re-INVITE, UPDATE or PRACK."""
        response = message.make_response(incoming.request, 200)
        self.add_capabilities(response, incoming.flow)
        if body:
            response.headers.add("Content-Type", "application/sdp")
            response.body = body
        return response

    def add_capabilities(self, outgoing: Request | Response, flow: Flow | None) -> None:
        """Contact (for requests the layer writes it), Allow and Supported."""
        if flow is not None:
            outgoing.headers.add("Contact", flow.contact(self.contact_user))
        outgoing.headers.add("Allow", ALLOW)
        outgoing.headers.add("Supported", SUPPORTED)

    def learn(self, received: Request | Response) -> None:
        """Remember which methods the far end allows."""
        allowed = message.tokens(received, "Allow")
        if allowed:
            self.peer_allow = frozenset(method.upper() for method in allowed)

    def await_ack(self, incoming: Incoming, response: Response, delayed: bool, now: float) -> None:
        """Repeat a 2xx until its ACK comes, also over TCP (RFC 3261 §13.3.1.4)."""
        timers = self.host.layer.timers
        repeater = Repeater(timers, now, cap_s=timers.t2_s)
        self.accepted = AcceptedInvite(incoming, response, message.cseq(incoming.request)[0], repeater, delayed)
        self.host.watch(self)

    def _on_bye(self, incoming: Incoming, now: float) -> None:
        self.respond(incoming, 200, now)
        self._abandon(now)
        if self.step(CallInput.BYE):
            self.end("remote", headers=message.header_list(incoming.request))
        elif self.setup is not None:
            self.setup.on_bye(incoming.request, now)

    def _abandon(self, now: float) -> None:
        """Answer what the far end still waits for (RFC 3261 §15.1.2)."""
        self.reoffers.abandon(now)
        self.transfers.abandon(now)

    def _no_ack(self, now: float) -> None:
        """RFC 3261 §13.3.1.4: 64*T1 without ACK: BYE."""
        self.accepted = None
        leaving = self.state is CallState.LEAVING
        if self.step(CallInput.LOST):
            self._abandon(now)
            self.send_bye(self.dialog, now)
            self.end("local" if leaving else "timeout", 408, "no ACK")


def _nothing_more(response: Response, now: float) -> None:
    pass


def _no_failure(status: int, now: float) -> None:
    pass
