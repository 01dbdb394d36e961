"""Admission by measured pacing error: a media plane that is late already gets no new calls.

A tick of a media plane that begins late makes every packet of its calls late. `[limits] max_calls` is a guess at how
many calls a machine carries; how late its ticks begin is a measurement.
"""

from collections.abc import Sequence
from typing import Final, Protocol

RELIEF: Final = 0.7  # of the limit: a plane that was late gets calls again below this, so that it does not swing


class PacedPlane(Protocol):
    """A media plane that knows how late it is."""

    number: int

    def pacing_ms(self) -> float:
        """99 % of its ticks of the last ten seconds began no later than this."""


class PacingGate:
    """Remembers which planes are late."""

    def __init__(self, planes: Sequence[PacedPlane]) -> None:
        self._planes = planes
        self._late: frozenset[int] = frozenset()

    def late(self, limit_ms: float) -> frozenset[int]:
        """Numbers of the planes that are to get no new call now; 0 ms = no limit."""
        if limit_ms <= 0:
            self._late = frozenset()
        else:
            self._late = frozenset(
                plane.number
                for plane in self._planes
                if plane.pacing_ms() > limit_ms * (RELIEF if plane.number in self._late else 1.0)
            )
        return self._late

    def objection(self, limit_ms: float) -> str:
        """Why no new call can be taken by any plane; "" while one can."""
        if not self._planes or len(self.late(limit_ms)) < len(self._planes):
            return ""
        best = min(plane.pacing_ms() for plane in self._planes)
        return f"media is late: p99 of pacing {best:.1f} ms, limits.max_pacing_ms is {limit_ms:g}"
