"""The audio side of a far end whose signalling is sipp: hears G.711 µ-law, and speaks back to where it comes from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import numpy as np

from sipagent.codecs.g711 import ulaw_decode, ulaw_encode
from tests.support.audio import Pcm

HEADER = 12
PACKET = 160


class RtpEar(asyncio.DatagramProtocol):
    """One UDP socket on loopback; `port` belongs into the session description."""

    def __init__(self) -> None:
        self.port = 0
        self._heard: list[bytes] = []
        self._source: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        self._wire: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data[1] & 0x7F == 0:
            self._heard.append(data[HEADER:])
            if not self._source.done():
                self._source.set_result(addr)

    def heard(self) -> Pcm:
        """What came so far, at ±1."""
        payload = np.frombuffer(b"".join(self._heard), np.uint8)
        return ulaw_decode(payload).astype(np.float64) / 32768

    async def speak(self, pcm: Pcm) -> None:
        """Say it at its own pace, once somebody is heard."""
        source = await self._source
        loop, octets = asyncio.get_running_loop(), ulaw_encode((pcm * 32767).astype(np.int16))
        due = loop.time()
        for number in range(len(octets) // PACKET):
            payload = octets[number * PACKET : (number + 1) * PACKET].tobytes()
            head = b"\x80\x00" + number.to_bytes(2) + (number * PACKET).to_bytes(4) + b"\x00\x00\x00\x07"
            assert self._wire is not None
            self._wire.sendto(head + payload, source)
            due += 0.02
            await asyncio.sleep(due - loop.time())


@asynccontextmanager
async def rtp_ear() -> AsyncIterator[RtpEar]:
    """A socket that listens until the end of the block."""
    wire, ear = await asyncio.get_running_loop().create_datagram_endpoint(RtpEar, local_addr=("127.0.0.1", 0))
    try:
        yield ear
    finally:
        wire.close()
