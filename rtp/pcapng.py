"""Packet captures: blocks of a pcapng file (draft-ietf-opsawg-pcapng), and UDP datagrams in IP headers that we make.

Packets are raw IP (LINKTYPE_RAW): there is no Ethernet to invent. Times are nanoseconds since 1970.
"""

import ipaddress
import struct
from functools import lru_cache
from typing import Final

Address = tuple[str, int]

SUFFIX: Final = ".pcapng"
LINKTYPE_RAW: Final = 101
PROTOCOL_UDP: Final = 17
MAX_PAYLOAD: Final = 65_000  # octets of a datagram; nothing that we carry is longer
_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER: Final = 0x1A2B3C4D
_COMMENT, _APPLICATION, _RESOLUTION, _DROPPED = 1, 4, 9, 5  # options of the blocks above
_NANOSECONDS: Final = b"\x09"


def preamble(application: str, comment: str) -> bytes:
    """The beginning of a file: one section with one interface."""
    options = _option(_COMMENT, comment.encode()) + _option(_APPLICATION, application.encode())
    section = _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + options + _option(0, b""))
    resolution = _option(_RESOLUTION, _NANOSECONDS) + _option(0, b"")
    return section + _block(_INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, 0) + resolution)


def packet(at_ns: int, data: bytes) -> bytes:
    """One packet (enhanced packet block), whole."""
    high, low = at_ns >> 32, at_ns & 0xFFFFFFFF
    return _block(_PACKET, struct.pack("<IIIII", 0, high, low, len(data), len(data)) + _padded(data))


def statistics(at_ns: int, dropped: int) -> bytes:
    """The end of a file: how many packets are missing in it."""
    high, low = at_ns >> 32, at_ns & 0xFFFFFFFF
    options = _option(_DROPPED, struct.pack("<Q", dropped)) + _option(0, b"")
    return _block(_STATISTICS, struct.pack("<III", 0, high, low) + options)


def datagram(source: Address, target: Address, payload: bytes) -> bytes:
    """A UDP datagram in an IPv4 or IPv6 packet; an address that is none becomes the unspecified one."""
    payload = payload[:MAX_PAYLOAD]
    sender, receiver = _packed(source[0]), _packed(target[0])
    length = 8 + len(payload)
    ports = struct.pack(">HHH", source[1], target[1], length)
    if len(sender) == len(receiver) == 4:
        # RFC 768: a checksum of 0 means that there is none.
        head = struct.pack(">BBHIBBH4s4s", 0x45, 0, 20 + length, 0, 64, PROTOCOL_UDP, 0, sender, receiver)
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
        return head + ports + b"\0\0" + payload
    sender, receiver = _as_ipv6(sender), _as_ipv6(receiver)
    # RFC 8200 §8.1: over IPv6 the checksum is not optional.
    pseudo = sender + receiver + struct.pack(">II", length, PROTOCOL_UDP)
    sum_ = checksum(pseudo + ports + payload) or 0xFFFF
    head = struct.pack(">IHBB", 0x60000000, length, PROTOCOL_UDP, 64) + sender + receiver
    return head + ports + struct.pack(">H", sum_) + payload


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total ^ 0xFFFF


@lru_cache(maxsize=1024)
def _packed(host: str) -> bytes:
    try:
        return ipaddress.ip_address(host).packed
    except ValueError:
        return bytes(4)


def _as_ipv6(address: bytes) -> bytes:
    return address if len(address) == 16 else b"\0" * 10 + b"\xff\xff" + address


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
