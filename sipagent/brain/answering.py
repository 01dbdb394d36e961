"""What the makers of answers share: their options, what they need of the call, and how streams are closed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

import msgspec

from sipagent.pipeline.chat import Usage
from sipagent.pipeline.frames import Speak

Item = TypeVar("Item")

SIGN_OF_LIFE_S: Final = 4.0  # the pipeline gives a responder up that is silent for longer than its deadline


class ResponderOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and phrases of the answers."""

    filler: str = "One moment, please."  # said when an answer takes long; "" = nothing
    filler_after_ms: int = 1500
    tool_seconds: float = 20.0  # limit of one tool call, and of a hook of the brain
    tool_rounds: int = 5  # limit of calls to the model in one turn; the last one has no tools


class AnsweredCall(Protocol):
    """What the responder needs of the call, and tells it."""

    @property
    def ending(self) -> str | None:
        """The disposition, once the brain has hung up."""

    @property
    def transferring(self) -> bool:
        """True while a transfer is under way."""

    @property
    def aside(self) -> bool:
        """True while the caller talks with a colleague, or waits for one, and does not hear what is said."""

    def say(self, text: str) -> None:
        """Speak outside of an answer."""

    def answered(self) -> None:
        """An answer is complete, or was interrupted."""

    def tool_called(self, name: str, arguments: Mapping[str, Any], result: Any, took_ms: float) -> None:
        """A tool has finished, or failed: then `result` has an "error"."""

    def tokens_used(self, usage: Usage) -> None:
        """The model counted an answer."""


@asynccontextmanager
async def closing(items: AsyncIterator[Item]) -> AsyncGenerator[AsyncIterator[Item], None]:
    """Close the iterator at the end, if it is of the kind that can be closed."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def with_filler(stream: AsyncIterator[Any], after_s: float, filler: str) -> AsyncIterator[Any]:
    """The stream, with `filler` before it when its first event takes longer than `after_s` seconds."""
    end = object()

    async def first_event() -> Any:
        return await anext(stream, end)

    async with closing(stream):
        first = asyncio.create_task(first_event())
        try:
            done, _ = await asyncio.wait({first}, timeout=after_s if filler else None)
            if not done:
                yield Speak(filler)
            event = await first
        finally:
            if not first.done():
                first.cancel()
                await asyncio.wait({first})
        if event is not end:
            yield event
            async for event in stream:
                yield event
