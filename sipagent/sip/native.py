"""The native engine: the user agent's core on asyncio's sockets and clock."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from sipagent.errors import RemoteError
from sipagent.sip import header
from sipagent.sip.bindings import contact_user, first_hop, server_uri
from sipagent.sip.call_state import CallState
from sipagent.sip.core import UserAgent
from sipagent.sip.drop_log import DropLog
from sipagent.sip.engine import (
    EngineEvent,
    EngineSettings,
    HeaderList,
    PlaceCall,
    RegistrationChanged,
    RegistrationState,
    TrunkAccount,
)
from sipagent.sip.finder import Finder
from sipagent.sip.flow import Flow, Locate, Send
from sipagent.sip.guard import Action, Guard, GuardLimits
from sipagent.sip.ladder import Message, Observer
from sipagent.sip.locate import Target
from sipagent.sip.public_address import PREFIX, parse_server
from sipagent.sip.resolver import DnsResolver, Resolver, read_hosts
from sipagent.sip.timing import TimerSettings
from sipagent.sip.tls import TlsSettings
from sipagent.sip.transport import Transports

# Whoever opens the door to all wants their calls too; what is left is protection from a flood.
OPEN_LIMITS = GuardLimits(source_rate=2_000, source_burst=4_000, strangers_rate=4_000, strangers_burst=8_000)
ENDING = (CallState.LEAVING, CallState.CANCELLING, CallState.ENDED)
LINGER_S = 1.5  # at the end, for the answers to our last requests
_log = structlog.get_logger("sip")
EventHandler = Callable[[EngineEvent], None]


class NativeEngine:
    """`SipEngine` in Python: sockets, clock and names outside, all decisions in `UserAgent`."""

    def __init__(
        self, settings: EngineSettings, timers: TimerSettings | None = None, resolver: Resolver | None = None
    ) -> None:
        """`resolver` stands in for DNS."""
        self._settings = settings
        tls = TlsSettings(
            settings.tls_certificate, settings.tls_key, settings.tls_ca, settings.tls_verify, settings.tls_client_ca
        )
        self._stun = settings.public_address if settings.public_address.startswith(PREFIX) else ""
        public = "" if self._stun else settings.public_address
        self._transports = Transports(self._on_message, self._on_lost, public, tls)
        self._agent = UserAgent(settings, self, self._trunk_of, timers)
        self._transports.on_stun = self._on_stun
        self._transports.on_refused = lambda counter: self._agent.layer.stats.update((counter,))
        self._drops = DropLog(self._agent.layer.stats, _tell_dropped)
        self._on_event: EventHandler | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses: dict[str, set[str]] = {trunk.name: set() for trunk in settings.trunks}
        self._guard = Guard(
            {trunk.name: trunk.allow for trunk in settings.trunks},
            accept_unknown=settings.accept_unknown_sources,
            limits=OPEN_LIMITS if settings.accept_unknown_sources else None,
        )
        self._finder = Finder(self._transports, resolver or DnsResolver(read_hosts()), self._learn_servers)
        self._flushing = self._stopping = False

    # ---- life

    async def start(self, on_event: EventHandler) -> None:
        """Bind the listeners and begin to register; raises ConfigError when an address cannot be bound."""
        self._on_event = on_event
        await self._transports.listen(self._settings.listen)
        if self._stun:
            await self._discover(self._stun)
        for trunk in self._settings.trunks:
            self._spawn(self._begin_trunk(trunk))
        self._flush()

    async def stop(self) -> None:
        """Un-register, BYE or CANCEL what is left, wait a little for the answers, close the transports."""
        if self._stopping:
            return
        self._stopping = True
        now = time.monotonic()
        self._agent.bindings.unregister(now)
        for call in self._agent.calls():
            call.hangup((), now)
        self._flush()
        end = now + LINGER_S
        while (self._agent.layer.clients.unanswered or self._agent.bindings.leaving) and time.monotonic() < end:  # noqa: ASYNC110 - the core has no event loop
            await asyncio.sleep(0.02)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transports.close()

    async def unregister(self) -> None:
        """Give up the registrations, so that no new call comes; calls go on."""
        self._agent.bindings.unregister(time.monotonic())
        self._flush()

    def update_trunks(self, trunks: tuple[TrunkAccount, ...]) -> None:
        """Have these trunks from now on; calls go on, also those of trunks that are gone."""
        before = {trunk.name: trunk for trunk in self._settings.trunks}
        self._settings = replace(self._settings, trunks=trunks)
        self._agent.trunks.accounts = {trunk.name: trunk for trunk in trunks}
        for trunk in trunks:
            if trunk != before.get(trunk.name):
                self._addresses.setdefault(trunk.name, set())
                if trunk.allow:  # else those of its server stay until they are known anew
                    self._guard.set_networks(trunk.name, trunk.allow)
                self._spawn(self._renew_trunk(trunk))
        for name in before.keys() - self._agent.trunks.accounts.keys():
            self._guard.set_networks(name, ())
            self._spawn(self._leave_trunk(name))

    def handles(self) -> tuple[str, ...]:
        """The calls that neither side has ended yet."""
        return tuple(call.handle for call in self._agent.calls() if call.state not in ENDING)

    def listening(self) -> tuple[str, ...]:
        """The bound addresses, as in `EngineSettings.listen` with real ports."""
        return self._transports.listening()

    def local_address(self, handle: str, trunk: str = "") -> str:
        """The address that the far end should send media to when nothing else is configured."""
        call = self._agent.call(handle)
        if call is not None and call.dialog is not None:
            return self._transports.local_address(call.dialog.flow.remote[0])
        known = sorted(self._addresses.get(trunk or (call.trunk if call else ""), ()))
        return self._transports.local_address(known[0]) if known else self._first_listener()

    def registrations(self) -> Mapping[str, RegistrationChanged]:
        """Present state by trunk name."""
        disabled = {
            trunk.name: RegistrationChanged(trunk.name, RegistrationState.DISABLED) for trunk in self._settings.trunks
        }
        return {**disabled, **self._agent.bindings.states()}

    def stats(self) -> Mapping[str, int]:
        """Counters by name, for /metrics."""
        return self._agent.stats()

    def ladder(self, handle: str) -> tuple[Message, ...]:
        """The call's messages so far."""
        return self._agent.ladders.read(handle)

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every message from now on."""
        self._agent.ladders.observers.append(observer)

    # ---- calls

    def ring(self, handle: str, headers: HeaderList = ()) -> None:
        """180 Ringing."""
        self._agent.provisional(handle, 180, b"", headers, time.monotonic())
        self._flush()

    def progress(self, handle: str, body: bytes, headers: HeaderList = ()) -> None:
        """183 Session Progress with a session description: early media."""
        self._agent.provisional(handle, 183, body, headers, time.monotonic())
        self._flush()

    def answer(self, handle: str, body: bytes, headers: HeaderList = ()) -> None:
        """200 OK; the engine repeats it until the ACK comes."""
        self._agent.answer(handle, body, headers, time.monotonic())
        self._flush()

    def reject(self, handle: str, status: int, reason: str = "", headers: HeaderList = ()) -> None:
        """Any final status from 300 to 699."""
        self._agent.reject(handle, status, reason, headers, time.monotonic())
        self._flush()

    def place(self, call: PlaceCall) -> str:
        """Send INVITE; returns the handle. Challenges are answered once by the engine."""
        handle = self._agent.place(call, time.monotonic())
        self._flush()
        return handle

    def hangup(self, handle: str, headers: HeaderList = ()) -> None:
        """BYE, CANCEL or 487, whatever the state of the call wants."""
        call = self._agent.call(handle)
        if call is not None:
            call.hangup(headers, time.monotonic())
            self._flush()

    def reoffer(self, handle: str, offer: bytes) -> None:
        """Send re-INVITE with an offer (queued behind one that is pending; glare is waited out)."""
        call = self._agent.call(handle)
        if call is not None:
            call.reoffers.offer(offer, time.monotonic())
            self._flush()

    def accept_reoffer(self, handle: str, body: bytes) -> None:
        """200 OK to the pending Reoffer."""
        call = self._agent.call(handle)
        if call is not None:
            call.reoffers.accept(body, time.monotonic())
            self._flush()

    def reject_reoffer(self, handle: str, status: int, reason: str = "") -> None:
        """Refuse the pending Reoffer, mostly with 488; the session goes on as it was."""
        call = self._agent.call(handle)
        if call is not None:
            call.reoffers.reject(status, reason, time.monotonic())
            self._flush()

    def send_in_dialog(self, handle: str, method: str, content_type: str, body: bytes) -> None:
        """INFO or MESSAGE."""
        call = self._agent.call(handle)
        if call is not None:
            call.send_in_dialog(method, content_type, body, time.monotonic())
            self._flush()

    def refer(self, handle: str, refer_to: str, replaces: str | None = None) -> None:
        """Blind transfer, or attended when `replaces` names another call of ours."""
        self._agent.refer(handle, refer_to, replaces, time.monotonic())
        self._flush()

    def accept_refer(self, handle: str) -> None:
        """202 Accepted to the pending TransferRequested."""
        call = self._agent.call(handle)
        if call is not None:
            call.transfers.accept(time.monotonic())
            self._flush()

    def reject_refer(self, handle: str, status: int) -> None:
        """Refuse it (603)."""
        call = self._agent.call(handle)
        if call is not None:
            call.transfers.reject(status, time.monotonic())
            self._flush()

    def notify_refer(self, handle: str, status: int, reason: str, done: bool) -> None:
        """NOTIFY the far end of how its transfer goes (message/sipfrag)."""
        call = self._agent.call(handle)
        if call is not None:
            call.transfers.notify(status, reason, done, time.monotonic())
            self._flush()

    # ---- what the core asks of the network (Network)

    def flow_for(self, uri: str, size: int) -> Flow | None:
        """UDP to a numeric address, or an open connection; None = use Locate."""
        return self._finder.at_once(uri, size)

    def is_open(self, flow: Flow) -> bool:
        """Whether bytes can still be put on a flow."""
        return self._transports.is_open(flow)

    # ---- input

    def _on_message(self, data: bytes, flow: Flow) -> None:
        now = time.monotonic()
        decision = self._guard.screen(data, flow.remote[0], now)
        if decision.action is not Action.PASS:
            self._agent.layer.stats[f"guard_{decision.reason}"] += 1
            self._drops.note(f"guard_{decision.reason}", flow.remote[0], now)
        if decision.action is not Action.DROP:
            fault = RemoteError(decision.status, "") if decision.action is Action.REFUSE else None
            try:
                self._agent.receive(data, flow, now, fault)
            except Exception:
                # one message must never take the other calls along
                self._agent.layer.stats["internal_errors"] += 1
                _log.exception("message_failed", source=flow.remote[0])
            self._drops.look(flow.remote[0], now)
            self._flush()

    def _on_stun(self, data: bytes, source: tuple[str, int]) -> None:
        self._agent.bindings.receive_stun(data, source, time.monotonic())
        self._flush()

    def _on_lost(self, flow: Flow) -> None:
        self._agent.flow_lost(flow, time.monotonic())
        self._flush()

    def _on_timer(self) -> None:
        self._timer = None
        self._agent.on_deadline(time.monotonic())
        self._flush()

    # ---- output

    def _flush(self) -> None:
        """Carry out what the core wants; handlers of events may ask for more, which is then done too."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while True:
                actions, events = self._agent.drain()
                if not actions and not events:
                    break
                for action in actions:
                    if isinstance(action, Send):
                        if not self._transports.send(action.flow, action.data) and action.flow.reliable:
                            self._agent.flow_lost(action.flow, time.monotonic())
                    else:
                        self._spawn(self._locate(action))
                for event in events:
                    if isinstance(event, RegistrationChanged):
                        self._learn_seen_address(event.trunk)
                    if self._on_event is not None:
                        self._on_event(event)
        finally:
            self._flushing = False
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self._agent.deadline
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        delay_s = max(0.0, deadline - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _locate(self, wanted: Locate) -> None:
        flow, problem = await self._finder.find(wanted)
        now = time.monotonic()
        if flow is not None:
            self._agent.layer.clients.flow_ready(wanted.key, flow, now)
        else:
            self._agent.layer.clients.flow_failed(wanted.key, now, problem)
        self._flush()

    def _learn_servers(self, uri: str, found: Sequence[Target]) -> None:
        """Addresses of a trunk's server: they may ask for its password and, by default, send calls."""
        addresses = {target.address for target in found}
        for trunk in self._settings.trunks:
            known = self._addresses[trunk.name]
            if uri not in (first_hop(trunk), server_uri(trunk)) or known >= addresses:
                continue
            known |= addresses
            self._agent.trunks.servers[trunk.name] = known
            if not trunk.allow:
                self._guard.set_networks(trunk.name, sorted(known))

    # ---- trunks

    def _trunk_of(self, address: str) -> str | None:
        """The trunk whose far end has this address; "" = none, None = a stranger whom we do not answer."""
        decision = self._guard.admit(address)
        return None if decision.action is Action.DROP else decision.trunk

    async def _discover(self, server: str) -> None:
        """Learn our public address by STUN; without an answer the sockets' own addresses have to do."""
        host, port = parse_server(server)
        targets = await self._finder.resolve(f"sip:{host}:{port};transport=udp")
        found = await self._transports.discover((targets[0].address, port)) if targets else None
        if found is None:
            _log.warning("stun_failed", server=server)
        else:
            _log.info("public_address", address=found[0], port=found[1])

    async def _begin_trunk(self, trunk: TrunkAccount) -> None:
        """Learn the addresses of a trunk, then register and keep it alive."""
        found: list[Target] = []
        for uri in dict.fromkeys((first_hop(trunk), server_uri(trunk))):
            found.extend(await self._finder.resolve(uri))
        now = time.monotonic()
        if trunk.register:
            contact, rewrite = self._contact(trunk, found[0] if found else None)
            self._agent.bindings.register(trunk, contact, rewrite, now)
        self._agent.bindings.keep_alive(trunk, now)
        self._flush()

    async def _renew_trunk(self, trunk: TrunkAccount) -> None:
        """Leave what was there by this name, then begin: a late un-REGISTER must not meet the new binding."""
        await self._leave_trunk(trunk.name)
        if trunk in self._settings.trunks:  # unless it has changed again
            self._addresses[trunk.name] = set()
            await self._begin_trunk(trunk)

    async def _leave_trunk(self, name: str) -> None:
        now = time.monotonic()
        self._agent.bindings.leave(name, now)
        self._flush()
        end = now + LINGER_S
        while self._agent.bindings.leaving_from(name) and time.monotonic() < end:  # noqa: ASYNC110 - the core has no event loop
            await asyncio.sleep(0.02)
        self._agent.bindings.forget(name)
        self._addresses.pop(name, None)
        self._agent.trunks.servers.pop(name, None)

    def _contact(self, trunk: TrunkAccount, target: Target | None) -> tuple[str, bool]:
        """Our Contact URI towards a trunk, and whether the registrar may correct it (RFC 3581 by UDP only)."""
        flow = self._transports.expected_flow(*((target.protocol, target.address) if target else ("UDP", "")))
        contact = header.parse_address(flow.contact(contact_user(trunk))).uri
        return contact, flow.protocol == "UDP" and not self._settings.public_address

    def _learn_seen_address(self, trunk: str) -> None:
        """Behind NAT, Contact and media address of later calls are what the registrar sees (RFC 3581)."""
        seen = self._agent.bindings.seen_address(trunk)
        for address in self._addresses.get(trunk, ()):
            self._transports.set_seen(address, seen)

    def _first_listener(self) -> str:
        if self._transports.public:
            return self._transports.public
        for specification in self._transports.listening():
            host = specification.partition(":")[2].rpartition(":")[0].strip("[]")
            if host not in ("0.0.0.0", "::"):
                return host
        return self._transports.local_address("192.0.2.1")  # towards the default route (RFC 5737: nobody's address)


def _tell_dropped(why: str, source: str, hushed: int) -> None:
    _log.warning("message is not taken", why=why, source=source, as_many_before=hushed)
