"""`pipeline = "echo"`: the caller hears itself."""

import asyncio
from collections.abc import Callable

from sipagent.rtp.table import FAR_END, OTHER_SIDE
from sipagent.service.messages import (
    Accept,
    Colleague,
    ColleagueLeft,
    Connected,
    Ended,
    Finished,
    FromWorker,
    Hangup,
    Join,
    Offer,
    StepIn,
    ToWorker,
)
from sipagent.service.worker.echo_rows import EchoRows


class EchoCall:
    """One echoing call; the samples are copied by `EchoRows`, for all calls together."""

    def __init__(self, offer: Offer, rows: EchoRows, send: Callable[[FromWorker], None]) -> None:
        self._offer, self._rows, self._send = offer, rows, send
        self._connected, self._ended = asyncio.Event(), asyncio.Event()
        self._echoing, self._audience = False, FAR_END

    async def lead(self) -> None:
        """Take every call, echo until its end."""
        self._send(Accept(self._offer.call_id))
        await self._connected.wait()
        if self._ended.is_set():
            return
        self._echoing = True
        self._echo(self._audience)
        try:
            await self._ended.wait()
        finally:
            self._rows.remove(self._offer.row)

    async def give_up(self) -> None:
        """Hang up; an echo has no words."""
        self._send(Hangup(self._offer.call_id, "error"))

    def receive(self, message: ToWorker) -> None:
        """Connected and Ended matter; while a colleague talks with the caller, an echo is silent."""
        match message:
            case Colleague(joined=joined):
                self._echo(0)
                if not joined:
                    self._send(Join(self._offer.call_id))  # an echo has nothing to tell
            case ColleagueLeft():
                self._echo(FAR_END)
            case StepIn(heard=heard):
                self._echo(FAR_END | OTHER_SIDE if heard else 0)
        if isinstance(message, Connected | Ended):
            self._connected.set()
        if isinstance(message, Ended):
            self._ended.set()

    def _echo(self, audience: int) -> None:
        self._audience = audience
        self._rows.remove(self._offer.row)
        if audience and self._echoing:
            self._rows.add(self._offer.row, self._offer.generation, audience)

    def finish(self) -> None:
        """Nothing was said."""
        self._send(Finished(self._offer.call_id, (), {}, {}, "echo"))
