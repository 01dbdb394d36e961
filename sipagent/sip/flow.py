"""Flows: where a message came from and where the answer goes (RFC 5626 §2).

The user agent's core never touches a socket. It names flows, and asks for one with `Locate` when it has a URI only.
"""

from dataclasses import dataclass
from urllib.parse import quote

from sipagent.sip.header import bracketed

_USER_SAFE = "-_.!~*'()&=+$,;?/"  # RFC 3261 §25.1: user-unreserved and mark


@dataclass(frozen=True, slots=True)
class Flow:
    """One far end by one transport. `local` is the address that the far end should use to reach us."""

    protocol: str  # "UDP", "TCP" or "TLS"
    remote: tuple[str, int]
    local: tuple[str, int]
    connection: int = 0  # number of the TCP or TLS connection; 0 for UDP
    listener: int = 0  # index of the socket that UDP leaves by

    @property
    def reliable(self) -> bool:
        """Whether the transport repeats lost data itself."""
        return self.protocol != "UDP"

    @property
    def sent_by(self) -> str:
        """Our side, as it stands in a Via."""
        return f"{bracketed(self.local[0])}:{self.local[1]}"

    def contact(self, user: str) -> str:
        """A Contact by which the far end reaches us over this transport."""
        at = f"{quote(user, safe=_USER_SAFE)}@" if user else ""
        transport = "" if self.protocol == "UDP" else f";transport={self.protocol.lower()}"
        return f"<sip:{at}{self.sent_by}{transport}>"


@dataclass(frozen=True, slots=True)
class Send:
    """Put these bytes on that flow."""

    flow: Flow
    data: bytes


@dataclass(frozen=True, slots=True)
class Locate:
    """Find (RFC 3263) and connect the next target of a URI, then call `flow_ready` or `flow_failed` with the key.

    `attempt` counts from 0: each later one wants a target that is not among those `tried`. `size` is that of the
    request: above `large` bytes UDP gives way to TCP (RFC 3261 §18.1.1).
    """

    key: int
    uri: str
    attempt: int
    size: int
    tried: frozenset[tuple[str, str, int]] = frozenset()  # protocol, address and port
