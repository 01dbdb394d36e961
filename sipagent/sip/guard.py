"""The gate before the parser: who may talk to us, how much, and how large. Decisions are data; nothing is sent here.

every datagram or message:      guard.screen(data, address, now)   → PASS, or DROP without an answer
a request that makes a call:    guard.admit(address)               → the trunk that it came by, or refused
"""

import ipaddress
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sipagent.errors import ConfigError

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Programs that only ever look for open PBXs. Test tools that people use on their own lines (sipp, sipsak) are not here.
SCANNERS: Final = (
    "friendly-scanner", "friendly-request", "sipvicious", "sundayddr", "sip-scan", "sipscan", "sipcli", "pplsip",
    "vaxsipuseragent", "vaxipuseragent", "siparmyknife", "smap", "iwar", "sipptk", "zgrab", "masscan", "nmap",
)  # fmt: skip


class Action(Enum):
    """What to do with a message."""

    PASS = "pass"
    DROP = "drop"  # say nothing: an answer would tell a scanner that somebody is here
    REFUSE = "refuse"  # answer with the status


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` names a counter; `trunk` is that of the source, "" for a stranger."""

    action: Action
    reason: str = ""
    status: int = 0
    trunk: str = ""


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """Limits on raw bytes, and rates for strangers in messages a second."""

    max_bytes: int = 65_536
    max_header_lines: int = 256
    max_header_bytes: int = 32_768
    max_multiparts: int = 4  # multipart bodies within each other
    source_rate: float = 20.0
    source_burst: float = 60.0
    strangers_rate: float = 200.0  # of all strangers together: sources of UDP can be forged
    strangers_burst: float = 400.0
    sources: int = 4096  # remembered; the one that was quiet for longest is forgotten first
    ban_s: float = 60.0  # a source that was seen scanning is not listened to for so long


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    banned_until: float = 0.0

    def take(self, rate: float, burst: float, now: float) -> bool:
        self.tokens = min(burst, self.tokens + max(0.0, now - self.filled_at) * rate)
        self.filled_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Guard:
    """The gate of one engine. Trunks are never rate-limited nor banned: their addresses are the operator's word."""

    def __init__(
        self,
        trunks: Mapping[str, Iterable[str]],
        *,
        accept_unknown: bool = True,
        limits: GuardLimits | None = None,
        scanners: Iterable[str] = SCANNERS,
    ) -> None:
        """`trunks` maps names to networks or addresses; raises ConfigError for one that is neither."""
        self._limits = limits or GuardLimits()
        self._accept_unknown = accept_unknown
        self._networks: list[tuple[IPNetwork, str]] = []
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._strangers = _Bucket(self._limits.strangers_burst, 0.0)
        self._trunk_cache: dict[str, str] = {}
        names = "|".join(re.escape(name) for name in scanners)
        self._scanner = re.compile(rf"\n(?:user-agent|server)[ \t]*:[^\n]*\b(?:{names})\b".encode(), re.IGNORECASE)
        for name, networks in trunks.items():
            self.set_networks(name, networks)

    def set_networks(self, trunk: str, networks: Iterable[str]) -> None:
        """The addresses of a trunk, in place of those it had: configured, or learnt when its name was resolved."""
        parsed: list[tuple[IPNetwork, str]] = []
        for text in networks:
            try:
                parsed.append((ipaddress.ip_network(text, strict=False), trunk))
            except ValueError:
                raise ConfigError(
                    f"trunk.{trunk}.allow", f"{text!r} is no network", "10.0.0.0/8 or 192.0.2.7"
                ) from None
        kept = [pair for pair in self._networks if pair[1] != trunk]
        # The narrowest network wins where trunks overlap.
        self._networks = sorted((*kept, *parsed), key=lambda pair: -pair[0].prefixlen)
        self._trunk_cache.clear()

    def trunk_of(self, address: str) -> str:
        """The trunk whose networks hold this address, "" when none does."""
        known = self._trunk_cache.get(address)
        if known is None:
            known = self._find_trunk(address)
            if len(self._trunk_cache) >= self._limits.sources:
                self._trunk_cache.clear()
            self._trunk_cache[address] = known
        return known

    def _find_trunk(self, address: str) -> str:
        try:
            parsed: IPAddress = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return ""
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return next((name for net, name in self._networks if net.version == parsed.version and parsed in net), "")

    def admit(self, address: str) -> Decision:
        """Whether a source may begin something: INVITE, MESSAGE, REFER outside of a dialog."""
        trunk = self.trunk_of(address)
        if trunk or self._accept_unknown:
            return Decision(Action.PASS, trunk=trunk)
        return Decision(Action.DROP, "not_allowed")

    def screen(self, data: bytes, address: str, now: float) -> Decision:
        """Judge a message by its bytes and its source, before anything of it is parsed or remembered."""
        trunk = self.trunk_of(address)
        problem = self._size_problem(data)
        if problem:
            # Only the operator's own peers are told; of a stranger's rubbish nothing shall come back.
            return Decision(Action.REFUSE, problem, 513, trunk) if trunk else Decision(Action.DROP, problem)
        if trunk:
            return Decision(Action.PASS, trunk=trunk)
        return self._screen_stranger(data, address, now)

    def _size_problem(self, data: bytes) -> str:
        limits = self._limits
        if len(data) > limits.max_bytes:
            return "too_large"
        end = data.find(b"\r\n\r\n")
        header_bytes = len(data) if end < 0 else end
        if header_bytes > limits.max_header_bytes or data.count(b"\n", 0, header_bytes) > limits.max_header_lines:
            return "too_many_headers"
        if data.count(b"multipart/") > limits.max_multiparts:
            return "too_deep"
        return ""

    def _screen_stranger(self, data: bytes, address: str, now: float) -> Decision:
        if data.startswith(b"SIP/2.0 "):
            return Decision(Action.PASS)  # a response finds its transaction or is dropped: cheap, and we asked for it
        limits = self._limits
        bucket = self._bucket(address, now)
        if now < bucket.banned_until:
            return Decision(Action.DROP, "banned")
        if self._scanner.search(data, 0, limits.max_header_bytes):
            bucket.banned_until = now + limits.ban_s
            return Decision(Action.DROP, "scanner")
        if not bucket.take(limits.source_rate, limits.source_burst, now):
            return Decision(Action.DROP, "rate_source")
        if not self._strangers.take(limits.strangers_rate, limits.strangers_burst, now):
            return Decision(Action.DROP, "rate_strangers")
        return Decision(Action.PASS)

    def _bucket(self, address: str, now: float) -> _Bucket:
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = _Bucket(self._limits.source_burst, now)
            if len(self._buckets) > self._limits.sources:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(address)
        return bucket

    @property
    def sources(self) -> int:
        """How many strangers are remembered."""
        return len(self._buckets)
