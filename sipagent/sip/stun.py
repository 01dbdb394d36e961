"""STUN binding requests and responses (RFC 8489), as far as it takes to learn our public address.

 0                   1                   2                   3
|0 0|  message type (14)  |        length, of what follows     |
|                  magic cookie 0x2112A442                     |
|                  transaction id (96 bits)                    |
|  attributes: type (16), length (16), value, padding to 32 …  |
"""

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from sipagent.errors import ParseError

_COOKIE: Final = 0x2112A442
_HEADER: Final = struct.Struct("!HHI12s")
_MAX_BYTES: Final = 1500
_REQUEST: Final = 0x0001
_SUCCESS: Final = 0x0101
_ERROR: Final = 0x0111
_MAPPED_ADDRESS: Final = 0x0001
_ERROR_CODE: Final = 0x0009
_XOR_MAPPED_ADDRESS: Final = 0x0020
_COMPREHENSION_OPTIONAL: Final = 0x8000


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """Asks how the server sees us; the answer is found by its transaction id of 12 random bytes."""

    transaction_id: bytes


@dataclass(frozen=True, slots=True)
class BindingResponse:
    """`address` and `port` as the server saw them, or `error` (300–699) with neither."""

    transaction_id: bytes
    address: str = ""
    port: int = 0
    error: int = 0


def is_stun(data: bytes) -> bool:
    """Whether a datagram is STUN rather than SIP or RTP: two zero bits and the cookie (RFC 8489 §5)."""
    return len(data) >= _HEADER.size and data[0] < 4 and data[4:8] == _COOKIE.to_bytes(4, "big")


def encode_request(request: BindingRequest) -> bytes:
    """The datagram; raises ValueError unless the transaction id has 12 bytes."""
    return _message(_REQUEST, request.transaction_id, b"")


def encode_response(response: BindingResponse) -> bytes:
    """The datagram of a success or an error response."""
    transaction_id = response.transaction_id
    if response.error:
        value = struct.pack("!HBB", 0, response.error // 100, response.error % 100)
        return _message(_ERROR, transaction_id, _attribute(_ERROR_CODE, value))
    value = _xor(_pack_address(response.address, response.port), transaction_id)
    return _message(_SUCCESS, transaction_id, _attribute(_XOR_MAPPED_ADDRESS, value))


def decode(data: bytes) -> BindingRequest | BindingResponse:
    """Read a binding message; raises ParseError for all else, also when it demands what we do not understand."""
    if not is_stun(data) or len(data) > _MAX_BYTES:
        raise ParseError("a STUN header")
    kind, length, _, transaction_id = _HEADER.unpack_from(data)
    if length != len(data) - _HEADER.size or length % 4:
        raise ParseError("the STUN length", 2)
    attributes = _attributes(data)
    known = {_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS, _ERROR_CODE}
    # RFC 8489 §5: 0x0006 … are credentials and integrity, which a server may add and which we did not ask for.
    if any(
        name < _COMPREHENSION_OPTIONAL and name not in known and not 0x0006 <= name <= 0x001E for name in attributes
    ):
        raise ParseError("only known STUN attributes", _HEADER.size)
    if kind == _REQUEST:
        return BindingRequest(transaction_id)
    if kind == _ERROR:
        value = attributes.get(_ERROR_CODE, b"")
        code = (value[2] & 7) * 100 + value[3] if len(value) >= 4 else 0
        return BindingResponse(transaction_id, error=code if 300 <= code < 700 else 500)
    if kind != _SUCCESS:
        raise ParseError("a binding message")
    if _XOR_MAPPED_ADDRESS in attributes:
        return BindingResponse(transaction_id, *_unpack_address(_xor(attributes[_XOR_MAPPED_ADDRESS], transaction_id)))
    if _MAPPED_ADDRESS in attributes:  # servers of RFC 3489
        return BindingResponse(transaction_id, *_unpack_address(attributes[_MAPPED_ADDRESS]))
    raise ParseError("a mapped address", _HEADER.size)


def _message(kind: int, transaction_id: bytes, attributes: bytes) -> bytes:
    if len(transaction_id) != 12:
        raise ValueError("a STUN transaction id has 12 bytes")
    return _HEADER.pack(kind, len(attributes), _COOKIE, transaction_id) + attributes


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    """First value of each attribute."""
    found: dict[int, bytes] = {}
    offset = _HEADER.size
    while offset < len(data):
        name, length = struct.unpack_from("!HH", data, offset)
        value = data[offset + 4 : offset + 4 + length]
        if len(value) != length:
            raise ParseError("a whole STUN attribute", offset)
        found.setdefault(name, value)
        offset += 4 + length + -length % 4
    return found


def _xor(value: bytes, transaction_id: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS to or from that of MAPPED-ADDRESS (§14.2): port and address are masked."""
    mask = bytes(2) + _COOKIE.to_bytes(4, "big")[:2] + _COOKIE.to_bytes(4, "big") + transaction_id
    return bytes(a ^ b for a, b in zip(value, mask, strict=False))


def _pack_address(address: str, port: int) -> bytes:
    parsed = ipaddress.ip_address(address)
    return struct.pack("!BBH", 0, 1 if parsed.version == 4 else 2, port) + parsed.packed


def _unpack_address(value: bytes) -> tuple[str, int]:
    size = {1: 8, 2: 20}.get(value[1] if len(value) > 1 else 0)
    if size != len(value):
        raise ParseError("an address of 4 or 16 bytes")
    return str(ipaddress.ip_address(value[4:])), int.from_bytes(value[2:4], "big")
