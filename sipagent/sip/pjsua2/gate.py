"""The gate in front of PJSIP: who may talk to it, and how many calls it is given."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sipagent.sip.engine import EngineSettings
from sipagent.sip.guard import Action, Guard, GuardLimits
from sipagent.sip.pjsua2.logged import LoggedMessage

# Whoever opens the door to all wants their calls too; what is left is protection from a flood.
OPEN_LIMITS: Final = GuardLimits(source_rate=2_000, source_burst=4_000, strangers_rate=4_000, strangers_burst=8_000)
CALLS_PER_SECOND_PER_SLOT: Final = 2.0  # builds with asserts abort at 40-80 new calls a second; they hold four calls
PASS: Final = 0
DROP: Final = -1
KNOWN_METHODS: Final = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "UPDATE")


@dataclass(slots=True)
class _Bucket:
    rate: float
    tokens: float
    filled_at: float = 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(self.rate, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Gate:
    """Verdicts: PASS, DROP, or the status to answer. `counters` tells what was kept out, by reason."""

    def __init__(self, settings: EngineSettings, max_calls: int, calls: Callable[[], int]) -> None:
        """`calls` counts the call slots that are taken."""
        self.counters: Counter[str] = Counter()
        self._accept_unknown = settings.accept_unknown_sources
        self._guard = Guard(
            {trunk.name: trunk.allow for trunk in settings.trunks},
            accept_unknown=settings.accept_unknown_sources,
            limits=OPEN_LIMITS if settings.accept_unknown_sources else None,
        )
        self._servers: dict[str, tuple[str, ...]] = {}
        self._max_calls, self._calls = max_calls, calls
        rate = max_calls * CALLS_PER_SECOND_PER_SLOT
        self._bucket = _Bucket(rate, rate)

    def set_trunks(self, allow: Mapping[str, tuple[str, ...]], servers: Mapping[str, tuple[str, ...]]) -> None:
        """Networks and servers' addresses of the trunks; without networks the addresses may call."""
        for gone in set(self._servers) - set(servers):
            self._guard.set_networks(gone, ())
        self._servers = dict(servers)
        for name, addresses in servers.items():
            self._guard.set_networks(name, allow.get(name) or addresses)

    def trunk_of(self, address: str) -> str:
        """The trunk that an address belongs to, "" for a stranger."""
        return self._guard.trunk_of(address)

    def screen(self, message: LoggedMessage, now: float) -> int:
        """Before any state is made: sizes, scanners, rates, and whether a stranger may begin something."""
        source = message.peer[0]
        decision = self._guard.screen(message.text.encode("utf-8", "surrogateescape"), source, now)
        if decision.action is Action.PASS and message.method not in ("ACK", "CANCEL") and not message.tags[1]:
            decision = self._guard.admit(source)
        if decision.action is Action.PASS:
            return PASS
        self.counters[f"guard_{decision.reason}"] += 1
        return decision.status if decision.action is Action.REFUSE else DROP

    def screen_response(self, message: LoggedMessage) -> int:
        """Challenges are for the servers of the trunks: nobody else shall see what our password makes of a nonce."""
        if message.status in (401, 407) and not any(message.peer[0] in known for known in self._servers.values()):
            self.counters["foreign_challenges"] += 1
            return DROP
        return PASS

    def admit(self, message: LoggedMessage, now: float) -> int:
        """A request outside of every dialog, which PJSIP would make a call of, or not understand."""
        if message.method == "INVITE":
            if message.value("replaces"):
                self.counters["replaces_refused"] += 1  # pjsua would answer it by itself
                return 501
            if self._calls() >= self._max_calls:
                self.counters["over_limit"] += 1
                return 503
            if not self._bucket.take(now):
                self.counters["over_rate"] += 1
                return 503
        elif message.method == "NOTIFY":
            return 481  # RFC 6665 §4.1.3: we subscribe to nothing outside of calls
        elif message.method not in KNOWN_METHODS:
            self.counters["unknown_methods"] += 1  # RFC 3261 §8.2.1; pjsua says nothing at all
            return 405
        return PASS
