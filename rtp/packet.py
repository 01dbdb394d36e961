"""RTP packets (RFC 3550 §5.1), parsed for a whole batch at once.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
|V=2|P|X|  CC   |M|     PT      |       sequence number         |
|                           timestamp                           |
|           synchronization source (SSRC) identifier            |
|            contributing sources (CSRC), CC of them            |
|  if X: profile, length in words, that many words (§5.3.1)     |
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

HEADER: Final = 12
MAX_PACKET: Final = 2048  # row length of a batch buffer; nothing longer than an Ethernet frame is RTP audio


@dataclass(frozen=True, slots=True)
class Batch:
    """Datagrams as they came: `data` u1[n, stride] (stride a multiple of 8), `length` i8[n], from rows `rows` [n]."""

    rows: NDArray[np.intp]
    data: NDArray[np.uint8]
    length: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.intp]) -> "Batch":
        """The packets at the indices `chosen`, copied."""
        return Batch(self.rows[chosen], self.data[chosen], self.length[chosen])


@dataclass(frozen=True, slots=True)
class Headers:
    """The fields of n packets, all arrays of shape (n,); where `valid` is False the others mean nothing."""

    valid: NDArray[np.bool_]
    marker: NDArray[np.bool_]
    payload_type: NDArray[np.int64]
    sequence: NDArray[np.int64]  # 0 … 65535
    timestamp: NDArray[np.int64]  # 0 … 2³² - 1
    ssrc: NDArray[np.uint32]
    payload_offset: NDArray[np.int64]  # octets from the start of the packet
    payload_length: NDArray[np.int64]  # without padding


def parse(data: NDArray[np.uint8], length: NDArray[np.int64]) -> Headers:
    """Headers of packets data u1[n, stride] with `length` i8[n] octets each; never raises, marks what is not RTP."""
    count, stride = data.shape
    everyone = np.arange(count)
    first = data[:, 0].astype(np.int64)
    second = data[:, 1].astype(np.int64)
    offset = HEADER + 4 * (first & 15)
    # §5.3.1: the extension's length field counts 32-bit words behind its own four octets.
    extended = (first & 0x10) != 0
    at = np.minimum(offset, stride - 4)
    words = (data[everyone, at + 2].astype(np.int64) << 8) | data[everyone, at + 3]
    valid = ((first >> 6) == 2) & (length >= offset + 4 * extended) & (length <= stride)
    offset = offset + np.where(extended, 4 + 4 * words, 0)
    last = data[everyone, np.clip(length, 1, stride) - 1].astype(np.int64)
    padded = (first & 0x20) != 0
    padding = np.where(padded, last, 0)
    payload_length = length - offset - padding
    valid &= (payload_length >= 0) & (~padded | (padding > 0))
    return Headers(
        valid=valid,
        marker=(second & 0x80) != 0,
        payload_type=second & 0x7F,
        sequence=_big_endian(data, 2, ">u2").astype(np.int64),
        timestamp=_big_endian(data, 4, ">u4").astype(np.int64),
        ssrc=_big_endian(data, 8, ">u4").astype(np.uint32),
        payload_offset=offset,
        payload_length=payload_length,
    )


def payloads(batch: Batch, headers: Headers, longest: int) -> NDArray[np.uint8]:
    """The payloads of all packets side by side, u1[n, longest]; what is behind a payload's end means nothing."""
    index = headers.payload_offset[:, None] + np.arange(longest)
    return np.take_along_axis(batch.data, np.minimum(index, batch.data.shape[1] - 1), axis=1)


def is_rtcp(data: NDArray[np.uint8], length: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which packets are RTCP on a shared port: the second octet is 192–223 (RFC 5761 §4)."""
    shaped: NDArray[np.bool_] = (length >= 8) & ((data[:, 0] >> 6) == 2)
    return shaped & (data[:, 1] >= 192) & (data[:, 1] <= 223)


def _big_endian(data: NDArray[np.uint8], offset: int, dtype: str) -> NDArray[np.unsignedinteger]:
    width = np.dtype(dtype).itemsize
    return np.ascontiguousarray(data[:, offset : offset + width]).view(dtype)[:, 0]
