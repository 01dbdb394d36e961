"""The thread that writes to disk what the media loop hands over: the loop never waits for it."""

import queue
import threading
import time
from collections.abc import Callable


class WriterThread:
    """Does what it is given in turn, and calls `write` once it has had nothing to do until `interval_s` was over.

    Work is given by one other thread. `finish` is called at the end, after all work.
    """

    def __init__(self, name: str, interval_s: float, write: Callable[[], None], finish: Callable[[], None]) -> None:
        self._interval_s = interval_s
        self._write = write
        self._finish = finish
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; what `write` and `finish` need must be there."""
        self._thread.start()

    def do(self, work: Callable[[], None]) -> None:
        """Have `work` done, after all that was given before; never blocks."""
        self._work.put(work)

    def close(self, timeout_s: float) -> None:
        """End once all work is done; waits for at most `timeout_s` seconds."""
        self._work.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        write_at = time.monotonic() + self._interval_s
        while True:
            try:
                work = self._work.get(timeout=max(0.0, write_at - time.monotonic()))
            except queue.Empty:
                self._write()
                write_at = time.monotonic() + self._interval_s
                continue
            if work is None:
                break
            work()
        self._finish()
