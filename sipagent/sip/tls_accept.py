"""The handshake of a TLS connection that somebody opens to us, and why it failed.

asyncio's own TLS server tells nobody of a handshake that fails; a line that does not work needs the words.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import structlog

HANDSHAKE_S: Final = 10.0  # a far end that says nothing holds no socket for longer
_NO_CERTIFICATE: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_log = structlog.get_logger("sip")


class TlsAccept(asyncio.Protocol):
    """Stands in front of a connection until it is encrypted; `refused` is told the counter of a failure."""

    def __init__(
        self, context: ssl.SSLContext, make: Callable[[], asyncio.Protocol], refused: Callable[[str], None]
    ) -> None:
        self._context, self._make, self._refused = context, make, refused
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []  # what came with the end of the handshake
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there; what comes next is the handshake's."""
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    def data_received(self, data: bytes) -> None:
        """Decrypted already, and too early for the connection."""
        self._early.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        """The far end is gone before anything could begin."""
        self._lost = True

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        source = (transport.get_extra_info("peername") or ("",))[0]
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport, self, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, TimeoutError) as problem:  # ssl.SSLError is an OSError
            transport.abort()
            self._tell(source, problem)
            return
        if encrypted is None or self._lost:
            return
        connection = self._make()
        encrypted.set_protocol(connection)
        connection.connection_made(encrypted)
        for data in self._early:
            connection.data_received(data)

    def _tell(self, source: str, problem: OSError) -> None:
        verified = isinstance(problem, ssl.SSLCertVerificationError)
        if not verified and getattr(problem, "reason", "") != _NO_CERTIFICATE:
            self._refused("tls_handshakes_failed")
            _log.debug("tls_handshake_failed", source=source, problem=str(problem))
            return
        self._refused("tls_clients_refused")
        why = problem.verify_message if isinstance(problem, ssl.SSLCertVerificationError) else "it showed none"
        _log.warning("tls_client_refused", source=source, certificate=why, asked_by="sip.tls_client_ca")
