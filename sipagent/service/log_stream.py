"""A stream for log lines that never makes its writer wait: a thread does, and a full queue loses what is newest.

A pipe that nobody reads, a terminal that is stopped, a journal that hangs: each blocks a plain write for ever, and with
it the event loop, registrations and BYE. A reader that has gone makes it fail (EPIPE), in the middle of whatever was
told. Here neither reaches the one who logs.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Final, TextIO, cast

MAX_WAITING: Final = 10_000  # lines; some megabytes, minutes of a busy service
LAST_WORDS_S: Final = 0.5  # that the end of the process waits for lines to be written


class LogStream:
    """Writes to the file descriptor `fd`; `on_lost` is told how many lines were left out once there is room again."""

    def __init__(self, fd: int, on_lost: Callable[[int], None]) -> None:
        self._fd = fd
        self._on_lost = on_lost
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._lost = 0
        self._writing = False
        threading.Thread(target=self._run, name="log", daemon=True).start()
        # Not atexit: children of multiprocessing end without it.
        Finalize(None, self.settle, exitpriority=0)

    def write(self, text: str) -> int:
        """Queue one line, or count it as lost."""
        with self._changed:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(text.encode("utf-8", "backslashreplace"))
                self._changed.notify_all()
            else:
                self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: to wait is what this stream is there to avoid."""

    def isatty(self) -> bool:
        """Whether people read it."""
        return os.isatty(self._fd)

    def settle(self, seconds: float = LAST_WORDS_S) -> None:
        """Wait until everything is written, but no longer than that."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lines = b"".join(self._waiting)
                self._waiting.clear()
                lost, self._lost = self._lost, 0
                self._writing = True
            self._write(lines)
            if lost:
                self._on_lost(lost)
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    def _write(self, lines: bytes) -> None:
        try:
            while lines:
                lines = lines[os.write(self._fd, lines) :]
        except OSError:  # EPIPE, ENOSPC, EIO: there is nobody left to tell
            pass


_streams: dict[int, LogStream] = {}  # by file descriptor: a configuration that is read again keeps the thread


def log_stream(fd: int, on_lost: Callable[[int], None]) -> TextIO:
    """The stream of this process for `fd`."""
    if fd not in _streams:
        _streams[fd] = LogStream(fd, on_lost)
    return cast("TextIO", _streams[fd])
