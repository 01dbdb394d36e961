"""3xx to a call that we placed: the addresses that it names are called, as far as we may call them (RFC 3261 §8.1.3.4).

`[sip] redirects = "follow"`. Whoever redirects must not choose whom we pay to call: each address passes the policy of
`[limits]`, as every other destination does. The call stays one call, with one brain, row and ringing time.
"""

from typing import Final

from sipagent.calls.call import Call
from sipagent.calls.lifecycle import Lifecycle
from sipagent.calls.outbound import Outbound
from sipagent.calls.trail import TRIED, Trail, diversions
from sipagent.errors import LocalError
from sipagent.service.config.check import server_address
from sipagent.service.destinations import DestinationPolicy
from sipagent.sip import engine as sip

REDIRECTIONS: Final = (300, 301, 302)  # 305 names a proxy and 380 another service: not for us to follow


class Redirects:
    """Leads calls that are not answered yet from address to address."""

    def __init__(self, life: Lifecycle, outbound: Outbound) -> None:
        self._life, self._outbound = life, outbound

    def ended(self, call: Call, event: sip.Ended) -> bool:
        """An address did not take the call: call the next one; False when there is none, and the call is over."""
        live = self._life.live[call.id]
        refused = event.by in ("refused", "timeout", "transport") and call.alive and not call.answered
        redirected = refused and event.by == "refused" and event.status in REDIRECTIONS
        if live.trail is None and redirected and self._follows(call):
            live.trail = Trail.begin(call.party.to_number, _home(call))
        trail = live.trail
        if trail is None:
            return False
        trail.current.status = event.status
        if redirected:
            self._take(call, trail, event)
        # RFC 3261 §21.6: 6xx speaks for all addresses
        going_on = refused and event.status < 600 and self._next(call, trail, event)
        call.redirects = trail.shown()
        return going_on

    def answered(self, call: Call) -> None:
        """One of them took the call."""
        live = self._life.live[call.id]
        if live.trail is not None:
            live.trail.current.status = 200
            call.redirects = live.trail.shown()
            live.trail = None

    def _follows(self, call: Call) -> bool:
        return self._life.config.sip.redirects == "follow" and call.party.direction == "outbound"

    def _take(self, call: Call, trail: Trail, event: sip.Ended) -> None:
        policy = DestinationPolicy.of(self._life.config)
        for target in trail.redirected(event.headers, policy.objection):
            self._count("loop" if target.problem == TRIED else "refused")
            call.note("redirect", to=target.to, status=event.status, problem=target.problem)

    def _next(self, call: Call, trail: Trail, event: sip.Ended) -> bool:
        while target := trail.next():
            headers = (("History-Info", trail.history_info()), *diversions(event.headers))
            try:
                self._outbound.redial(call, target.to, headers)
            except LocalError as problem:
                target.problem = str(problem)
                continue
            self._count("followed")
            call.note("redirect", to=target.to, status=event.status)
            return True
        return False

    def _count(self, what: str) -> None:
        self._life.redirected[what] = self._life.redirected.get(what, 0) + 1


def _home(call: Call) -> tuple[str, int]:
    return server_address(call.trunk.server) if call.trunk else ("", 0)
