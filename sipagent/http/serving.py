"""The application under uvicorn, within our event loop; signals stay with the service."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from sipagent.http.app import adopt, create_app
from sipagent.http.control import CallControl
from sipagent.service.config.tree import Config

STOP_SECONDS: Final = 2  # requests may go on for so long
MAX_CONNECTIONS: Final = 512
PATIENCE_SECONDS: Final = 10.0  # with a client that does not finish its request


class _Protocol(H11Protocol):
    """Hangs up on clients that do not finish a request: they would hold the connections that others need, for ever.

    An answer may take any time, as event streams do.
    """

    _looking: asyncio.TimerHandle | None = None
    _unfinished: tuple[RequestResponseCycle | None] | None = None  # at the last look

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_later((None,))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def _look_later(self, unfinished: tuple[RequestResponseCycle | None] | None) -> None:
        self._unfinished = unfinished
        self._looking = self.loop.call_later(PATIENCE_SECONDS, self._look)

    def _look(self) -> None:
        """Two looks in a row at the same request that is not all there, or at none, are enough."""
        cycle: RequestResponseCycle | None = self.cycle
        waits = cycle is None or cycle.response_complete or cycle.more_body
        unfinished = (cycle,) if waits else None
        if unfinished is not None and unfinished == self._unfinished:
            self.transport.abort()
        else:
            self._look_later(unfinished)


class _Server(uvicorn.Server):
    """Without signal handlers, and with an event for the moment when it accepts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()


class Serving:
    """Serves the application on a bound socket; `start`, then `stop`."""

    def __init__(self, config: Config, control: CallControl) -> None:
        self._stopping = asyncio.Event()
        self._app = create_app(config, control, self._stopping)
        self._server = _Server(
            uvicorn.Config(
                self._app,
                http=_Protocol,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept; returns once it does."""
        self._task = asyncio.create_task(self._server.serve([listener]), name="http")
        accepting = asyncio.ensure_future(self._server.accepting.wait())
        await asyncio.wait((accepting, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            accepting.cancel()
            await self._task

    def adopt(self, config: Config) -> None:
        """Take over the limits of another configuration."""
        adopt(self._app, config)

    async def stop(self) -> None:
        """Accept no more, end the event streams, let requests finish, close."""
        if self._task is None:
            return
        self._stopping.set()
        self._server.should_exit = True
        await self._task
        self._task = None
