"""The transaction layer: matches messages to transactions, sends requests where they must go (RFC 3261 §8.1, §17, §18).

It opens no socket. What is to be done leaves through `drain`, flows that need the network come back by `flow_ready`.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from sipmessage import Request, Response

from sipagent.errors import ParseError, RemoteError
from sipagent.sip import message, transaction
from sipagent.sip.agenda import Agenda
from sipagent.sip.engine import HeaderList
from sipagent.sip.exchange import Exchange, Incoming
from sipagent.sip.flow import Flow, Locate, Send
from sipagent.sip.ladder import Message
from sipagent.sip.timing import TimerSettings, earliest
from sipagent.sip.transaction import ClientTransaction, Deliver, GaveUp, ServerTransaction, Transmit

Action = Send | Locate
MAX_SERVER_TRANSACTIONS = 20_000  # each lives up to 64*T1; beyond it new requests get no answer


class RequestUser(Protocol):
    """Who answers requests: the user agent's core."""

    def answers(self, flow: Flow) -> bool:
        """Whether this far end is told of its mistakes; strangers may get no sign of us."""

    def request(self, incoming: Incoming, now: float) -> None:
        """A new request; answer it with `TransactionLayer.respond`, or `discard` it."""

    def ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx."""

    def tag_of(self, invite: Incoming) -> str:
        """The To tag that an INVITE's responses carry."""

    def cancel(self, invite: Incoming, request: Request, now: float) -> None:
        """CANCEL of an INVITE that may have been answered already; the CANCEL itself has its 200."""

    def challenge(self, exchange: Exchange, response: Response, now: float) -> bool:
        """401 or 407: whether the exchange was sent again with credentials."""

    def transport_failed(self, incoming: Incoming, now: float) -> None:
        """No ACK came for a failure, or the flow broke: nothing more can be said in this transaction."""


@dataclass(slots=True, eq=False)
class _Client:
    """A client transaction in its place; it outlives its exchange's interest, to repeat the ACK of a refusal."""

    exchange: Exchange
    transaction: ClientTransaction
    flow: Flow
    key: tuple[str, str]
    next_target_at: float | None = None  # without any response by then, the next target is tried beside this one
    late: bool = False  # another target has been asked since
    cancelled: bool = False  # as a late one

    @property
    def deadline(self) -> float | None:
        return earliest(self.transaction.deadline, self.next_target_at)


class Network(Protocol):
    """What the layer may ask of the sockets without waiting."""

    def flow_for(self, uri: str, size: int) -> Flow | None:
        """A flow that serves at once: UDP to a numeric address, or an open connection. None = use Locate."""

    def is_open(self, flow: Flow) -> bool:
        """Whether bytes can still be put on a flow."""


class TransactionLayer:
    """All transactions of an engine."""

    def __init__(
        self,
        user: RequestUser,
        timers: TimerSettings,
        network: Network,
        rng: random.Random,
        user_agent: str,
        trace: Callable[[str, Message], None],
    ) -> None:
        self.timers, self.rng, self.network = timers, rng, network
        self.stats: Counter[str] = Counter()
        self._user, self._user_agent, self._trace = user, user_agent, trace
        self._clients: dict[tuple[str, str], _Client] = {}
        self._servers: dict[tuple[str, ...], Incoming] = {}
        self._merge: dict[tuple[str, str, str], tuple[str, ...]] = {}  # RFC 3261 §8.2.2.2
        self._locating: dict[int, Exchange] = {}
        self._agenda = Agenda()
        self._actions: list[Action] = []
        self._keys = 0
        self._error_tag = self.token(8)

    # ---- input

    def receive(self, data: bytes, flow: Flow, now: float, fault: RemoteError | None = None) -> None:
        """Bytes of one message; with a `fault` that was found before, a request is refused with that."""
        try:
            received, problem = message.parse_message(data, datagram=not flow.reliable)
            fault = fault or problem
            self.stats["messages_in"] += 1
            seen = Message(now, "in", data, flow.protocol, flow.local, flow.remote)
            self._trace(message.call_id(received), seen)
            if isinstance(received, Response):
                self._receive_response(received, now)
            else:
                self._receive_request(received, fault, flow, now)
        except ParseError:
            self.stats["malformed"] += 1

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return self._agenda.deadline

    def on_deadline(self, now: float) -> None:
        """Run what is due."""
        for machine in self._agenda.due(now):
            if isinstance(machine, _Client):
                if machine.next_target_at is not None and now >= machine.next_target_at:
                    self._hasten(machine)
                machine.transaction.on_deadline(now)
                self._run_client(machine, now)
            elif isinstance(machine, Incoming):
                machine.transaction.on_deadline(now)
                self._run_server(machine, now)

    def drain(self) -> list[Action]:
        """What is to be sent and located, once."""
        actions, self._actions = self._actions, []
        return actions

    @property
    def unanswered(self) -> int:
        """Requests of ours without a final answer."""
        waiting = (transaction.State.CALLING, transaction.State.TRYING, transaction.State.PROCEEDING)
        return sum(client.transaction.state in waiting for client in self._clients.values()) + len(self._locating)

    @property
    def transactions(self) -> int:
        """How many are alive."""
        return len(self._clients) + len(self._servers)

    # ---- server side

    def respond(self, incoming: Incoming, response: Response, now: float) -> bool:
        """Answer a request; False when it has had its final answer."""
        if "Server" not in response.headers.keys():  # noqa: SIM118
            response.headers.add("Server", self._user_agent)
        sent = incoming.transaction.respond(response, now)
        self._run_server(incoming, now)
        return sent

    def discard(self, incoming: Incoming) -> None:
        """Forget a request without an answer."""
        self._servers.pop(incoming.key, None)

    def merged(self, incoming: Incoming) -> bool:
        """Whether the same request came by another path before (RFC 3261 §8.2.2.2), to be answered with 482."""
        request = incoming.request
        name = (message.call_id(request), request.headers["CSeq"], message.address(request, "From").tag)
        return self._merge.setdefault(name, incoming.key) != incoming.key

    def _receive_request(self, request: Request, fault: RemoteError | None, flow: Flow, now: float) -> None:
        reply = _annotate_via(request, flow)
        if fault is not None:
            self.stats["malformed"] += 1
            if request.method != "ACK" and self._user.answers(flow):
                self._refuse_stateless(request, fault, reply, now)
            return
        key = transaction.server_key(request)
        known = self._servers.get(key)
        if known is not None:
            if request.method == "ACK" and known.transaction.state is transaction.State.ACCEPTED:
                self._user.ack(request, flow, now)
            else:
                self.stats["repeated_requests"] += request.method != "ACK"
                known.transaction.receive(request, now)
                self._run_server(known, now)
            return
        if request.method == "ACK":
            self._user.ack(request, flow, now)
            return
        if len(self._servers) >= MAX_SERVER_TRANSACTIONS:
            self.stats["overflow"] += 1
            return
        incoming = Incoming(request, flow, reply, ServerTransaction(request, flow.reliable, self.timers, now), key)
        self._servers[key] = incoming
        self.stats[f"requests_in_{_known_method(request.method)}"] += 1
        if request.method == "CANCEL":
            invite = self._servers.get((*key[:-1], "INVITE"))
            if invite is not None and not flow.reliable and flow.remote[0] != invite.flow.remote[0]:
                # CANCEL goes hop by hop the way of its INVITE. No answer: the honest one must find its branch unused.
                self.stats["foreign_requests"] += 1
                self.discard(incoming)
                return
            status = 200 if invite is not None else 481
            if invite is None and not self._user.answers(flow):
                self.discard(incoming)
                return
            # RFC 3261 §9.2: the tag should be that of the INVITE's responses
            tag = self._user.tag_of(invite) if invite is not None else self.token()
            self.respond(incoming, message.make_response(request, status, to_tag=tag), now)
            if invite is not None:
                self._user.cancel(invite, request, now)
        else:
            self._user.request(incoming, now)

    def _refuse_stateless(self, request: Request, fault: RemoteError, reply: Flow, now: float) -> None:
        """RFC 3261 §8.2.7: no state for what cannot be understood; every repetition is answered alike."""
        response = message.make_response(request, fault.status, fault.reason, self._error_tag)
        response.headers.add("Server", self._user_agent)
        self._send(reply, message.serialize(response), message.call_id(request), now)

    def _run_server(self, incoming: Incoming, now: float) -> None:
        for output in incoming.transaction.drain():
            if isinstance(output, Transmit):
                self._send(incoming.reply, output.data, message.call_id(incoming.request), now)
            elif isinstance(output, GaveUp):
                self._user.transport_failed(incoming, now)
        if incoming.transaction.state is transaction.State.TERMINATED:
            if self._servers.pop(incoming.key, None) is not None and incoming.request.headers.get("CSeq"):
                request = incoming.request
                name = (message.call_id(request), request.headers["CSeq"], message.address(request, "From").tag)
                if self._merge.get(name) == incoming.key:
                    del self._merge[name]
        else:
            self._agenda.watch(incoming)

    # ---- client side

    def send(self, exchange: Exchange, now: float) -> None:
        """Send a request: on its flow when it has one that serves, else by locating its next hop."""
        size = len(message.serialize(exchange.request)) + 200  # Via and Contact are still to come
        flow = exchange.flow or self.network.flow_for(exchange.hop, size)
        if flow is not None:
            self._launch(exchange, flow, now)
            return
        self._locate(exchange, size)

    def flow_ready(self, key: int, flow: Flow, now: float) -> None:
        """The answer to a Locate."""
        exchange = self._locating.pop(key, None)
        if exchange is None:
            return
        if exchange.hastening:
            self._ask_beside(exchange, flow, now)
        elif exchange.cancelled:
            exchange.on_failure(487, now)  # given up before anything was sent
        else:
            self._launch(exchange, flow, now)

    def flow_failed(self, key: int, now: float, problem: str = "") -> None:
        """There is no (further) target that can be reached; `problem` says why in words."""
        exchange = self._locating.pop(key, None)
        if exchange is None:
            return
        if exchange.hastening:
            exchange.hastening = False  # there is no other: go on waiting for the last
            return
        exchange.problem = problem
        if exchange.refusal is not None:
            exchange.on_response(exchange.refusal, now)
        else:
            exchange.on_failure(408 if exchange.silent else 503, now)

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A connection broke: its requests without an answer fail (RFC 3261 §17.1.4, §17.2.4)."""
        for client in list(self._clients.values()):
            if client.flow == flow:
                client.transaction.fail(now)
                self._run_client(client, now)

    def repeat(self, exchange: Exchange, request: Request, now: float) -> None:
        """Send a changed request again with the next number (credentials, Min-SE), on the flow of the first."""
        sequence, method = message.cseq(request)
        sequence = exchange.next_cseq() if exchange.next_cseq else sequence + 1
        request.headers.set("CSeq", f"{sequence} {method}")
        exchange.request = request
        if exchange.flow is not None:
            self._launch(exchange, exchange.flow, now)
        else:
            self.send(exchange, now)

    def cancel(self, exchange: Exchange, now: float, headers: HeaderList = ()) -> None:
        """CANCEL an INVITE; only once a provisional response has come (RFC 3261 §9.1), so it may wait for that."""
        exchange.cancelled = True
        exchange.cancel_headers = exchange.cancel_headers or headers
        invite = exchange.transaction
        if invite is not None and invite.state is transaction.State.PROCEEDING and exchange.flow is not None:
            self._withdraw(exchange, invite, exchange.flow, now)

    def _withdraw(self, exchange: Exchange, invite: ClientTransaction, flow: Flow, now: float) -> None:
        request = Request("CANCEL", invite.request.uri)
        request.headers.add("Via", message.values(invite.request, "Via")[0])
        for name in ("Route", "From", "To", "Call-ID"):
            for value in invite.request.headers.getlist(name):
                request.headers.add(name, value)
        request.headers.add("CSeq", f"{message.cseq(invite.request)[0]} CANCEL")
        request.headers.add("Max-Forwards", "70")
        message.add_headers(request, exchange.cancel_headers)
        branch = message.top_via(request).branch
        cancelling = Exchange(request, exchange.hop, _ignore_response, _ignore_failure, flow=flow)
        self._start(cancelling, request, flow, (branch, "CANCEL"), now)

    def resend(self, exchange: Exchange, now: float) -> None:
        """The same bytes again, for an ACK whose 2xx came again."""
        if exchange.flow is not None and exchange.sent:
            self._send(exchange.flow, exchange.sent, message.call_id(exchange.request), now)

    def unproven(self) -> None:
        """A server has answered as if it knew a password, and does not (RFC 7616 §3.5)."""
        self.stats["rspauth_wrong"] += 1

    def token(self, size: int = 12) -> str:
        """Random text for tags, branches and Call-IDs (RFC 3261 §19.3 asks for 32 bits of it at least)."""
        return f"{self.rng.getrandbits(size * 4):0{size}x}"

    def _launch(self, exchange: Exchange, flow: Flow, now: float) -> None:
        exchange.flow = flow
        exchange.tried.add((flow.protocol, *flow.remote))
        branch = f"z9hG4bK{self.token(20)}"
        request = Request(exchange.request.method, exchange.request.uri, exchange.request.body)
        rport = ";rport" if flow.protocol == "UDP" else ""
        request.headers.add("Via", f"SIP/2.0/{flow.protocol} {flow.sent_by};branch={branch}{rport}")
        for name, value in message.header_list(exchange.request):
            request.headers.add(name, value)
        if exchange.contact_user is not None:
            request.headers.set("Contact", flow.contact(exchange.contact_user))
        request.headers.set("User-Agent", self._user_agent)
        if request.method == "ACK":
            exchange.sent = message.serialize(request)
            self._send(flow, exchange.sent, message.call_id(request), now)
            return
        self.stats[f"requests_out_{request.method}"] += 1
        self._start(exchange, request, flow, (branch, request.method), now)

    def _start(self, exchange: Exchange, request: Request, flow: Flow, key: tuple[str, str], now: float) -> None:
        exchange.transaction = ClientTransaction(request, flow.reliable, self.timers, now)
        client = _Client(exchange, exchange.transaction, flow, key)
        if exchange.failover and request.method == "INVITE":
            client.next_target_at = now + self.timers.next_target_s
        self._clients[key] = client
        self._run_client(client, now)

    def _receive_response(self, response: Response, now: float) -> None:
        client = self._clients.get(transaction.client_key(response))
        if client is None:
            self.stats["stray_responses"] += 1
            return
        client.transaction.receive(response, now)
        self._run_client(client, now)

    def _run_client(self, client: _Client, now: float) -> None:
        machine = client.transaction
        outputs = machine.drain()
        if machine.state is transaction.State.TERMINATED:
            self._clients.pop(client.key, None)
        else:
            self._agenda.watch(client)
        for output in outputs:
            if isinstance(output, Transmit):
                self._send(client.flow, output.data, message.call_id(machine.request), now)
            elif isinstance(output, Deliver) and isinstance(output.message, Response):
                client.next_target_at = None
                if machine is client.exchange.transaction:
                    self._deliver(client.exchange, output.message, now)
                elif client.late:
                    self._deliver_late(client, output.message, now)
            elif isinstance(output, GaveUp) and machine is client.exchange.transaction:
                self._give_up(client.exchange, output.transport, now)

    def _deliver(self, exchange: Exchange, response: Response, now: float) -> None:
        was_waiting = exchange.cancelled and not exchange.answered
        exchange.answered = True
        if was_waiting and response.code < 200:
            self.cancel(exchange, now)
        if response.code in (401, 407) and not exchange.cancelled and self._user.challenge(exchange, response, now):
            return
        if 200 <= response.code < 300 and exchange.authentication is not None:
            info = response.headers.get("Authentication-Info") or response.headers.get("Proxy-Authentication-Info")
            exchange.authentication.accepted(info, str(exchange.request.uri), response.body)
        if response.code == 503 and exchange.failover and not exchange.cancelled:
            exchange.refusal = response
            self._next_target(exchange, now)
            return
        exchange.on_response(response, now)

    def _give_up(self, exchange: Exchange, transport: bool, now: float) -> None:
        if exchange.failover and not exchange.cancelled and not exchange.answered:
            exchange.silent = not transport
            self._next_target(exchange, now)
        else:
            exchange.on_failure(503 if transport else 408, now)

    def _next_target(self, exchange: Exchange, now: float) -> None:
        """RFC 3263 §4.3: the same request with a new branch to the next target."""
        exchange.flow = None
        if exchange.hastening:
            exchange.hastening = False  # it is being looked for already
            return
        exchange.attempt += 1
        self._locate(exchange, len(message.serialize(exchange.request)) + 200)

    def _hasten(self, client: _Client) -> None:
        """A caller does not wait 32 s (timer B) for a dead server: look for the next target, keep this one open."""
        client.next_target_at = None
        exchange = client.exchange
        if client.transaction is exchange.transaction and not exchange.answered and not exchange.cancelled:
            exchange.hastening = True
            exchange.attempt += 1
            self._locate(exchange, len(message.serialize(exchange.request)) + 200)

    def _ask_beside(self, exchange: Exchange, flow: Flow, now: float) -> None:
        """The next target, while the last one has said nothing; what that says from now on comes late."""
        exchange.hastening = False
        if exchange.answered or exchange.cancelled:
            return
        for client in self._clients.values():
            if client.transaction is exchange.transaction:
                client.late = True
        self.stats["targets_passed_over"] += 1
        self._launch(exchange, flow, now)

    def _deliver_late(self, client: _Client, response: Response, now: float) -> None:
        """RFC 3261 §9.1, §13.2.2.4: a late ringing is cancelled, a late answer gets ACK and BYE."""
        if response.code < 200 and not client.cancelled:
            client.cancelled = True
            self._withdraw(client.exchange, client.transaction, client.flow, now)
        elif 200 <= response.code < 300 and client.exchange.on_late is not None:
            client.exchange.on_late(response, now)

    def _locate(self, exchange: Exchange, size: int) -> None:
        if not exchange.search:
            self._keys += 1
            exchange.search = self._keys
        self._locating[exchange.search] = exchange
        tried = frozenset(exchange.tried)
        self._actions.append(Locate(exchange.search, exchange.hop, exchange.attempt, size, tried))

    def send_bytes(self, flow: Flow, data: bytes) -> None:
        """What is no SIP message: a keepalive."""
        self._actions.append(Send(flow, data))

    def _send(self, flow: Flow, data: bytes, call_id: str, now: float) -> None:
        self.stats["messages_out"] += 1
        self._trace(call_id, Message(now, "out", data, flow.protocol, flow.local, flow.remote))
        self._actions.append(Send(flow, data))


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


_METHODS = frozenset(
    ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "MESSAGE")
)


def _known_method(method: str) -> str:
    """A counter's name that strangers cannot multiply."""
    return method if method in _METHODS else "other"


def _ignore_response(response: Response, now: float) -> None:
    pass


def _ignore_failure(status: int, now: float) -> None:
    pass
