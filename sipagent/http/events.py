"""Server-sent events of a call (HTML Standard §9.2): resumable by Last-Event-ID, kept alive by comments."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from sipagent.http.control import CallEvent

MEDIA_TYPE: Final = "text/event-stream"
KEEPALIVE: Final = b": keepalive\n\n"  # a comment: proxies see traffic, clients see nothing
RETRY: Final = b"retry: 2000\n\n"  # ms until a client comes back; also sends the headers at once


async def stream(
    events: AsyncIterator[CallEvent], stopping: asyncio.Event, keepalive_seconds: float = 15.0
) -> AsyncIterator[bytes]:
    """The body of a response: ends with the events, or when the endpoint is stopping."""
    stopped = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[CallEvent] | None = None
    try:
        yield RETRY
        while True:
            if following is None:
                following = asyncio.ensure_future(_next(events))
            done, _ = await asyncio.wait(
                (following, stopped), timeout=keepalive_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if following in done:
                try:
                    event = following.result()
                except StopAsyncIteration:
                    return
                following = None
                yield encode(event)
            elif stopped in done:
                return
            else:
                yield KEEPALIVE
    finally:
        waiting = [task for task in (following, stopped) if task is not None]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def encode(event: CallEvent) -> bytes:
    """One event as it goes over the wire; JSON has no line breaks, so one data line is enough."""
    data = json.dumps({"type": event.type, "at": event.at, **event.data}, ensure_ascii=False, default=str)
    return f"id: {event.number}\nevent: {event.type}\ndata: {data}\n\n".encode()


def resume_after(last_event_id: str | None) -> int:
    """The number that a client has seen last; 0 when it says none that we could have given."""
    text = (last_event_id or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


async def _next(events: AsyncIterator[CallEvent]) -> CallEvent:
    return await anext(events)
