"""Where a call has been sent by 3xx responses so far, and where it may still go (RFC 3261 §8.1.3.4)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from sipagent.errors import ParseError
from sipagent.service import destinations
from sipagent.service.destinations import Destination
from sipagent.sip import header
from sipagent.sip.engine import HeaderList

MAX_HOPS: Final = 5  # addresses tried after the first
MAX_CONTACTS: Final = 10  # of one response; more are not looked at
TRIED: Final = "tried already"


@dataclass(slots=True)
class Target:
    """An address: `to` as a call is placed to it, `uri` as History-Info names it, `index` its place there."""

    to: str
    uri: str
    index: str
    status: int = 0  # how it answered; 0 = not asked, or not yet
    problem: str = ""  # why it is not called

    def shown(self) -> dict[str, Any]:
        """For the record."""
        return {"to": self.to, "status": self.status, **({"problem": self.problem} if self.problem else {})}


@dataclass(slots=True)
class Trail:
    """`called` holds every address that was called, the first one included, `refused` those that never will be."""

    home: tuple[str, int]  # host and port of the trunk, where numbers live
    called: list[Target]
    waiting: list[Target] = field(default_factory=list)
    refused: list[Target] = field(default_factory=list)
    _keys: set[tuple[str, str, int]] = field(default_factory=set)

    @classmethod
    def begin(cls, to: str, home: tuple[str, int]) -> "Trail":
        """The trail of a call to `to`, a number or a SIP URI."""
        uri = to if to.lower().startswith(("sip:", "sips:")) else f"sip:{to}@{home[0]}"
        trail = cls(home, [Target(to, uri, "1")])
        with suppress(ParseError):  # a number that is none by E.164: no Contact that we follow can name it either
            trail._keys.add(trail._key(destinations.parse(to)))
        return trail

    @property
    def current(self) -> Target:
        """The address that is being called."""
        return self.called[-1]

    def redirected(self, headers: HeaderList, objection: Callable[[Destination], str]) -> list[Target]:
        """Take the addresses of a 3xx to the current one, to be tried before those that wait; returns the refused."""
        found: list[Target] = []
        refused: list[Target] = []
        for uri in _contacts(headers):
            target = Target(uri[: destinations.MAX_LENGTH], uri, f"{self.current.index}.{len(found) + 1}")
            target.problem = self._problem(target, objection)
            (refused if target.problem else found).append(target)
        self.waiting[:0] = found
        self.refused += refused
        return refused

    def next(self) -> Target | None:
        """Go on to the next address; None when there is none, or there were too many."""
        if self.waiting and len(self.called) > MAX_HOPS:
            for target in self.waiting:
                target.problem = f"more than {MAX_HOPS} addresses"
            self.refused += self.waiting
            self.waiting = []
        if not self.waiting:
            return None
        self.called.append(self.waiting.pop(0))
        return self.current

    def history_info(self) -> str:
        """RFC 7044 §10: each address with the status that it gave, then the one that is called now."""
        *before, now = self.called
        tried = (f"<{one.uri}?Reason={quote(f'SIP;cause={one.status}', safe='')}>;index={one.index}" for one in before)
        return ", ".join((*tried, f"<{now.uri}>;index={now.index};mp={now.index.rpartition('.')[0]}"))

    def shown(self) -> list[dict[str, Any]]:
        """Every address with what became of it."""
        return [target.shown() for target in (*self.called, *self.refused)]

    def _problem(self, target: Target, objection: Callable[[Destination], str]) -> str:
        try:
            destination = destinations.parse(target.uri)
        except ParseError as error:
            return f"not followed: it is not {error.expected}"
        if problem := objection(destination):
            return problem
        key = self._key(destination)
        if key in self._keys:
            return TRIED
        self._keys.add(key)
        if not destination.host:
            target.uri = f"sip:{destination.user}@{self.home[0]}"
        return ""

    def _key(self, destination: Destination) -> tuple[str, str, int]:
        """Two addresses with the same key are the same place to us."""
        host, port = (destination.host, destination.port) if destination.host else self.home
        return destination.user, host, port or 5060


def diversions(headers: HeaderList) -> HeaderList:
    """RFC 5806: whoever redirects says why, and the next one is told."""
    return tuple(("Diversion", value) for value in _values(headers, "diversion"))


def _contacts(headers: HeaderList) -> list[str]:
    """The URIs of the Contact headers, by their q (RFC 3261 §20.10); a tel URI is its number."""
    found: list[tuple[float, str]] = []
    for text in _values(headers, "contact"):
        try:
            address = header.parse_address(text)
            wanted = float(address.parameters.get("q", "1"))
        except (ParseError, ValueError):
            continue
        uri = address.uri
        found.append((-wanted, uri[4:].partition(";")[0] if uri.lower().startswith("tel:") else uri))
    return [uri for _, uri in sorted(found[:MAX_CONTACTS], key=lambda pair: pair[0])]


def _values(headers: HeaderList, wanted: str) -> Iterator[str]:
    for name, value in headers:
        if name.lower() == wanted:
            yield from header.split_list(value)
