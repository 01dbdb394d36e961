"""Client transactions: requests of ours go where they must (RFC 3261 §8.1, §9.1, §17.1).

Where a server fails or says nothing, they go to the next one of the trunk (RFC 3263 §4.3).
"""

from dataclasses import dataclass

from sipmessage import Request, Response

from sipagent.sip import message, transaction
from sipagent.sip.agenda import Agenda
from sipagent.sip.engine import HeaderList
from sipagent.sip.exchange import Exchange
from sipagent.sip.flow import Flow, Locate
from sipagent.sip.timing import TimerSettings, earliest
from sipagent.sip.transaction import ClientTransaction, Deliver, GaveUp, Transmit
from sipagent.sip.transaction_user import Network, TransactionUser
from sipagent.sip.wire import Wire


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


class ClientSide:
    """All requests of ours that wait for something."""

    def __init__(self, user: TransactionUser, wire: Wire, timers: TimerSettings, network: Network) -> None:
        self._user, self._wire, self._timers, self._network = user, wire, timers, network
        self._transactions: dict[tuple[str, str], _Client] = {}
        self._locating: dict[int, Exchange] = {}
        self._agenda = Agenda()
        self._keys = 0

    def __len__(self) -> int:
        return len(self._transactions)

    @property
    def unanswered(self) -> int:
        """Requests of ours without a final answer."""
        waiting = (transaction.State.CALLING, transaction.State.TRYING, transaction.State.PROCEEDING)
        return sum(client.transaction.state in waiting for client in self._transactions.values()) + len(self._locating)

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return self._agenda.deadline

    def on_deadline(self, now: float) -> None:
        """Run what is due."""
        for client in self._agenda.due(now):
            if isinstance(client, _Client):
                if client.next_target_at is not None and now >= client.next_target_at:
                    self._hasten(client)
                client.transaction.on_deadline(now)
                self._run(client, now)

    # ---- what our user asks for

    def send(self, exchange: Exchange, now: float) -> None:
        """Send a request: on its flow when it has one that serves, else by locating its next hop."""
        size = len(message.serialize(exchange.request)) + 200  # Via and Contact are still to come
        flow = exchange.flow or self._network.flow_for(exchange.hop, size)
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
        for client in list(self._transactions.values()):
            if client.flow == flow:
                client.transaction.fail(now)
                self._run(client, now)

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
            self._wire.send(exchange.flow, exchange.sent, message.call_id(exchange.request), now)

    # ---- what the network says

    def receive(self, response: Response, now: float) -> None:
        """A response; one that nobody waits for is counted."""
        client = self._transactions.get(transaction.client_key(response))
        if client is None:
            self._wire.stats["stray_responses"] += 1
            return
        client.transaction.receive(response, now)
        self._run(client, now)

    # ---- inside

    def _launch(self, exchange: Exchange, flow: Flow, now: float) -> None:
        exchange.flow = flow
        exchange.tried.add((flow.protocol, *flow.remote))
        branch = f"z9hG4bK{self._wire.token(20)}"
        request = Request(exchange.request.method, exchange.request.uri, exchange.request.body)
        rport = ";rport" if flow.protocol == "UDP" else ""
        request.headers.add("Via", f"SIP/2.0/{flow.protocol} {flow.sent_by};branch={branch}{rport}")
        for name, value in message.header_list(exchange.request):
            request.headers.add(name, value)
        if exchange.contact_user is not None:
            request.headers.set("Contact", flow.contact(exchange.contact_user))
        request.headers.set("User-Agent", self._wire.user_agent)
        if request.method == "ACK":
            exchange.sent = message.serialize(request)
            self._wire.send(flow, exchange.sent, message.call_id(request), now)
            return
        self._wire.stats[f"requests_out_{request.method}"] += 1
        self._start(exchange, request, flow, (branch, request.method), now)

    def _start(self, exchange: Exchange, request: Request, flow: Flow, key: tuple[str, str], now: float) -> None:
        exchange.transaction = ClientTransaction(request, flow.reliable, self._timers, now)
        client = _Client(exchange, exchange.transaction, flow, key)
        if exchange.failover and request.method == "INVITE":
            client.next_target_at = now + self._timers.next_target_s
        self._transactions[key] = client
        self._run(client, now)

    def _run(self, client: _Client, now: float) -> None:
        machine = client.transaction
        outputs = machine.drain()
        if machine.state is transaction.State.TERMINATED:
            self._transactions.pop(client.key, None)
        else:
            self._agenda.watch(client)
        for output in outputs:
            if isinstance(output, Transmit):
                self._wire.send(client.flow, output.data, message.call_id(machine.request), now)
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
        for client in self._transactions.values():
            if client.transaction is exchange.transaction:
                client.late = True
        self._wire.stats["targets_passed_over"] += 1
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
        self._wire.locate(Locate(exchange.search, exchange.hop, exchange.attempt, size, tried))


def _ignore_response(response: Response, now: float) -> None:
    pass


def _ignore_failure(status: int, now: float) -> None:
    pass
