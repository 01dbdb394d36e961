"""Registrations and keepalives of the trunks: the machines of `registration` on our transactions (RFC 3261 §10)."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sipmessage import Request, Response

from sipagent.sip import header, message
from sipagent.sip.agenda import Agenda
from sipagent.sip.digest import Account, Authentication, parse_challenges
from sipagent.sip.engine import EngineEvent, EngineSettings, RegistrationChanged, RegistrationState, TrunkAccount
from sipagent.sip.exchange import Exchange
from sipagent.sip.flow import Flow
from sipagent.sip.flow_keepalive import FlowKeepalive, FlowOwner, Outcome
from sipagent.sip.layer import TransactionLayer
from sipagent.sip.registration import Phase, Registration, RegistrationSettings, SendRegister


def normal_uri(text: str) -> str:
    """A SIP URI without its brackets, from what people write; a bare host or host:port will do."""
    text = text.strip().removeprefix("<").removesuffix(">")
    return text if text.lower().startswith(("sip:", "sips:")) else f"sip:{text}"


def server_uri(account: TrunkAccount) -> str:
    """The trunk's server."""
    return normal_uri(account.server)


def first_hop(account: TrunkAccount) -> str:
    """Where requests outside of a dialog go: the outbound proxy, or the server."""
    return normal_uri(account.outbound_proxy) if account.outbound_proxy else server_uri(account)


def address_of_record(account: TrunkAccount) -> str:
    """Who we are at the trunk."""
    server = header.parse_uri(server_uri(account))
    host = account.domain or (f"{server.host}:{server.port}" if server.port else server.host)
    user = account.username or account.caller_id
    return f"sip:{user}@{host}" if user else f"sip:{host}"


@dataclass(slots=True, eq=False)
class _Binding:
    """One trunk's registration and its place on the network."""

    account: TrunkAccount
    registration: Registration
    call_id: str
    tag: str
    base_contact: str  # as our sockets see it; the registrar may have seen another
    flow: Flow | None = None
    asked: frozenset[str] = frozenset()  # realms of the latest challenge

    @property
    def deadline(self) -> float | None:
        return self.registration.deadline


@dataclass(slots=True, eq=False)
class _Keepalive:
    """OPTIONS to one trunk at intervals."""

    account: TrunkAccount
    deadline: float


class Bindings:
    """All registrations and keepalives; `realms` says who has proved to be a trunk's registrar."""

    def __init__(self, layer: TransactionLayer, emit: Callable[[EngineEvent], None], settings: EngineSettings) -> None:
        self.realms: dict[str, frozenset[str]] = {}
        self._layer, self._emit = layer, emit
        self._keepalive_s, self._keepalive = settings.keepalive_s, settings.keepalive
        self._instance = f"<urn:uuid:{settings.instance_id}>" if settings.instance_id else ""
        self._bindings: dict[str, _Binding] = {}
        self._keepalives: dict[str, _Keepalive | FlowKeepalive] = {}
        self._agenda = Agenda()

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return self._agenda.deadline

    def on_deadline(self, now: float) -> None:
        """Refresh, retry, ping."""
        for machine in self._agenda.due(now):
            if isinstance(machine, _Binding):
                machine.registration.on_deadline(now)
                self._run(machine, now)
            elif isinstance(machine, _Keepalive) and self._keepalives.get(machine.account.name) is machine:
                self._ping(machine, now)
            elif isinstance(machine, FlowKeepalive) and machine in self._keepalives.values():
                machine.on_deadline(now)
                self._agenda.watch(machine)

    def receive_stun(self, data: bytes, source: tuple[str, int], now: float) -> None:
        """A STUN datagram came to a SIP socket."""
        for machine in self._keepalives.values():
            if isinstance(machine, FlowKeepalive):
                machine.receive(data, source, now)
                self._agenda.watch(machine)

    def states(self) -> Mapping[str, RegistrationChanged]:
        """Present state by trunk."""
        return {name: binding.registration.current for name, binding in self._bindings.items()}

    def service_route(self, trunk: str) -> tuple[str, ...]:
        """Route that the registrar wants for our requests (RFC 3608)."""
        binding = self._bindings.get(trunk)
        return binding.registration.service_route if binding else ()

    def seen_address(self, trunk: str) -> tuple[str, int] | None:
        """Where the registrar sees us, when that is not what our sockets say."""
        binding = self._bindings.get(trunk)
        if binding is None or binding.registration.contact == binding.base_contact:
            return None
        host, port = header.host_port(binding.registration.contact)
        return (host, port) if port else None

    def register(self, account: TrunkAccount, contact: str, rewrite: bool, now: float) -> None:
        """Begin to register; `contact` is our URI, `rewrite` lets the registrar's view of our address replace it."""
        server = header.parse_uri(server_uri(account))
        registrar = account.domain or (f"{server.host}:{server.port}" if server.port else server.host)
        settings = RegistrationSettings(
            account.name,
            f"sip:{registrar}",
            contact,
            account.expires_s,
            rewrite_contact=rewrite,
            instance=self._instance if account.sip_outbound else "",
            reg_id=self._free_reg_id(account),
        )
        username = account.auth_username or account.username
        authentication = Authentication(Account(username, account.password), on_unproven=self._layer.unproven)
        registration = Registration(settings, authentication, self._layer.rng)
        call_id = f"{self._layer.token(24)}"
        binding = _Binding(account, registration, call_id, self._layer.token(), contact)
        self._bindings[account.name] = binding
        registration.start(now)
        self._run(binding, now)

    def _free_reg_id(self, account: TrunkAccount) -> int:
        """RFC 5626 §4.2: another flow to the same address of record has another number."""
        taken = {
            other.registration.settings.reg_id
            for name, other in self._bindings.items()
            if name != account.name and address_of_record(other.account) == address_of_record(account)
        }
        return next(number for number in itertools.count(1) if number not in taken)

    def keep_alive(self, account: TrunkAccount, now: float) -> None:
        """OPTIONS, STUN or CRLF at intervals, the first after a random part of one."""
        if self._keepalive_s <= 0:
            return
        keepalive: _Keepalive | FlowKeepalive
        if self._keepalive == "options":
            keepalive = _Keepalive(account, now + self._keepalive_s * self._layer.rng.random())
        else:
            owner = FlowOwner(
                partial(self._flow_to, account),
                partial(self._interval_s, account.name),
                self._layer.send_bytes,
                partial(self._flow_told, account.name),
            )
            keepalive = FlowKeepalive(owner, self._keepalive == "stun", self._layer.rng, now)
        self._keepalives[account.name] = keepalive
        self._agenda.watch(keepalive)

    def _flow_to(self, account: TrunkAccount) -> Flow | None:
        """That of the registration; where there is none, the one that a request would take."""
        binding = self._bindings.get(account.name)
        if binding is not None and binding.flow is not None:
            return binding.flow
        return self._layer.network.flow_for(first_hop(account), 0) if not account.register else None

    def _interval_s(self, trunk: str) -> float:
        binding = self._bindings.get(trunk)
        wanted_s = binding.registration.flow_timer_s if binding is not None else 0
        return min(self._keepalive_s, wanted_s) if wanted_s else self._keepalive_s

    def _flow_told(self, trunk: str, outcome: Outcome, now: float) -> None:
        alive, binding = outcome is Outcome.ALIVE, self._bindings.get(trunk)
        self._layer.stats["keepalives_answered" if alive else "keepalives_lost"] += 1
        if binding is None:
            return
        if alive:
            binding.registration.reachable(now)
        elif outcome is Outcome.LOST:
            binding.registration.flow_failed(now)
        self._run(binding, now)

    def leave(self, trunk: str, now: float) -> None:
        """Give one registration up, and ping its trunk no more; `forget` follows when it is not `leaving_from`."""
        self._keepalives.pop(trunk, None)
        binding = self._bindings.get(trunk)
        if binding is not None:
            binding.registration.unregister(now)
            self._run(binding, now)

    def leaving_from(self, trunk: str) -> bool:
        """Whether this registration still waits to be given up."""
        binding = self._bindings.get(trunk)
        return binding is not None and binding.registration.phase is Phase.LEAVING

    def forget(self, trunk: str) -> None:
        """A trunk that we have left."""
        self._bindings.pop(trunk, None)
        self.realms.pop(trunk, None)

    def unregister(self, now: float) -> None:
        """Give all of them up."""
        for binding in self._bindings.values():
            binding.registration.unregister(now)
            self._run(binding, now)

    @property
    def leaving(self) -> bool:
        """Whether a registration still waits to be given up."""
        return any(binding.registration.phase is Phase.LEAVING for binding in self._bindings.values())

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A connection broke; what was registered over it is registered anew."""
        for binding in self._bindings.values():
            if binding.flow == flow:
                binding.flow = None
                binding.registration.flow_failed(now)
                self._run(binding, now)

    def _run(self, binding: _Binding, now: float) -> None:
        for output in binding.registration.drain():
            if isinstance(output, SendRegister):
                self._send(binding, output, now)
            else:
                if output.state is RegistrationState.REGISTERED and binding.asked:
                    self.realms[binding.account.name] = binding.asked
                self._emit(output)
        self._agenda.watch(binding)

    def _send(self, binding: _Binding, wanted: SendRegister, now: float) -> None:
        account = binding.account
        request = Request("REGISTER", message.target(wanted.request_uri))
        if account.outbound_proxy:
            request.headers.add("Route", route_value(first_hop(account)))
        request.headers.add("Max-Forwards", "70")
        name = f"{header.quote(account.display_name)} " if account.display_name else ""
        request.headers.add("From", f"{name}<{address_of_record(account)}>;tag={binding.tag}")
        request.headers.add("To", f"<{address_of_record(account)}>")
        request.headers.add("Call-ID", binding.call_id)
        request.headers.add("CSeq", f"{wanted.cseq} REGISTER")
        contacts = [f"<{uri}>;expires={expires_s}" for uri, expires_s in wanted.contacts]
        if wanted.outbound:
            settings = binding.registration.settings
            contacts[0] += f';+sip.instance="{settings.instance}";reg-id={settings.reg_id}'
        request.headers.setlist("Contact", contacts)
        request.headers.add("Expires", str(wanted.expires_s))
        request.headers.add("Supported", "path, outbound" if wanted.outbound else "path")
        message.add_headers(request, (*wanted.headers, *account.headers))
        usable = binding.flow is not None and self._layer.network.is_open(binding.flow)
        exchange = Exchange(
            request, first_hop(account), _nothing, _no_failure, failover=True, flow=binding.flow if usable else None
        )

        def on_response(response: Response, at: float) -> None:
            if response.code < 200:
                return
            binding.flow = exchange.flow if response.code != 503 else None
            if response.code in (401, 407):
                headers = (
                    *response.headers.getlist("WWW-Authenticate"),
                    *response.headers.getlist("Proxy-Authenticate"),
                )
                binding.asked = frozenset(challenge.realm for challenge in parse_challenges(headers))
            self._follow_flow(binding, at)
            listed = message.header_list(response)
            binding.registration.receive(wanted.cseq, response.code, response.phrase, listed, at)
            self._run(binding, at)

        def on_failure(status: int, at: float) -> None:
            binding.flow = None
            reason = "no answer" if status == 408 else exchange.problem or "not reachable"
            binding.registration.timed_out(wanted.cseq, at, reason)
            self._run(binding, at)

        exchange.on_response, exchange.on_failure = on_response, on_failure
        self._layer.clients.send(exchange, now)

    def _follow_flow(self, binding: _Binding, now: float) -> None:
        """The connection that was made may leave by another address than was thought before."""
        if binding.flow is None or not binding.flow.reliable:
            return
        contact = header.parse_address(binding.flow.contact(contact_user(binding.account))).uri
        if contact != binding.base_contact:
            moved = binding.registration.contact == binding.base_contact
            binding.base_contact = contact
            if moved:
                binding.registration.move(contact, now)

    def _ping(self, keepalive: _Keepalive, now: float) -> None:
        account = keepalive.account
        request = Request("OPTIONS", message.target(server_uri(account)))
        if account.outbound_proxy:
            request.headers.add("Route", route_value(first_hop(account)))
        request.headers.add("Max-Forwards", "70")
        request.headers.add("From", f"<{address_of_record(account)}>;tag={self._layer.token()}")
        request.headers.add("To", f"<{server_uri(account)}>")
        request.headers.add("Call-ID", self._layer.token(24))
        request.headers.add("CSeq", "1 OPTIONS")
        request.headers.add("Accept", "application/sdp")

        def on_response(response: Response, at: float) -> None:
            if response.code >= 200:
                self._layer.stats["keepalives_answered"] += 1
                binding = self._bindings.get(account.name)
                if binding is not None:
                    binding.registration.reachable(at)
                    self._run(binding, at)

        def on_failure(status: int, at: float) -> None:
            self._layer.stats["keepalives_lost"] += 1

        exchange = Exchange(
            request, first_hop(account), on_response, on_failure, contact_user=contact_user(account), failover=True
        )
        self._layer.clients.send(exchange, now)
        keepalive.deadline = now + self._keepalive_s
        self._agenda.watch(keepalive)


def contact_user(account: TrunkAccount) -> str:
    """The user part of our Contact at a trunk."""
    return account.username or account.caller_id


def route_value(uri: str) -> str:
    """A Route to a proxy; loose routing is taken for granted (RFC 3261 §16.12)."""
    return f"<{uri}>" if header.uri_parameter(uri, "lr") is not None else f"<{uri};lr>"


def _nothing(response: Response, now: float) -> None:
    pass


def _no_failure(status: int, now: float) -> None:
    pass
