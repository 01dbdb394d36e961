"""The application on a socket, TCP or Unix: uvicorn within our event loop; signals stay with the service."""

import asyncio
import contextlib
import socket
import stat
from collections.abc import Generator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from sipagent.errors import ConfigError
from sipagent.http.app import create_app
from sipagent.http.control import CallControl
from sipagent.service.config import Config
from sipagent.service.config_check import http_address

log = structlog.get_logger(__name__)

STOP_SECONDS: Final = 2  # requests may go on for so long
MAX_CONNECTIONS: Final = 512


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


class HttpServer:
    """The endpoint of `[http] listen`; `start`, then `stop`."""

    def __init__(self, config: Config, control: CallControl) -> None:
        self._listen = config.http.listen
        self._stopping = asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                create_app(config, control, self._stopping),
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
        self.address = ""  # "127.0.0.1:8080" with the real port, or "unix:/path", once it has started

    async def start(self) -> None:
        """Bind and accept; raises ConfigError when the address cannot be had."""
        listener = self._bind()
        self._task = asyncio.create_task(self._server.serve([listener]), name="http")
        accepting = asyncio.ensure_future(self._server.accepting.wait())
        await asyncio.wait((accepting, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            accepting.cancel()
            await self._task

    async def stop(self) -> None:
        """Accept no more, end the event streams, let requests finish, close."""
        if self._task is None:
            return
        self._stopping.set()
        self._server.should_exit = True
        await self._task
        self._task = None
        _unlink_unix(self._listen)

    def _bind(self) -> socket.socket:
        try:
            if self._listen.startswith("unix:"):
                self.address = self._listen
                return _bind_unix(self._listen.removeprefix("unix:"))
            listener = _bind_tcp(*http_address(self._listen))
        except OSError as error:
            raise ConfigError(
                "http.listen", f"{self._listen} cannot be bound: {error.strerror}", "choose another address"
            ) from error
        host, port = listener.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return listener


def _bind_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _bind_unix(path: str) -> socket.socket:
    """A socket that user and group may open. What a dead process left there is replaced, a live one is not."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).stat().st_mode) and not _answers(path):
            Path(path).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(path)
        Path(path).chmod(0o660)  # before it listens, so that nobody is quicker
    except OSError:
        listener.close()
        raise
    return listener


def _unlink_unix(listen: str) -> None:
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(path) == 0
