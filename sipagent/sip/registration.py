"""One registration at one registrar (RFC 3261 §10, RFC 5626 §4.2, §4.5), without sockets and clocks.

    start ──► TRYING ──200──► HOLDING ──refresh due──► TRYING
                │ refused, silence                         unregister ──► LEAVING ──► GONE
                └──► WAITING ──retry due──► TRYING

The caller sends each `SendRegister` of `drain` and reports its end by `receive` or `timed_out`; `on_deadline` is to be
called at `deadline`. Every change leaves as a `RegistrationChanged`.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from sipagent.errors import ParseError
from sipagent.sip import header
from sipagent.sip.digest import Authentication, Verdict
from sipagent.sip.engine import HeaderList, RegistrationChanged, RegistrationState

_MAX_EXPIRES_S: Final = 7 * 86_400  # a Min-Expires beyond a week is a mistake, or mischief
_ANSWER_LIMIT_S: Final = 64.0  # twice timer F: should the transaction's end never be reported
_ANSWER_TIME_S: Final = 32.0  # timer F: a refresh that gets no answer leaves this much before the binding ends
_MAX_TRIES: Final = 4  # 423, proxy's and registrar's challenge, stale: each at most once in an attempt
_HOST_PORT: Final = re.compile(r"^(sips?:(?:[^@]*@)?)(\[[^\]]*\]|[^:;?>]+)(?::\d+)?")


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """What to register, and how patient to be; times in seconds."""

    trunk: str
    registrar: str  # Request-URI, "sip:trunk.example"
    contact: str  # our Contact URI
    expires_s: int = 300
    rewrite_contact: bool = True  # follow the address that the registrar sees us at; off with a public address set
    retry_base_s: float = 30.0  # RFC 5626 §4.5 with all flows down; doubles with every failure …
    retry_cap_s: float = 1800.0  # … up to this
    refused_base_s: float = 300.0  # 403, 404 and the like seldom mend themselves
    password_retry_s: float = 30.0  # never more often with a password that was refused: accounts get locked
    instance: str = ""  # "<urn:uuid:…>", the same for all time (RFC 5626 §4.1); "" = without SIP Outbound
    reg_id: int = 1  # tells our flows to one address of record apart


@dataclass(frozen=True, slots=True)
class SendRegister:
    """Send REGISTER with this CSeq number: `contacts` are (URI, expires), `headers` the credentials.

    The Call-ID stays the same for the life of the registration (RFC 3261 §10.2.4).
    """

    cseq: int
    request_uri: str
    contacts: tuple[tuple[str, int], ...]
    expires_s: int
    headers: HeaderList = field(default=(), repr=False)
    outbound: bool = False  # say who we are and which flow this is: +sip.instance and reg-id of the first contact


class Phase(Enum):
    """Where the machine stands."""

    IDLE = "idle"
    TRYING = "trying"  # REGISTER is under way
    HOLDING = "holding"  # registered, until the refresh
    WAITING = "waiting"  # for the next try
    LEAVING = "leaving"  # REGISTER with Expires: 0 is under way
    GONE = "gone"


_DEAD_ENDS: Final = (Phase.LEAVING, Phase.GONE)


class Registration:
    """The machine. Random choices come from `rng`, so that a fleet spreads and a test repeats itself."""

    def __init__(self, settings: RegistrationSettings, authentication: Authentication, rng: random.Random) -> None:
        """Nothing is sent before `start`."""
        self.settings = settings
        self.contact = settings.contact
        self.service_route: tuple[str, ...] = ()  # RFC 3608: Route of later requests
        self.path: tuple[str, ...] = ()  # RFC 3327, as the registrar keeps it
        self.associated_uris: tuple[str, ...] = ()  # RFC 7315 §4.1
        self.outbound = False  # the registrar binds our flow, not only our address (RFC 5626 §6)
        self.flow_timer_s = 0  # within which it wants a keepalive (RFC 5626 §10); 0 = it does not say
        self.deadline: float | None = None
        self.phase = Phase.IDLE
        self.current = RegistrationChanged(settings.trunk, RegistrationState.DISABLED)
        self._authentication = authentication
        self._rng = rng
        self._out: list[SendRegister | RegistrationChanged] = []
        self._cseq = 0
        self._expires_s = settings.expires_s
        self._offers_outbound = bool(settings.instance)
        self._tries = 0
        self._failures = 0
        self._bound_until = 0.0
        self._asked_contact = ""  # of the request under way
        self._bound_contact = ""  # that the registrar holds; taken back when it is no longer right
        self._rewritten_at: float | None = None

    def drain(self) -> list[SendRegister | RegistrationChanged]:
        """What has to be done and told since the last call, in order."""
        out, self._out = self._out, []
        return out

    # ---- inputs

    def start(self, now: float) -> None:
        """Register; also from GONE, to come back."""
        self._attempt(now)

    def on_deadline(self, now: float) -> None:
        """A refresh or a retry is due, or an answer is overdue."""
        if self.deadline is None or now < self.deadline:
            return
        if self.phase in (Phase.TRYING, Phase.LEAVING):
            self.timed_out(self._cseq, now)
        elif self.phase in (Phase.HOLDING, Phase.WAITING):
            self._attempt(now)

    def receive(self, cseq: int, status: int, reason: str, headers: HeaderList, now: float) -> None:
        """The response to the REGISTER with this CSeq; provisional ones and answers to older ones do nothing."""
        if cseq != self._cseq or status < 200 or self.phase not in (Phase.TRYING, Phase.LEAVING):
            return
        if status in (401, 407) and self._tries < _MAX_TRIES:
            self._challenged(status, reason, headers, now)
        elif self.phase is Phase.LEAVING:
            self._gone(status, reason)
        elif status < 300:
            self._granted(status, reason, headers, now)
        elif status == 423 and self._tries < _MAX_TRIES and self._learn_min_expires(headers):
            self._send(now)
        elif status == 439 and self._offers_outbound:
            self._offers_outbound = False  # RFC 5626 §6: a proxy on the way knows no flows; do without
            self._send(now)
        else:
            self._refused(status, reason, _retry_after_s(headers), now)

    def timed_out(self, cseq: int, now: float, reason: str = "no answer") -> None:
        """No target answered, or none could be reached."""
        if cseq != self._cseq:
            return
        if self.phase is Phase.LEAVING:
            self._gone(408, reason)
        elif self.phase is Phase.TRYING:
            self._refused(408, reason, 0.0, now)

    def flow_failed(self, now: float) -> None:
        """The connection that carried the registration broke: the registrar cannot reach us, so bind again soon."""
        if self.phase is Phase.HOLDING:
            self.deadline = now + self._rng.uniform(0.0, min(2.0, self.settings.retry_base_s))

    def reachable(self, now: float) -> None:
        """The registrar gave a sign of life (a keepalive was answered): do not sit out a long wait for silence."""
        if self.phase is Phase.WAITING and self.current.state is RegistrationState.UNREACHABLE:
            soon = now + self._rng.uniform(0.0, min(5.0, self.settings.retry_base_s))
            self.deadline = soon if self.deadline is None else min(self.deadline, soon)

    def move(self, contact: str, now: float) -> None:
        """Our own address changed: register the new Contact and take back the old one."""
        if contact != self.contact:
            self.contact = contact
            if self.phase in (Phase.HOLDING, Phase.WAITING):
                self._attempt(now)

    def unregister(self, now: float) -> None:
        """Give the binding up; GONE follows with the answer, or without one in time."""
        if self.phase in _DEAD_ENDS:
            return
        if self.phase is Phase.IDLE:
            self._gone(0, "")
            return
        self.phase = Phase.LEAVING
        self._tries = 0
        self._send(now)

    # ---- steps

    def _attempt(self, now: float) -> None:
        self.phase = Phase.TRYING
        self._tries = 0
        if self.current.state is not RegistrationState.REGISTERED and self._bound_until <= now:
            self._tell(replace(self.current, state=RegistrationState.REGISTERING, retry_in_s=0.0))
        self._send(now)

    def _send(self, now: float) -> None:
        leaving = self.phase is Phase.LEAVING
        self._cseq += 1
        self._tries += 1
        self.deadline = now + _ANSWER_LIMIT_S
        expires_s = 0 if leaving else self._expires_s
        self._asked_contact = self.contact
        contacts = [(self.contact, expires_s)]
        if self._bound_contact not in ("", self.contact) and now < self._bound_until:
            contacts.append((self._bound_contact, 0))
        headers = self._authentication.headers("REGISTER", self.settings.registrar)
        outbound = self._offers_outbound
        registrar = self.settings.registrar
        self._out.append(SendRegister(self._cseq, registrar, tuple(contacts), expires_s, headers, outbound))

    def _challenged(self, status: int, reason: str, headers: HeaderList, now: float) -> None:
        verdict = self._authentication.learn(
            list(_values(headers, "www-authenticate")), list(_values(headers, "proxy-authenticate"))
        )
        if verdict is Verdict.RETRY:
            self._send(now)
        elif self.phase is Phase.LEAVING:
            self._gone(status, reason)
        else:
            wait_s = max(self.settings.password_retry_s, self._backoff_s(self.settings.retry_base_s))
            self._wait(RegistrationState.REFUSED, status, f"{reason} ({verdict.value})", wait_s, now)

    def _granted(self, status: int, reason: str, headers: HeaderList, now: float) -> None:
        granted_s = _granted_s(headers, self._asked_contact, self._expires_s, self.settings.instance)
        if granted_s <= 0:
            self._refused(status, "registrar granted no time", 0.0, now)
            return
        info = next(_values(headers, "authentication-info"), None)
        if not self._authentication.accepted(info, self.settings.registrar):
            reason = f"{reason} (rspauth is wrong: it does not know our password)"
        self._failures = 0
        self._bound_contact = self._asked_contact
        self._bound_until = now + granted_s
        self.service_route = tuple(_split(headers, "service-route"))
        self.path = tuple(_split(headers, "path"))
        self.associated_uris = tuple(_split(headers, "p-associated-uri"))
        self.outbound = "outbound" in (option.lower() for option in _split(headers, "require"))
        self.flow_timer_s = _seconds(next(_values(headers, "flow-timer"), "")) or 0
        self.phase = Phase.HOLDING
        latest = max(0.5 * granted_s, min(0.9 * granted_s, granted_s - _ANSWER_TIME_S))
        self.deadline = now + self._rng.uniform(0.5 * granted_s, latest)
        self._tell(
            RegistrationChanged(
                self.settings.trunk, RegistrationState.REGISTERED, status, reason, expires_s=float(granted_s)
            )
        )
        if self.contact != self._asked_contact:  # we moved while the request was under way
            self._attempt(now)
        else:
            self._follow_seen_address(headers, now)

    def _follow_seen_address(self, headers: HeaderList, now: float) -> None:
        """Behind NAT the registrar sees us elsewhere (RFC 3581): that is where calls must be sent."""
        seen = _seen_address(headers)
        if seen is None or not self.settings.rewrite_contact:
            return
        contact = with_address(self.contact, *seen)
        if contact == self.contact:
            return
        self.contact = contact
        # A NAT that gives a new port each time would keep us busy: then the next refresh is soon enough.
        if self._rewritten_at is None or now - self._rewritten_at >= self.settings.retry_base_s:
            self._rewritten_at = now
            self._attempt(now)

    def _learn_min_expires(self, headers: HeaderList) -> bool:
        try:
            wanted_s = header.parse_integer(next(_values(headers, "min-expires"), ""))
        except ParseError:
            return False
        if not self._expires_s < wanted_s <= _MAX_EXPIRES_S:
            return False
        self._expires_s = wanted_s
        return True

    def _refused(self, status: int, reason: str, retry_after_s: float, now: float) -> None:
        busy = status == 408 or status < 300 or 500 <= status < 600
        state = RegistrationState.UNREACHABLE if busy else RegistrationState.REFUSED
        wait_s = self._backoff_s(self.settings.retry_base_s if busy else self.settings.refused_base_s)
        if retry_after_s:
            # The registrar knows when: not before, and not all of us at once.
            wait_s = min(retry_after_s, self.settings.retry_cap_s) * self._rng.uniform(1.0, 1.1)
        self._wait(state, status, reason, wait_s, now)

    def _backoff_s(self, base_s: float) -> float:
        """RFC 5626 §4.5: base × 2^failures up to the cap, a random 50–100 % of it."""
        longest_s = min(self.settings.retry_cap_s, base_s * (1 << min(self._failures, 16)))
        return longest_s * self._rng.uniform(0.5, 1.0)

    def _wait(self, state: RegistrationState, status: int, reason: str, wait_s: float, now: float) -> None:
        self._failures += 1
        self.phase = Phase.WAITING
        self.deadline = now + wait_s
        left_s = max(0.0, self._bound_until - now)
        self._tell(RegistrationChanged(self.settings.trunk, state, status, reason, expires_s=left_s, retry_in_s=wait_s))

    def _gone(self, status: int, reason: str) -> None:
        self.phase = Phase.GONE
        self.deadline = None
        self._bound_until, self._bound_contact = 0.0, ""
        self._tell(RegistrationChanged(self.settings.trunk, RegistrationState.UNREGISTERED, status, reason))

    def _tell(self, changed: RegistrationChanged) -> None:
        told = (self.current.state, self.current.status, self.current.reason)
        self.current = changed
        if changed.state is not RegistrationState.REGISTERED or told != (changed.state, changed.status, changed.reason):
            self._out.append(changed)


# ---- reading responses


def _values(headers: HeaderList, name: str) -> Iterator[str]:
    return (value for key, value in headers if key.lower() == name)


def _split(headers: HeaderList, name: str) -> Iterator[str]:
    for value in _values(headers, name):
        yield from header.split_list(value)


def _seconds(text: str) -> int | None:
    digits = re.match(r"\s*(\d{1,10})", text)
    return int(digits[1]) if digits else None


def _retry_after_s(headers: HeaderList) -> float:
    return float(_seconds(next(_values(headers, "retry-after"), "")) or 0)


def _granted_s(headers: HeaderList, contact: str, asked_s: int, instance: str = "") -> int:
    """How long our binding lasts: its own expires, else that of Expires, else what was asked (RFC 3261 §10.2.4).

    A registrar that writes our Contact anew is found by our instance or the user part; one that lists none of ours is
    believed.
    """
    bindings = list(_bindings(headers))
    general = _seconds(next(_values(headers, "expires"), ""))
    for same in (_identity, _user):
        for uri, expires_s, its_instance in bindings:
            if same(uri) == same(contact) or (instance and its_instance.lower() == instance.lower()):
                return expires_s if expires_s is not None else asked_s if general is None else general
    return asked_s if general is None else general


def _bindings(headers: HeaderList) -> Sequence[tuple[str, int | None, str]]:
    found = []
    for text in _split(headers, "contact"):
        try:
            address = header.parse_address(text)
        except ParseError:
            continue
        expires_s = _seconds(address.parameters.get("expires", ""))
        found.append((address.uri, expires_s, address.parameters.get("+sip.instance", "")))
    return found


def _identity(uri: str) -> str:
    return uri.partition(";")[0].lower()


def _user(uri: str) -> str:
    return uri.partition("@")[0].lower() if "@" in uri else ""


def _seen_address(headers: HeaderList) -> tuple[str, int] | None:
    """The source that the registrar saw, when it tells the whole of it."""
    for text in _split(headers, "via"):
        try:
            parameters = header.parse_via(text).parameters
            host, port = parameters.get("received", ""), header.parse_integer(parameters.get("rport", ""))
        except ParseError:
            return None
        return (host.strip("[]"), port) if host and 0 < port < 65536 else None
    return None


def with_address(uri: str, host: str, port: int) -> str:
    """A SIP URI with another host and port, all else as it was."""
    return _HOST_PORT.sub(lambda match: f"{match[1]}{header.bracketed(host)}:{port}", uri, count=1)
