"""How long each service is waited for before the conversation goes on without it."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from sipagent.errors import ServiceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """In seconds. A caller takes two seconds of silence for a fault, and hangs up after ten."""

    end_of_turn_seconds: float = 1.2
    stt_seconds: float = 5.0
    first_reply_seconds: float = 8.0
    next_reply_seconds: float = 20.0  # between two pieces: a tool may be at work
    first_audio_seconds: float = 3.0
    next_audio_seconds: float = 3.0


async def within(seconds: float, service: str, work: Awaitable[T]) -> T:
    """The result of `work`; raises ServiceError when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise ServiceError(service, f"no answer within {seconds:g} s", retryable=True) from None
