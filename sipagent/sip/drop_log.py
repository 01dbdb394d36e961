"""One line in the log for what is not taken, however much of it comes.

why          counted in `stats` as well
malformed    no SIP, or a request that was answered with 400 or 513
strangers    a call or request from an address of no trunk: mind [[trunk]] allow, or sip.accept_unknown_sources
guard_…      what the guard has dropped
"""

from collections.abc import Callable, Mapping
from typing import Final

REASONS: Final = ("malformed", "strangers", "foreign_requests")
QUIET_S: Final = 10.0  # between two lines of one reason


class DropLog:
    """Watches the counters around each message; `tell` gets the reason, the source and how many were hushed before."""

    def __init__(self, stats: Mapping[str, int], tell: Callable[[str, str, int], None]) -> None:
        self._stats, self._tell = stats, tell
        self._counted = [0] * len(REASONS)
        self._next: dict[str, float] = {}
        self._hushed: dict[str, int] = {}

    def look(self, source: str, now: float) -> None:
        """A message from `source` has been dealt with: tell when one of the counters has moved."""
        for index, why in enumerate(REASONS):
            count = self._stats[why]
            if count != self._counted[index]:
                self._counted[index] = count
                self.note(why, source, now)

    def note(self, why: str, source: str, now: float) -> None:
        """A message from `source` was not taken: the first of its kind is told at once, then one every 10 s."""
        if now < self._next.get(why, 0.0):
            self._hushed[why] = self._hushed.get(why, 0) + 1
            return
        self._next[why] = now + QUIET_S
        self._tell(why, source, self._hushed.pop(why, 0))
