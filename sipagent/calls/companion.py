"""A second call that we place for the sake of the first: a person whom the caller is to be joined with.

It has its own dialog and its own row, in the same media plane as the first so that the two can be bridged, and nobody
of ours talks in it.
"""

import msgspec

from sipagent.calls.call import Call
from sipagent.calls.lifecycle import Lifecycle, new_call_id
from sipagent.calls.outbound import Outbound
from sipagent.errors import LocalError
from sipagent.service import messages
from sipagent.service.config.tree import Trunk
from sipagent.sip.outcome import Outcome


class Companions:
    """Places such calls."""

    def __init__(self, life: Lifecycle, outbound: Outbound) -> None:
        self._life, self._outbound = life, outbound

    def place(self, first: Call, to: str, ring_seconds: float) -> Call | Outcome:
        """Call `to` for the far end of `first`, by the same trunk; an Outcome says why nobody can be called.

        The caller next sets `when_answered` and the like of the new call's `Live`.
        """
        if first.place is None:
            return Outcome.FAILED
        row = self._life.rows.take(self._life.loop.time(), first.place.plane)
        if row is None:
            return Outcome.CONGESTED
        trunk = first.trunk or next(iter(self._life.config.trunk), None)
        shown = first.party.from_name or first.party.from_number if first.party.direction == "inbound" else ""
        party = messages.Party("outbound", _number_of(trunk), shown, to, trunk.name if trunk else "")
        # What the two say to each other is in the recording of the first call.
        route = msgspec.structs.replace(first.route, record="")
        second = Call(new_call_id(), party, trunk, route, {}, companion_of=first.id)
        self._life.admit(second, row)
        try:
            self._outbound.dial(second, ring_seconds)
        except LocalError as problem:
            self._life.hang_up(second, str(problem), outcome=Outcome.FAILED)
            return Outcome.FAILED
        return second


def _number_of(trunk: Trunk | None) -> str:
    return (trunk.caller_id or trunk.username) if trunk else ""
