"""Targets of a URI by the system's resolver, for hosts without SRV records."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from sipagent.errors import ParseError
from sipagent.sip import header


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send; `name` is what a TLS certificate must show."""

    protocol: str
    host: str
    port: int
    name: str


async def resolve(uri: str) -> Sequence[Target]:
    """The addresses of a URI's host, () when there are none."""
    try:
        host, port = header.host_port(uri)
    except ParseError:
        return ()
    secure = uri.lower().startswith("sips:")
    protocol = "TLS" if secure else (header.uri_parameter(uri, "transport") or "udp").upper()
    port = port or (5061 if protocol == "TLS" else 5060)
    if header.is_numeric(host):
        return (Target(protocol, host, port, host),)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(Target(protocol, str(entry[4][0]), port, host) for entry in found)
