"""An engine and its events for the tests of real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from sipagent.sip.engine import EngineEvent, EngineSettings, IncomingCall, TrunkAccount
from sipagent.sip.native import NativeEngine

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 27990 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
E = TypeVar("E")


class Station:
    """An engine that remembers its events; `on_event` may react at once."""

    def __init__(self, settings: EngineSettings) -> None:
        self.engine = NativeEngine(settings)
        self.events: list[EngineEvent] = []
        self.on_event: Callable[[EngineEvent], None] | None = None
        self._changed = asyncio.Event()

    def note(self, event: EngineEvent) -> None:
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)
        self._changed.set()

    async def expect(self, kind: type[E], count: int = 1, limit_s: float = 5.0, where: str = "") -> E:
        """The `count`-th event of a kind, waiting for it."""
        async with asyncio.timeout(limit_s):
            while True:
                found = [event for event in self.events if isinstance(event, kind) and where in repr(event)]
                if len(found) >= count:
                    return found[count - 1]
                self._changed.clear()
                await self._changed.wait()

    def answer_all(self) -> None:
        """Ring and answer whatever comes in."""

        def react(event: EngineEvent) -> None:
            if isinstance(event, IncomingCall):
                self.engine.ring(event.handle)
                self.engine.answer(event.handle, SDP)

        self.on_event = react


@contextlib.asynccontextmanager
async def station(
    port: int, *trunks: TrunkAccount, listen: tuple[str, ...] = (), **settings: object
) -> AsyncIterator[Station]:
    """A running engine on udp and tcp of one port."""
    addresses = listen or (f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}")
    made = Station(EngineSettings(listen=addresses, trunks=trunks, **settings))  # type: ignore[arg-type]
    await made.engine.start(made.note)
    try:
        yield made
    finally:
        await made.engine.stop()
