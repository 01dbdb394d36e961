"""What a pipeline is made of: processors, which take a frame and push what follows from it."""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from sipagent.pipeline.frames import Frame

Push = Callable[[Frame], Awaitable[None]]
"""Hands a frame to the next processor; returns when it has been dealt with, or lies in a mailbox."""


class Processor(Protocol):
    """One stage. It must push every frame that it does not consume.

    It runs in its caller's task, so it must not wait long; one that does is wrapped in a `Mailbox`.
    """

    async def process(self, frame: Frame, push: Push) -> None:
        """Deal with `frame` and push on."""


@runtime_checkable
class Background(Protocol):
    """A processor that has a task of its own beside the frames."""

    async def run(self, push: Push) -> None:
        """Run until cancelled; the task of the pipeline owns and cancels it."""


class Observer(Protocol):
    """Sees every frame that a processor pushes, except the ticks; it must not wait and must not raise."""

    def on_frame(self, frame: Frame, source: str) -> None:
        """`source` is the class name of the processor that pushed it, "" at the head."""
