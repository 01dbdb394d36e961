"""rtpengine 10.5 (Debian) without its kernel module: the media proxy that stands beside many a trunk's Kamailio."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ports import free_port

PORTS = 40  # four for each call, and some rest


@dataclass(frozen=True)
class Rtpengine:
    """A running one: `control` is "host:port" of its ng protocol."""

    control: str
    rtp_ports: range


@asynccontextmanager
async def rtpengine(folder: Path) -> AsyncIterator[Rtpengine]:
    """Start one on 127.0.0.1; skips the test when it is not installed."""
    if shutil.which("rtpengine") is None:
        pytest.skip("rtpengine is not installed (apt-get install rtpengine-daemon)")
    folder.mkdir(parents=True, exist_ok=True)
    control, first = free_port(), free_port(count=PORTS)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--table=-1", "--interface=127.0.0.1",
            f"--listen-ng=127.0.0.1:{control}", f"--port-min={first}", f"--port-max={first + PORTS - 1}",
            "--num-threads=2", f"--pidfile={folder / 'pid'}", stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await _answers(control)
        yield Rtpengine(f"127.0.0.1:{control}", range(first, first + PORTS))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def _answers(port: int, seconds: float = 20.0) -> None:
    """Wait until it answers ping (its control protocol: a cookie and a bencoded dictionary)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(OSError):
                    probe.sendto(b"c d7:command4:pinge", ("127.0.0.1", port))
                await asyncio.sleep(0.05)
                with contextlib.suppress(OSError):
                    if b"pong" in probe.recv(2000):
                        return
