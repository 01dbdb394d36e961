"""The engine on PJSIP, as the service sees it: it starts PJSIP's process, speaks to it, and starts it again."""

import asyncio
import random
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

import structlog

from sipagent.errors import ConfigError, ParseError
from sipagent.sip import header
from sipagent.sip.bindings import first_hop, server_uri
from sipagent.sip.engine import (
    Cancelled,
    Ended,
    EngineEvent,
    EngineSettings,
    HeaderList,
    IncomingCall,
    PlaceCall,
    RegistrationChanged,
    RegistrationState,
    TrunkAccount,
)
from sipagent.sip.ladder import Ladders, Message, Observer
from sipagent.sip.locate import Locator
from sipagent.sip.pjsua2 import messages
from sipagent.sip.pjsua2.messages import Command, Report
from sipagent.sip.public_address import PREFIX
from sipagent.sip.resolver import DnsResolver, ResolveError, Resolver, read_hosts
from sipagent.sip.transport import parse_listen

START_S: Final = 30.0
STOP_S: Final = 4.0
SILENT_S: Final = 6.0  # without a sign of life PJSIP's loop hangs: its process is ended and started again
RESTART_S: Final = (0.1, 1.0, 5.0)  # before the first, second and every further restart within a minute
MAX_TRUNKS: Final = 7  # PJSIP's default is eight accounts, the ninth aborts; one is for strangers
SOUND_VERSION: Final = (2, 17)
KNOWN_HOLES: Final = (
    "CVE-2026-29068 (RTP payloads)",
    "CVE-2026-41416 (ptime)",
    "GHSA-x5pq-qrp4-fmrj (multipart)",
    "GHSA-j29p-pvh2-pvqp (ICE)",
    "GHSA-8fj4-fv9f-hjpc (presence)",
)
_log = structlog.get_logger("sip")


class PjsipProcess(Protocol):
    """The child process of one life of PJSIP."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def send(self, command: Command) -> None:
        """Pass a command on; lost when the process is gone."""

    def kill(self) -> None:
        """End it at once; `on_exit` follows."""


class StartProcess(Protocol):
    """How the service starts `sipagent.sip.pjsua2.process`."""

    def __call__(
        self,
        arguments: tuple[EngineSettings, dict[str, tuple[str, ...]], int],
        on_report: Callable[[Report], None],
        on_exit: Callable[[int], None],
    ) -> PjsipProcess:
        """`arguments` are those of `process.run` behind the socket."""


class Pjsua2Engine:
    """`SipEngine` on PJSIP."""

    def __init__(self, settings: EngineSettings, start_process: StartProcess, resolver: Resolver | None = None) -> None:
        """`resolver` stands in for DNS. ConfigError for what this engine cannot do."""
        if settings.public_address.startswith(PREFIX):
            raise ConfigError("sip.public_address", "the pjsua2 engine does not ask STUN", "write the address itself")
        if settings.tls_client_ca:
            raise ConfigError("sip.tls_client_ca", "the pjsua2 engine asks no client", "put a TLS proxy in front")
        _check_count(settings.trunks)
        self._settings, self._start_process, self._resolver = settings, start_process, resolver
        self._on_event: Callable[[EngineEvent], None] = lambda event: None
        self._process: PjsipProcess | None = None
        self._ladders = Ladders()
        self._calls: dict[str, str] = {}  # far end's address by handle, "" = not known yet
        self._registrations: dict[str, RegistrationChanged] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._counters: dict[str, int] = {}
        self._listening: tuple[str, ...] = settings.listen
        self._generation = self._placed = 0
        self._restarts: list[float] = []
        self._heard_at = 0.0
        self._started: asyncio.Future[messages.Ready] | None = None
        self._gone = asyncio.Event()
        self._stopping = False
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.max_calls = 0

    # ---- life

    async def start(self, on_event: Callable[[EngineEvent], None]) -> None:
        """Start PJSIP; raises ConfigError when it is not installed, or an address cannot be bound."""
        self._on_event = on_event
        for listener in self._settings.listen:
            parse_listen(listener)
        self._addresses = await self._resolve(self._settings.trunks)
        self._started = asyncio.get_running_loop().create_future()
        self._launch()
        try:
            ready = await asyncio.wait_for(asyncio.shield(self._started), START_S)
        except TimeoutError:
            self._stopping, self._started = True, None
            self._kill()
            raise ConfigError("sip.engine", "PJSIP did not start", "see docs/pjsua2.md") from None
        self._announce(ready)
        self._watch()

    async def stop(self) -> None:
        """Un-register, BYE or CANCEL what is left, end PJSIP's process."""
        self._stopping = True
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._process is not None:
            self._send(messages.Stop())
            try:
                await asyncio.wait_for(self._gone.wait(), STOP_S)
            except TimeoutError:
                self._kill()
                await self._gone.wait()

    async def unregister(self) -> None:
        """Give up the registrations, so that no new call comes; calls go on."""
        self._send(messages.Unregister())

    def update_trunks(self, trunks: tuple[TrunkAccount, ...]) -> None:
        """Other trunks, while calls go on; their servers are looked up first."""
        _check_count(trunks)
        self._settings = replace(self._settings, trunks=trunks)
        task = asyncio.ensure_future(self._update(trunks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def listening(self) -> tuple[str, ...]:
        """The bound addresses."""
        return self._listening

    def local_address(self, handle: str, trunk: str = "") -> str:
        """The address that the far end should send media to when nothing else is configured."""
        if self._settings.public_address:
            return self._settings.public_address
        far_end = self._calls.get(handle) or next(iter(self._addresses.get(trunk, ())), "")
        _, host, _ = parse_listen(self._listening[0])
        if not header.is_numeric(far_end) and ":" not in far_end:
            return host if host not in ("0.0.0.0", "::") else _route_to("192.0.2.1")
        return _route_to(far_end) or host

    def _listener(self, protocol: str, far_end: str) -> tuple[str, int]:
        """Our address towards a far end; PJSIP's log does not name it."""
        for each in self._listening:
            kind, host, port = parse_listen(each)
            if kind == protocol.upper():
                if host in ("0.0.0.0", "::"):
                    host = self._settings.public_address or _route_to(far_end) or host
                return host, port
        return "", 0

    def registrations(self) -> Mapping[str, RegistrationChanged]:
        """Present state by trunk name."""
        disabled = {
            trunk.name: RegistrationChanged(trunk.name, RegistrationState.DISABLED) for trunk in self._settings.trunks
        }
        return {**disabled, **self._registrations}

    def handles(self) -> tuple[str, ...]:
        """The calls that are alive."""
        return tuple(self._calls)

    def stats(self) -> Mapping[str, int]:
        """Counters by name; `restarts` of PJSIP's process among them."""
        return {**self._counters, "restarts": max(0, self._generation - 1), "call_limit": self.max_calls}

    def ladder(self, handle: str) -> tuple[Message, ...]:
        """The call's messages so far."""
        return self._ladders.read(handle)

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every message from now on."""
        self._ladders.observers.append(observer)

    # ---- calls

    def ring(self, handle: str, headers: HeaderList = ()) -> None:
        """180 Ringing."""
        self._send(messages.Ring(handle, headers))

    def progress(self, handle: str, body: bytes, headers: HeaderList = ()) -> None:
        """183 Session Progress with a session description: early media."""
        self._send(messages.SendProgress(handle, body, headers))

    def answer(self, handle: str, body: bytes, headers: HeaderList = ()) -> None:
        """200 OK; PJSIP repeats it until the ACK comes."""
        self._send(messages.Answer(handle, body, headers))

    def reject(self, handle: str, status: int, reason: str = "", headers: HeaderList = ()) -> None:
        """Any final status from 300 to 699."""
        self._send(messages.Reject(handle, status, reason, headers))

    def place(self, call: PlaceCall) -> str:
        """Send INVITE; returns the handle."""
        self._placed += 1
        handle = f"out-{self._placed}"
        self._calls[handle] = next(iter(self._addresses.get(call.trunk, ())), "")
        if self._process is None:
            asyncio.get_running_loop().call_soon(self._happened, Ended(handle, "transport", 503, "PJSIP is down"))
        self._send(messages.Place(handle, call))
        return handle

    def hangup(self, handle: str, headers: HeaderList = ()) -> None:
        """BYE, CANCEL or 487, whatever the state of the call wants."""
        self._send(messages.Hangup(handle, headers))

    def reoffer(self, handle: str, offer: bytes) -> None:
        """Send re-INVITE with an offer."""
        self._send(messages.SendReoffer(handle, offer))

    def accept_reoffer(self, handle: str, body: bytes) -> None:
        """200 OK to the pending Reoffer."""
        self._send(messages.AcceptReoffer(handle, body))

    def reject_reoffer(self, handle: str, status: int, reason: str = "") -> None:
        """Refuse the pending Reoffer."""
        self._send(messages.RejectReoffer(handle, status, reason))

    def send_in_dialog(self, handle: str, method: str, content_type: str, body: bytes) -> None:
        """INFO or MESSAGE."""
        self._send(messages.SendInDialog(handle, method, content_type, body))

    def refer(self, handle: str, refer_to: str, replaces: str | None = None) -> None:
        """Blind transfer, or attended when `replaces` names another call of ours."""
        self._send(messages.Refer(handle, refer_to, replaces or ""))

    def accept_refer(self, handle: str) -> None:
        """202 Accepted to the pending TransferRequested."""
        self._send(messages.AnswerRefer(handle, 202))

    def reject_refer(self, handle: str, status: int) -> None:
        """Refuse it."""
        self._send(messages.AnswerRefer(handle, status))

    def notify_refer(self, handle: str, status: int, reason: str, done: bool) -> None:
        """NOTIFY the far end of how its transfer goes."""
        self._send(messages.NotifyRefer(handle, status, reason, done))

    # ---- PJSIP's process

    @property
    def pid(self) -> int:
        """Of PJSIP's process, 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def _send(self, command: Command) -> None:
        if self._process is not None:
            self._process.send(command)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _launch(self) -> None:
        self._generation += 1
        self._heard_at = time.monotonic()
        arguments = (self._settings, self._addresses, self._generation)
        self._process = self._start_process(arguments, self._hear, self._exited)

    def _hear(self, report: Report) -> None:
        self._heard_at = time.monotonic()
        match report:
            case messages.Reported():
                self._happened(messages.event_of(report))
            case messages.Logged():
                local = self._listener(report.protocol, report.peer[0])
                seen = Message(report.at, report.direction, report.text, report.protocol, local, report.peer)
                self._ladders.note(report.call_id, seen)
            case messages.Began():
                self._ladders.open(report.handle, report.call_id)
            case messages.Alive():
                self._counters = report.counters
            case messages.Ready():
                self._listening, self.max_calls = report.listening, report.max_calls
                if self._started is not None and not self._started.done():
                    self._started.set_result(report)
            case messages.Failed():
                self._failed(report.problem)
            case messages.Complaint():
                _log.info("pjsip", problem=report.problem)

    def _failed(self, problem: str) -> None:
        field, _, rest = problem.partition(": ")
        if self._started is not None and not self._started.done():
            self._stopping = True
            self._started.set_exception(ConfigError(field, rest))
        else:
            _log.error("pjsip_cannot_start", problem=problem)

    def _happened(self, event: EngineEvent) -> None:
        if isinstance(event, IncomingCall):
            self._calls[event.handle] = event.source[0]
        elif isinstance(event, Ended | Cancelled):
            if self._calls.pop(event.handle, None) is None:
                return
            self._ladders.close(event.handle)
        elif isinstance(event, RegistrationChanged):
            if all(trunk.name != event.trunk for trunk in self._settings.trunks):
                return  # of a trunk that has been given up
            self._registrations[event.trunk] = event
        self._on_event(event)

    def _exited(self, code: int) -> None:
        """PJSIP is gone, with its calls. Its registrations live on at the registrars until they are made anew."""
        self._process = None
        self._gone.set()
        if self._started is not None and not self._started.done():
            self._stopping = True
            problem = f"PJSIP's process ended with {code}; is the extra [pjsua2] installed?"
            self._started.set_exception(ConfigError("sip.engine", problem, "see docs/pjsua2.md"))
        for handle in tuple(self._calls):
            self._happened(Ended(handle, "transport", 503, "PJSIP's process ended"))
        if self._stopping:
            return
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < 60.0]
        wait_s = RESTART_S[min(len(self._restarts), len(RESTART_S) - 1)]
        self._restarts.append(now)
        _log.error("pjsip_ended", code=code, restart_in_s=wait_s)
        for trunk in self._settings.trunks:
            if trunk.register:
                state = RegistrationState.UNREACHABLE
                event = RegistrationChanged(trunk.name, state, 503, "PJSIP's process ended", retry_in_s=wait_s)
                self._happened(event)
        self._gone.clear()
        self._timers = [asyncio.get_running_loop().call_later(wait_s, self._relaunch)]

    def _relaunch(self) -> None:
        self._launch()
        self._watch()

    def _watch(self) -> None:
        if self._process is None:
            return
        if time.monotonic() - self._heard_at > SILENT_S:
            _log.error("pjsip_silent", seconds=SILENT_S)
            self._kill()
            return
        self._timers = [asyncio.get_running_loop().call_later(SILENT_S / 3, self._watch)]

    def _announce(self, ready: messages.Ready) -> None:
        _log.info("pjsip", version=ready.version, call_limit=ready.max_calls)
        numbers = tuple(int(part) for part in re.findall(r"\d+", ready.version)[:2])
        if numbers < SOUND_VERSION:
            _log.warning("pjsip_has_known_holes", version=ready.version, fixed_in="2.17", holes=KNOWN_HOLES)

    # ---- the trunks' servers

    async def _update(self, trunks: tuple[TrunkAccount, ...]) -> None:
        self._addresses = await self._resolve(trunks)
        names = {trunk.name for trunk in trunks}
        self._registrations = {name: one for name, one in self._registrations.items() if name in names}
        self._send(messages.UpdateTrunks(trunks, self._addresses))

    async def _resolve(self, trunks: tuple[TrunkAccount, ...]) -> dict[str, tuple[str, ...]]:
        locator = Locator(self._resolver or DnsResolver(read_hosts()), random.SystemRandom())
        found: dict[str, tuple[str, ...]] = {}
        for trunk in trunks:
            addresses: list[str] = []
            for uri in dict.fromkeys((first_hop(trunk), server_uri(trunk))):
                try:
                    addresses.extend(target.address for target in await locator.locate(uri, time.monotonic()))
                except (ParseError, ResolveError) as error:
                    _log.warning("not_resolved", trunk=trunk.name, error=str(error))
            found[trunk.name] = tuple(dict.fromkeys(addresses))
        return found


def _check_count(trunks: tuple[TrunkAccount, ...]) -> None:
    if len(trunks) > MAX_TRUNKS:
        raise ConfigError("trunk", f"the pjsua2 engine has accounts for {MAX_TRUNKS} trunks", "use fewer trunks")


def _route_to(address: str) -> str:
    """Our address on the way to another one, "" when there is no way."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
