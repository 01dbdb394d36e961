"""Our public address, asked of a STUN server from the very socket that SIP uses (RFC 8489 §6.2.1)."""

import asyncio
import secrets
from collections.abc import Callable

from sipagent.errors import ConfigError, ParseError
from sipagent.sip.stun import BindingRequest, BindingResponse, decode, encode_request

PREFIX = "stun:"
DEFAULT_PORT = 3478
WAITS_S = (0.5, 1.0, 2.0)  # RFC 8489 §6.2.1: the time-out doubles; a start-up cannot wait for all seven


class StunQuery:
    """One question, repeated until its answer comes; `receive` is to be given every STUN datagram of the socket."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._request = BindingRequest(secrets.token_bytes(12))
        self._answer: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    async def ask(self) -> tuple[str, int] | None:
        """Address and port as the server sees them, None when it does not say."""
        for wait_s in WAITS_S:
            self._send(encode_request(self._request))
            try:
                return await asyncio.wait_for(asyncio.shield(self._answer), wait_s)
            except TimeoutError:
                continue
        return None

    def receive(self, data: bytes) -> None:
        """A datagram; only the answer to our own question counts."""
        try:
            found = decode(data)
        except ParseError:
            return
        ours = isinstance(found, BindingResponse) and found.transaction_id == self._request.transaction_id
        if ours and isinstance(found, BindingResponse) and found.address and not self._answer.done():
            self._answer.set_result((found.address, found.port))


def parse_server(text: str) -> tuple[str, int]:
    """Host and port of "stun:host[:port]"; ConfigError when it is none."""
    host, colon, port = text.removeprefix(PREFIX).partition(":")
    if not host or (colon and not port.isdigit()):
        raise ConfigError("sip.public_address", f"{text!r} is no STUN server", "write stun:HOST:PORT")
    return host, int(port) if port else DEFAULT_PORT
