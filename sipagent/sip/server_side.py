"""Server transactions: requests find theirs, or the user agent (RFC 3261 §8.2, §9.2, §17.2, §18.2)."""

from dataclasses import replace

from sipmessage import Request, Response

from sipagent.errors import ParseError, RemoteError
from sipagent.sip import message, transaction
from sipagent.sip.agenda import Agenda
from sipagent.sip.exchange import Incoming
from sipagent.sip.flow import Flow
from sipagent.sip.timing import TimerSettings
from sipagent.sip.transaction import GaveUp, ServerTransaction, Transmit
from sipagent.sip.transaction_user import TransactionUser
from sipagent.sip.wire import Wire

MAX_SERVER_TRANSACTIONS = 20_000  # each lives up to 64*T1; beyond it new requests get no answer
_METHODS = frozenset(
    ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "MESSAGE")
)


class ServerSide:
    """All requests that came in and are remembered."""

    def __init__(self, user: TransactionUser, wire: Wire, timers: TimerSettings) -> None:
        self._user, self._wire, self._timers = user, wire, timers
        self._transactions: dict[tuple[str, ...], Incoming] = {}
        self._merge: dict[tuple[str, str, str], tuple[str, ...]] = {}  # RFC 3261 §8.2.2.2
        self._agenda = Agenda()
        self._error_tag = wire.token(8)

    def __len__(self) -> int:
        return len(self._transactions)

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return self._agenda.deadline

    def on_deadline(self, now: float) -> None:
        """Run what is due."""
        for incoming in self._agenda.due(now):
            if isinstance(incoming, Incoming):
                incoming.transaction.on_deadline(now)
                self._run(incoming, now)

    def receive(self, request: Request, fault: RemoteError | None, flow: Flow, now: float) -> None:
        """A request, whole or with what is wrong about it."""
        reply = _annotate_via(request, flow)
        if fault is not None:
            self._wire.stats["malformed"] += 1
            if request.method != "ACK" and self._user.answers(flow):
                self._refuse_stateless(request, fault, reply, now)
            return
        key = transaction.server_key(request)
        known = self._transactions.get(key)
        if known is not None:
            if request.method == "ACK" and known.transaction.state is transaction.State.ACCEPTED:
                self._user.ack(request, flow, now)
            else:
                self._wire.stats["repeated_requests"] += request.method != "ACK"
                known.transaction.receive(request, now)
                self._run(known, now)
            return
        if request.method == "ACK":
            self._user.ack(request, flow, now)
            return
        if len(self._transactions) >= MAX_SERVER_TRANSACTIONS:
            self._wire.stats["overflow"] += 1
            return
        incoming = Incoming(request, flow, reply, ServerTransaction(request, flow.reliable, self._timers, now), key)
        self._transactions[key] = incoming
        self._wire.stats[f"requests_in_{_known_method(request.method)}"] += 1
        if request.method == "CANCEL":
            invite = self._transactions.get((*key[:-1], "INVITE"))
            if invite is not None and not flow.reliable and flow.remote[0] != invite.flow.remote[0]:
                # CANCEL goes hop by hop the way of its INVITE. No answer: the honest one must find its branch unused.
                self._wire.stats["foreign_requests"] += 1
                self.discard(incoming)
                return
            status = 200 if invite is not None else 481
            if invite is None and not self._user.answers(flow):
                self.discard(incoming)
                return
            # RFC 3261 §9.2: the tag should be that of the INVITE's responses
            tag = self._user.tag_of(invite) if invite is not None else self._wire.token()
            self.respond(incoming, message.make_response(request, status, to_tag=tag), now)
            if invite is not None:
                self._user.cancel(invite, request, now)
        else:
            self._user.request(incoming, now)

    def respond(self, incoming: Incoming, response: Response, now: float) -> bool:
        """Answer a request; False when it has had its final answer."""
        if "Server" not in response.headers.keys():  # noqa: SIM118
            response.headers.add("Server", self._wire.user_agent)
        sent = incoming.transaction.respond(response, now)
        self._run(incoming, now)
        return sent

    def discard(self, incoming: Incoming) -> None:
        """Forget a request without an answer."""
        self._transactions.pop(incoming.key, None)

    def merged(self, incoming: Incoming) -> bool:
        """Whether the same request came by another path before (RFC 3261 §8.2.2.2), to be answered with 482."""
        request = incoming.request
        name = (message.call_id(request), request.headers["CSeq"], message.address(request, "From").tag)
        return self._merge.setdefault(name, incoming.key) != incoming.key

    def _refuse_stateless(self, request: Request, fault: RemoteError, reply: Flow, now: float) -> None:
        """RFC 3261 §8.2.7: no state for what cannot be understood; every repetition is answered alike."""
        response = message.make_response(request, fault.status, fault.reason, self._error_tag)
        response.headers.add("Server", self._wire.user_agent)
        self._wire.send(reply, message.serialize(response), message.call_id(request), now)

    def _run(self, incoming: Incoming, now: float) -> None:
        for output in incoming.transaction.drain():
            if isinstance(output, Transmit):
                self._wire.send(incoming.reply, output.data, message.call_id(incoming.request), now)
            elif isinstance(output, GaveUp):
                self._user.transport_failed(incoming, now)
        if incoming.transaction.state is transaction.State.TERMINATED:
            if self._transactions.pop(incoming.key, None) is not None and incoming.request.headers.get("CSeq"):
                request = incoming.request
                name = (message.call_id(request), request.headers["CSeq"], message.address(request, "From").tag)
                if self._merge.get(name) == incoming.key:
                    del self._merge[name]
        else:
            self._agenda.watch(incoming)


def _annotate_via(request: Request, flow: Flow) -> Flow:
    """Write received and rport into the top Via (RFC 3581 §4), give the flow that responses take."""
    found = message.values(request, "Via")
    text = found[0]
    try:
        via = message.top_via(request)
    except ParseError:
        return flow
    host, port = flow.remote
    reply = flow
    if "rport" in via.parameters:
        parts = [
            part for part in text.split(";") if part.strip().lower().partition("=")[0] not in ("rport", "received")
        ]
        text = ";".join((*parts, f"received={host}", f"rport={port}"))
    else:
        if via.host.strip("[]") != host:
            parts = [part for part in text.split(";") if not part.strip().lower().startswith("received=")]
            text = ";".join((*parts, f"received={host}"))
        if not flow.reliable:
            reply = replace(flow, remote=(host, via.port or 5060))
    message.set_top_via(request, text)
    return reply


def _known_method(method: str) -> str:
    """A counter's name that strangers cannot multiply."""
    return method if method in _METHODS else "other"
