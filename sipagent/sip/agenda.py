"""One list of deadlines for all the machines of an engine."""

import heapq
from typing import Protocol


class Timed(Protocol):
    """A machine with a deadline of its own that may move at every step."""

    @property
    def deadline(self) -> float | None:
        """When it wants to be called, None = never."""


class Agenda:
    """Finds what is due. An entry that moved is corrected when it comes up, not when it moves."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._planned: dict[int, float] = {}  # by id: the earliest entry in the heap
        self._count = 0

    @property
    def deadline(self) -> float | None:
        """The earliest entry; never later than what is really due."""
        return self._heap[0][0] if self._heap else None

    def watch(self, machine: Timed) -> None:
        """Take note of a machine's deadline; call it after every step of the machine."""
        deadline = machine.deadline
        if deadline is None:
            return
        planned = self._planned.get(id(machine))
        if planned is None or deadline < planned:
            self._planned[id(machine)] = deadline
            self._count += 1
            heapq.heappush(self._heap, (deadline, self._count, machine))

    def due(self, now: float) -> list[Timed]:
        """The machines whose deadline has come, each once; call `watch` again when they are done."""
        found: list[Timed] = []
        while self._heap and self._heap[0][0] <= now:
            entry, _, machine = heapq.heappop(self._heap)
            if self._planned.get(id(machine)) != entry:
                continue  # an earlier entry has already stood for this machine
            del self._planned[id(machine)]
            deadline = machine.deadline
            if deadline is not None and deadline <= now:
                found.append(machine)
            else:
                self.watch(machine)
        return found
