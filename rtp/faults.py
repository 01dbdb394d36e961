"""What was raised in a media plane: told, and borne, as long as it does not go on.

A mistake of ours in one call's affairs must not end all others. What is raised again and again has a cause that stays:
then the process ends, and the one after it opens the rows anew.
"""

import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sipagent.rtp.control import Event, MediaProblem

BORNE: Final = 3  # ticks that may fail …
WITHIN_NS: Final = 1_000_000_000  # … in such a time
FRAMES: Final = 3  # that are told, the innermost first


class Faults:
    """Takes what ticks and commands have raised."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._ticks: deque[int] = deque(maxlen=BORNE + 1)

    def in_tick(self, error: Exception, now_ns: int) -> None:
        """Bear `error`, which a tick has raised; raises it when too many have failed of late."""
        self._ticks.append(now_ns)
        if len(self._ticks) > BORNE and now_ns - self._ticks[0] < WITHIN_NS:
            raise error
        self._tell(error, "a tick failed", -1, 0)

    def in_command(self, error: Exception, command: object) -> None:
        """Bear `error`, which `command` has raised."""
        row, generation = getattr(command, "row", -1), getattr(command, "generation", 0)
        self._tell(error, f"{type(command).__name__} failed", row, generation)

    def _tell(self, error: Exception, what: str, row: int, generation: int) -> None:
        # Not printed: a log that nobody reads would stop us.
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
        self._emit(MediaProblem(f"{what}: {error!r}, at {where}", row, generation))
