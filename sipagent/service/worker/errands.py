"""What is to be done for a brain outside of its answers, one thing after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 256  # a caller who presses keys faster than that loses the newest
HOOK_S: Final = 15.0  # what a hook outside of an answer may take

Result = TypeVar("Result")
Work = Callable[[], Awaitable[None]]


class Errands:
    """A queue of them. `post` may come from anywhere in the loop, also before `run`."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Work] = asyncio.Queue(MAX_WAITING)

    def post(self, work: Work) -> None:
        """Do it when its turn comes."""
        try:
            self._waiting.put_nowait(work)
        except asyncio.QueueFull:
            log.warning("too much to do for a brain, dropped")

    async def run(self, first: Work) -> None:
        """Do `first`, then what is posted, for ever; raises what the brain raises."""
        await first()
        while True:
            await (await self._waiting.get())()


async def in_time(hook: Awaitable[Result]) -> Result | None:
    """The result of a brain's hook; None when it takes too long."""
    try:
        async with asyncio.timeout(HOOK_S):
            return await hook
    except TimeoutError:
        log.warning("a hook of the brain took too long", seconds=HOOK_S)
        return None
