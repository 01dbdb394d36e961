"""From a URI to a flow: targets by DNS, connections that can be made, and what was tried before (RFC 3263 §4.3)."""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from sipagent.errors import ParseError
from sipagent.sip import header
from sipagent.sip.flow import Flow, Locate
from sipagent.sip.locate import Locator, Target
from sipagent.sip.resolver import ResolveError, Resolver
from sipagent.sip.transport import Transports

LARGE_BYTES = 1300  # RFC 3261 §18.1.1: above it UDP gives way to a stream
NO_STREAM_S = 600.0  # how long we remember that a far end takes no TCP
MAX_SEARCHES = 2_000
_log = structlog.get_logger("sip")


class Finder:
    """Answers `Locate`. `on_found` hears of every URI that was resolved."""

    def __init__(
        self, transports: Transports, resolver: Resolver, on_found: Callable[[str, Sequence[Target]], None]
    ) -> None:
        self._transports, self._resolver, self._on_found = transports, resolver, on_found
        self._locator: Locator | None = None
        self._searches: OrderedDict[int, list[Target]] = OrderedDict()  # targets that are left, by Locate.key
        self._last_tried: dict[int, Target] = {}
        self._no_stream: dict[tuple[str, int], float] = {}

    def at_once(self, uri: str, size: int) -> Flow | None:
        """UDP to a numeric address, or an open connection; None when that takes time."""
        try:
            host, port = header.host_port(uri)
        except ParseError:
            return None
        if not header.is_numeric(host):
            return None
        protocol = _protocol(uri)
        if protocol != "UDP":
            return self._transports.open_flow(protocol, host, port or (5061 if protocol == "TLS" else 5060))
        if self._wants_stream(uri, size) and not self._no_stream_at(host, port or 5060):
            return None
        return self._transports.udp_flow(host, port or 5060)

    async def resolve(self, uri: str) -> Sequence[Target]:
        """The targets of a URI, () when there are none."""
        if self._locator is None:
            self._locator = Locator(self._resolver, random.SystemRandom(), families=self._transports.families)
        try:
            found = await self._locator.locate(uri, time.monotonic())
        except (ParseError, ResolveError) as error:
            _log.warning("not_resolved", uri=uri.rpartition("@")[2], error=str(error))
            return ()
        self._on_found(uri, found)
        return found

    async def find(self, wanted: Locate) -> tuple[Flow | None, str]:
        """A flow to the next target; each is tried once for one request. Without one, words that say why."""
        remaining = self._searches.get(wanted.key)
        if remaining is None:
            # attempts that needed no Locate were made on a flow that was there: perhaps not that of the first target
            found = await self._targets(wanted)
            remaining = [target for target in found if not _is_among(target, wanted)]
            for target in found:
                if _is_among(target, wanted):
                    self._set_aside(target)
            self._searches[wanted.key] = remaining
            while len(self._searches) > MAX_SEARCHES:
                forgotten, _ = self._searches.popitem(last=False)
                self._last_tried.pop(forgotten, None)
        last = self._last_tried.pop(wanted.key, None)
        if wanted.attempt and last is not None:
            self._set_aside(last)
        problem = ""
        while remaining:
            target = remaining.pop(0)
            try:
                flow = await self._flow_to(target)
            except OSError as error:
                problem = f"{target.protocol} to {target.address}:{target.port}: {error}"
                _log.warning("connect_failed", protocol=target.protocol, address=target.address, error=str(error))
                if target.protocol == "TCP":
                    self._no_stream[(target.address, target.port)] = time.monotonic() + NO_STREAM_S
                self._set_aside(target)
                continue
            if flow is not None:
                self._last_tried[wanted.key] = target
                return flow, ""
        self._searches.pop(wanted.key, None)
        return None, problem

    async def _targets(self, wanted: Locate) -> Sequence[Target]:
        found = await self.resolve(wanted.uri)
        if not self._wants_stream(wanted.uri, wanted.size):
            return found
        # RFC 3261 §18.1.1: TCP first, and UDP when that cannot be had
        widened: list[Target] = []
        for target in found:
            if target.protocol == "UDP" and not self._no_stream_at(target.address, target.port):
                widened.append(replace(target, protocol="TCP"))
            widened.append(target)
        return widened

    async def _flow_to(self, target: Target) -> Flow | None:
        if target.protocol == "UDP":
            return self._transports.udp_flow(target.address, target.port)
        return await self._transports.connect(target.protocol, target.address, target.port, target.domain)

    def _set_aside(self, target: Target) -> None:
        if self._locator is not None:
            self._locator.failed(target, time.monotonic())

    def _wants_stream(self, uri: str, size: int) -> bool:
        return size > LARGE_BYTES and header.uri_parameter(uri, "transport") is None

    def _no_stream_at(self, host: str, port: int) -> bool:
        return time.monotonic() < self._no_stream.get((host, port), 0.0)


def _is_among(target: Target, wanted: Locate) -> bool:
    return (target.protocol, target.address, target.port) in wanted.tried


def _protocol(uri: str) -> str:
    """RFC 3263 §4.1 for a numeric host: the transport parameter, else TLS for sips and UDP for sip."""
    if uri.lower().startswith("sips:"):
        return "TLS"
    return (header.uri_parameter(uri, "transport") or "udp").upper()
