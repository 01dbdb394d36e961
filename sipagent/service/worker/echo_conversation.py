"""`pipeline = "echo"`: the caller hears itself."""

import asyncio
from collections.abc import Callable

from sipagent.service.messages import Accept, Connected, Ended, Finished, FromWorker, Hangup, Offer, ToWorker
from sipagent.service.worker.echo_rows import EchoRows


class EchoCall:
    """One echoing call; the samples are copied by `EchoRows`, for all calls together."""

    def __init__(self, offer: Offer, rows: EchoRows, send: Callable[[FromWorker], None]) -> None:
        self._offer, self._rows, self._send = offer, rows, send
        self._connected, self._ended = asyncio.Event(), asyncio.Event()

    async def lead(self) -> None:
        """Take every call, echo until its end."""
        self._send(Accept(self._offer.call_id))
        await self._connected.wait()
        if self._ended.is_set():
            return
        self._rows.add(self._offer.row, self._offer.generation)
        try:
            await self._ended.wait()
        finally:
            self._rows.remove(self._offer.row)

    async def give_up(self) -> None:
        """Hang up; an echo has no words."""
        self._send(Hangup(self._offer.call_id, "error"))

    def receive(self, message: ToWorker) -> None:
        """Connected and Ended matter."""
        if isinstance(message, Connected | Ended):
            self._connected.set()
        if isinstance(message, Ended):
            self._ended.set()

    def finish(self) -> None:
        """Nothing was said."""
        self._send(Finished(self._offer.call_id, (), {}, {}, "echo"))
