"""DNS as `locate` needs it: records with their time to live, from dnspython, the hosts file and a cache."""

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from sipagent.errors import SipagentError

_LIFETIME_S: Final = 4.0  # as long as we wait for a silent target (RFC 3263 leaves it open)
_NEGATIVE_TTL_S: Final = 30.0  # RFC 2308 §5 would allow hours; a trunk that is just being set up should not wait
_LONGEST_TTL_S: Final = 86_400.0
_STALE_S: Final = 3_600.0  # RFC 8767: while no server answers, an old record is better than none
_CACHED: Final = 1_024


class ResolveError(SipagentError):
    """No name server gave an answer; a name that does not exist is no error but an empty answer."""


@dataclass(frozen=True, slots=True)
class Naptr:
    """RFC 3403, as far as RFC 3263 uses it."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    """RFC 2782."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str  # addresses of A and AAAA are text


@dataclass(frozen=True, slots=True)
class Records:
    """The answer to one question; empty when the name or its records do not exist."""

    records: tuple[Record, ...] = ()
    ttl_s: float = _NEGATIVE_TTL_S


class Resolver(Protocol):
    """Answers one DNS question."""

    async def query(self, name: str, kind: str) -> Records:
        """`kind` is NAPTR, SRV, A or AAAA; raises ResolveError when nobody answers."""


class DnsResolver:
    """The name servers of this machine, after its hosts file."""

    def __init__(
        self,
        hosts: Mapping[str, tuple[str, ...]] | None = None,
        lifetime_s: float = _LIFETIME_S,
        resolver: dns.asyncresolver.Resolver | None = None,
    ) -> None:
        """`hosts` maps lower-case names to addresses (`read_hosts`); `resolver` None is that of /etc/resolv.conf."""
        self._hosts = hosts or {}
        self._lifetime_s = lifetime_s
        self._resolver = resolver

    async def query(self, name: str, kind: str) -> Records:
        """One question over the network, unless the hosts file knows."""
        if kind in ("A", "AAAA") and name.lower() in self._hosts:
            version = 4 if kind == "A" else 6
            found = self._hosts[name.lower()]
            return Records(tuple(text for text in found if ipaddress.ip_address(text).version == version))
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
            answer = await self._resolver.resolve(
                name, kind, raise_on_no_answer=False, lifetime=self._lifetime_s, search=False
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.YXDOMAIN):
            return Records()
        except (dns.exception.DNSException, OSError) as error:
            raise ResolveError(f"{kind} {name}: {error}") from error
        if answer.rrset is None:
            return Records()
        return Records(tuple(_record(item) for item in answer.rrset), float(answer.rrset.ttl))


def _record(item: object) -> Record:
    if isinstance(item, SRV):
        return Srv(item.priority, item.weight, item.port, _name(item.target))
    if isinstance(item, NAPTR):
        flags, service = item.flags.decode("ascii", "replace"), item.service.decode("ascii", "replace")
        # A regular expression (RFC 3402) is never used for SIP: RFC 3263 §4.1 wants flag "s" and a replacement.
        return Naptr(item.order, item.preference, "" if item.regexp else flags, service, _name(item.replacement))
    return str(item)


def _name(value: object) -> str:
    """A domain name without its last dot; "" stands for the root."""
    return str(value).rstrip(".")


def read_hosts(path: Path = Path("/etc/hosts")) -> dict[str, tuple[str, ...]]:
    """The hosts file: lower-case names and their addresses; an absent file is an empty one."""
    found: dict[str, tuple[str, ...]] = {}
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return found
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            continue
        for name in names:
            found[name.lower()] = (*found.get(name.lower(), ()), address)
    return found


class Cache:
    """Answers of a resolver for as long as they live, and for an hour longer while nobody answers."""

    def __init__(self, resolver: Resolver) -> None:
        """An empty cache in front of `resolver`."""
        self._resolver = resolver
        self._entries: OrderedDict[tuple[str, str], tuple[float, Records]] = OrderedDict()

    async def query(self, name: str, kind: str, now: float) -> tuple[Record, ...]:
        """The records, asked for anew when their time has run out; raises ResolveError."""
        key = (name.lower(), kind)
        known = self._entries.get(key)
        if known is not None and now < known[0]:
            return known[1].records
        try:
            answer = await self._resolver.query(name, kind)
        except ResolveError:
            if known is not None and known[1].records and now < known[0] + _STALE_S:
                return known[1].records
            raise
        self._entries[key] = (now + min(answer.ttl_s, _LONGEST_TTL_S), answer)
        self._entries.move_to_end(key)
        if len(self._entries) > _CACHED:
            self._entries.popitem(last=False)
        return answer.records
