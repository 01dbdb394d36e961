"""A mailbox: gives a processor a task of its own, so that its caller does not wait for it.

Two lanes. System frames never wait: they are processed in the caller's task, even while the processor works on
something else, so one `Interruption` has reached playout before its `push` returns. All other frames queue in order,
at most `capacity` of them; a full mailbox makes its caller wait (back-pressure), it never drops.
"""

import asyncio
from collections import deque

from sipagent.pipeline.frames import Frame, Interruption, Kind
from sipagent.pipeline.processor import Processor, Push

CAPACITY = 64  # Flowcat's and rustvani's; a sentence is one frame, so this is minutes of speech


class Mailbox:
    """Wraps `inner`. An interruption drops the interruptible frames that wait and cancels the work on one."""

    def __init__(self, inner: Processor, capacity: int = CAPACITY) -> None:
        self.inner = inner
        self.dropped_interrupted = 0
        self._capacity = capacity
        self._lane: deque[Frame] = deque()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._current: Frame | None = None
        self._task: asyncio.Task[None] | None = None
        self._interrupted = False

    @property
    def waiting(self) -> int:
        """Frames that wait, without the one being worked on."""
        return len(self._lane)

    @property
    def idle(self) -> bool:
        """True when nothing waits and nothing is being worked on."""
        return not self._lane and self._current is None

    async def process(self, frame: Frame, push: Push) -> None:
        """Queue the frame; system frames are processed at once."""
        if frame.kind is Kind.SYSTEM:
            if isinstance(frame, Interruption):
                self._interrupt()
            await self.inner.process(frame, push)
            return
        while len(self._lane) >= self._capacity:
            self._drained.clear()
            await self._drained.wait()
        self._lane.append(frame)
        self._filled.set()

    async def run(self, push: Push) -> None:
        """Work through the lane until cancelled."""
        task = self._task = asyncio.current_task()
        assert task is not None
        cancellations = task.cancelling()
        while True:
            try:
                while self._lane:
                    self._current = self._lane.popleft()
                    self._drained.set()
                    await self.inner.process(self._current, push)
                    self._current = None
                self._filled.clear()
                await self._filled.wait()
            except asyncio.CancelledError:
                # As asyncio.timeout does it: our own cancellation is taken back, one from outside goes on.
                self._current = None
                if not self._interrupted or task.uncancel() > cancellations:
                    raise
                self._interrupted = False

    def _interrupt(self) -> None:
        kept = [frame for frame in self._lane if not frame.interruptible]
        self.dropped_interrupted += len(self._lane) - len(kept)
        self._lane = deque(kept)
        self._drained.set()
        working = self._task is not None and self._current is not None and self._current.interruptible
        if working and not self._interrupted and self._task is not None:
            self._interrupted = True
            self._task.cancel()
