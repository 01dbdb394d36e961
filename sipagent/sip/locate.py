"""Where to send a request for a URI: transport, address and port by DNS (RFC 3263, RFC 2782, RFC 7984).

    sip:trunk.example ─NAPTR─► transports ─SRV─► hosts by priority and weight ─A/AAAA─► targets, in order

Numeric hosts, a port, or a transport parameter shorten the way. Targets that failed come last for 30 s.
"""

import ipaddress
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sipagent.errors import ParseError
from sipagent.sip import header
from sipagent.sip.resolver import Cache, Naptr, Resolver, Srv

_SET_ASIDE_S: Final = 30.0
_MAX_TARGETS: Final = 32
_FAILED: Final = 1_024
_SRV_PREFIX: Final = {"UDP": "_sip._udp.", "TCP": "_sip._tcp.", "TLS": "_sips._tcp."}
_SERVICES: Final = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}


@dataclass(frozen=True, slots=True)
class Target:
    """One place to try. `domain` is the name that the URI gave: what a certificate must show (RFC 5922 §4)."""

    protocol: str  # "UDP", "TCP" or "TLS"
    address: str
    port: int
    domain: str


class Locator:
    """Finds targets, and remembers answers and failures. `protocols` are those that we can speak, best first."""

    def __init__(
        self,
        resolver: Resolver,
        rng: random.Random,
        *,
        protocols: Sequence[str] = ("UDP", "TCP", "TLS"),
        families: Sequence[int] = (4, 6),
    ) -> None:
        """`families` are the IP versions that we have sockets for, the preferred one first."""
        self._cache = Cache(resolver)
        self._rng = rng
        self._protocols = tuple(protocols)
        self._families = tuple(families)
        self._failed: dict[Target, float] = {}

    async def locate(self, uri: str, now: float) -> tuple[Target, ...]:
        """The targets of a sip or sips URI, in the order to try them; () when there is none that we can reach.

        Raises ParseError for what is no SIP URI, ResolveError when no name server answers.
        """
        parsed = header.parse_uri(uri)
        if parsed.scheme not in ("sip", "sips"):
            raise ParseError("a sip or sips URI")
        secure = parsed.scheme == "sips"
        host, port = parsed.host.strip("[]"), parsed.port
        wanted = _wanted_protocol(uri, secure)
        maddr = header.uri_parameter(uri, "maddr")
        if maddr:
            host = maddr.strip("[]")
        if wanted is not None and wanted not in self._protocols:
            return ()
        if _is_address(host):
            protocol = wanted or ("TLS" if secure else self._first("UDP"))
            found = [Target(protocol, host, port or _default_port(protocol), host)]
        elif port is not None:
            protocol = wanted or ("TLS" if secure else self._first("UDP"))
            found = await self._addresses(protocol, host, port, host, now)
        else:
            found = await self._by_services(host, wanted, secure, now)
        found = [target for target in dict.fromkeys(found) if self._reaches(target)][:_MAX_TARGETS]
        return tuple(sorted(found, key=lambda target: self._is_set_aside(target, now)))

    def failed(self, target: Target, now: float) -> None:
        """The target did not answer, broke the connection or said 503: try it last for the next 30 s."""
        self._failed.pop(target, None)
        self._failed[target] = now
        if len(self._failed) > _FAILED:
            del self._failed[next(iter(self._failed))]  # the oldest

    def succeeded(self, target: Target) -> None:
        """The target answered: it is as good as the others again."""
        self._failed.pop(target, None)

    # ---- steps

    async def _by_services(self, host: str, wanted: str | None, secure: bool, now: float) -> list[Target]:
        """RFC 3263 §4.1 and §4.2 for a name without a port."""
        found: list[Target] = []
        for protocol, service in await self._services(host, wanted, secure, now):
            for srv in await self._srv(service, now):
                found += await self._addresses(protocol, srv.target, srv.port, host, now)
        if found:
            return found
        protocol = wanted or ("TLS" if secure else self._first("UDP"))
        return await self._addresses(protocol, host, _default_port(protocol), host, now)

    async def _services(self, host: str, wanted: str | None, secure: bool, now: float) -> list[tuple[str, str]]:
        """(protocol, name of its SRV records) by NAPTR, else by the names that RFC 3263 gives."""
        allowed = [protocol for protocol in self._protocols if not secure or protocol == "TLS"]
        if wanted is not None:
            return [(wanted, _SRV_PREFIX[wanted] + host)]
        naptrs = [record for record in await self._cache.query(host, "NAPTR", now) if isinstance(record, Naptr)]
        usable = [
            (naptr.order, naptr.preference, _SERVICES[naptr.service.upper()], naptr.replacement)
            for naptr in naptrs
            if naptr.flags.lower() == "s" and naptr.service.upper() in _SERVICES and naptr.replacement
        ]
        ordered = [(protocol, name) for _, _, protocol, name in sorted(usable) if protocol in allowed]
        # TLS must be asked for, by sips, a parameter or NAPTR: a guess would turn away plain trunks.
        plain = [protocol for protocol in allowed if secure or protocol != "TLS"]
        return ordered or [(protocol, _SRV_PREFIX[protocol] + host) for protocol in plain]

    async def _srv(self, name: str, now: float) -> list[Srv]:
        records = [record for record in await self._cache.query(name, "SRV", now) if isinstance(record, Srv)]
        return by_priority([record for record in records if record.target and record.port], self._rng)

    async def _addresses(self, protocol: str, host: str, port: int, domain: str, now: float) -> list[Target]:
        if _is_address(host):
            return [Target(protocol, host, port, domain)]
        found: list[Target] = []
        for family in self._families:
            records = await self._cache.query(host, "A" if family == 4 else "AAAA", now)
            found += [Target(protocol, record, port, domain) for record in records if isinstance(record, str)]
        return found

    def _first(self, default: str) -> str:
        return default if default in self._protocols else self._protocols[0]

    def _reaches(self, target: Target) -> bool:
        version = ipaddress.ip_address(target.address.partition("%")[0]).version
        return version in self._families and target.protocol in self._protocols

    def _is_set_aside(self, target: Target, now: float) -> bool:
        return target in self._failed and now - self._failed[target] < _SET_ASIDE_S


def by_priority(records: Iterable[Srv], rng: random.Random) -> list[Srv]:
    """RFC 2782: lowest priority first; among equals a draw by weight, where weight 0 has a small chance."""
    ordered: list[Srv] = []
    left = sorted(records, key=lambda record: (record.priority, record.weight))
    while left:
        equals = [record for record in left if record.priority == left[0].priority]
        pick = rng.randint(0, sum(record.weight for record in equals))
        running = 0
        for record in equals:
            running += record.weight
            if running >= pick:
                ordered.append(record)
                left.remove(record)
                break
    return ordered


def _wanted_protocol(uri: str, secure: bool) -> str | None:
    """What scheme and transport parameter ask for; None leaves it to DNS. Raises ParseError for one we do not know."""
    transport = (header.uri_parameter(uri, "transport") or "").upper()
    if transport not in ("", "UDP", "TCP", "TLS"):
        raise ParseError("transport udp, tcp or tls")
    if secure:
        if transport == "UDP":
            raise ParseError("a transport that can carry TLS")
        return "TLS" if transport else None
    return transport or None


def _default_port(protocol: str) -> int:
    return 5061 if protocol == "TLS" else 5060


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
