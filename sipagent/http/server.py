"""The endpoint on a socket, TCP or Unix: bound first, so that an address in use is a configuration error."""

import asyncio
import contextlib
import socket
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from sipagent.errors import ConfigError
from sipagent.http.control import CallControl
from sipagent.service.config.check import http_address
from sipagent.service.config.tree import Config

if TYPE_CHECKING:
    from sipagent.http.serving import Serving


class HttpServer:
    """The endpoint of `[http] listen`; `start`, then `stop`."""

    def __init__(self, config: Config, control: CallControl) -> None:
        self._config, self._control = config, control
        self._listen = config.http.listen
        self._serving: Serving | None = None
        self.address = ""  # "127.0.0.1:8080" with the real port, or "unix:/path", once it has started

    async def start(self) -> None:
        """Bind and accept; raises ConfigError when the address cannot be had."""
        listener = self._bind()
        # FastAPI takes half a second to import: in a thread, while the trunks answer our REGISTER.
        try:
            self._serving = await asyncio.to_thread(_make, self._config, self._control)
        except asyncio.CancelledError:  # the service is to stop before it has started
            listener.close()
            _unlink_unix(self._listen)
            raise
        await self._serving.start(listener)

    def adopt(self, config: Config) -> None:
        """Take over the limits and trunks of another configuration; address and token stay."""
        if self._serving is not None:
            self._serving.adopt(config)

    async def stop(self) -> None:
        """Accept no more, end the event streams, let requests finish, close."""
        if self._serving is None:
            return
        await self._serving.stop()
        self._serving = None
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


def _make(config: Config, control: CallControl) -> "Serving":
    from sipagent.http.serving import Serving

    return Serving(config, control)


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
