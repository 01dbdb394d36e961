"""HEP version 3: a SIP message as capture servers (Homer, SIPCAPTURE) take it, in one datagram.

"HEP3"  total length (2 octets)  chunk …
chunk:  vendor (2), type (2), length with these six octets (2), value
"""

import ipaddress
import struct
from typing import Final

from sipagent.sip.ladder import Address, Message

MAX_DATAGRAM: Final = 65_000  # octets; a length is 16 bits, and UDP over IPv4 carries 65,507
MAX_PAYLOAD: Final = 60_000
SIP: Final = 1  # protocol type
_FAMILIES: Final = {4: (2, 3, 4), 6: (10, 5, 6)}  # IP version: its number here, chunks of source and target address
_TRANSPORTS: Final = {"UDP": 17, "TCP": 6, "TLS": 6}  # IP protocol numbers; SIP over TLS has none of its own


def encode(message: Message, call_id: str, at: float, agent: int, key: str = "") -> bytes:
    """One datagram; `at` is Unix seconds, `agent` the number of this capture agent, `key` what the server wants."""
    ends = (message.local, message.remote) if message.direction == "out" else (message.remote, message.local)
    source, target = (_address(end) for end in ends)
    version = max(source.version, target.version)
    family, source_chunk, target_chunk = _FAMILIES[version]
    seconds, microseconds = divmod(round(at * 1_000_000), 1_000_000)
    chunks = [
        _chunk(1, struct.pack(">B", family)),
        _chunk(2, struct.pack(">B", _TRANSPORTS.get(message.protocol.upper(), 17))),
        _chunk(source_chunk, _packed(source, version)),
        _chunk(target_chunk, _packed(target, version)),
        _chunk(7, struct.pack(">H", ends[0][1])),
        _chunk(8, struct.pack(">H", ends[1][1])),
        _chunk(9, struct.pack(">I", seconds)),
        _chunk(10, struct.pack(">I", microseconds)),
        _chunk(11, struct.pack(">B", SIP)),
        _chunk(12, struct.pack(">I", agent)),
        *([_chunk(14, key.encode())] if key else []),
        _chunk(17, call_id.encode("utf-8", "replace")[:1000]),
        _chunk(15, message.octets[:MAX_PAYLOAD]),
    ]
    body = b"".join(chunks)
    return b"HEP3" + struct.pack(">H", 6 + len(body)) + body


def _chunk(kind: int, value: bytes) -> bytes:
    return struct.pack(">HHH", 0, kind, 6 + len(value)) + value


def _address(end: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(end[0])
    except ValueError:  # a host name that we are known by
        return ipaddress.IPv4Address(0)


def _packed(address: ipaddress.IPv4Address | ipaddress.IPv6Address, version: int) -> bytes:
    if address.version == version:
        return address.packed
    return b"\0" * 10 + b"\xff\xff" + address.packed  # RFC 4291 §2.5.5.2
