"""Rows of the media planes: handed out in turn, put in quarantine after a call."""

from collections import deque
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

QUARANTINE_S: Final = 5.0  # late packets of an ended call must not reach the next one


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a plane and the RTP port that belongs to it."""

    plane: int
    number: int
    port: int


class RowPool:
    """Rows that are free, oldest first, so that a port rests as long as it can."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Row, ...]] = {}  # of each plane that came up
        self._free: dict[int, deque[tuple[float, Row]]] = {}

    def add_plane(self, plane: int, ports: tuple[int, ...], held: Set[Row] = frozenset()) -> None:
        """Rows of a plane that came up; a port of 0 could not be bound and is left out, `held` are in use already."""
        self._rows[plane] = tuple(Row(plane, number, port) for number, port in enumerate(ports) if port)
        self._free[plane] = deque((0.0, row) for row in self._rows[plane] if row not in held)

    def remove_plane(self, plane: int) -> None:
        """The plane is gone, and with it its rows."""
        self._free.pop(plane, None)

    def take(self, now: float, plane: int | None = None, avoid: Set[int] = frozenset()) -> Row | None:
        """A row of `plane`, or of the one with the most free ones; None when all are in use or in quarantine.

        The planes in `avoid` are passed over.
        """
        for number, rows in sorted(self._free.items(), key=lambda item: -len(item[1])):
            if plane in (None, number) and number not in avoid and rows and rows[0][0] <= now:
                return rows.popleft()[1]
        return None

    def give_back(self, row: Row, now: float) -> None:
        """The call is over and the media plane has closed the row."""
        if row.plane in self._free:
            self._free[row.plane].append((now + QUARANTINE_S, row))

    def lost(self, in_use: Set[Row]) -> list[Row]:
        """Rows that are neither free nor in use."""
        kept = {row for rows in self._free.values() for _, row in rows} | in_use
        return [row for plane, rows in self._rows.items() if plane in self._free for row in rows if row not in kept]

    def free(self, now: float) -> int:
        """Rows that `take` could hand out now."""
        return sum(1 for rows in self._free.values() for until, _ in rows if until <= now)
