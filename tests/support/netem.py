"""Two network namespaces and a bad line between them, made of two TUN devices and one process that moves packets.

    async with bad_line() as line:
        await line.set(loss=0.05, jitter_ms=10)
        …  line.near, line.far: names of the namespaces; NEAR, FAR: their addresses

What is asked for happens to RTP (UDP to an even port from FIRST_PORT on) on its way from far to near; a cut stops all
packets in both directions. Every decision comes from one seeded generator, and every one is counted. The kernel's own
netem is not there on every machine; this needs root and /dev/net/tun only.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

NEAR: Final = "198.18.0.1"
FAR: Final = "198.18.0.2"
FIRST_PORT: Final = 10_000
CLONE_NEWNET: Final = 0x40000000
TUNSETIFF: Final = 0x400454CA
IFF_TUN_NO_PI: Final = 0x1001
UDP: Final = 17


@dataclass(frozen=True, slots=True)
class Impairment:
    """What the line does; probabilities by packet.

    `bursts` is the model of Gilbert and Elliott: the probabilities to enter and to leave the bad state, in which
    every packet is lost. Jitter is normally distributed, and packets may overtake each other by it.
    """

    loss: float = 0.0
    bursts: tuple[float, float] = (0.0, 1.0)
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 60.0
    duplicate: float = 0.0
    cut: bool = False


class Direction:
    """Decides about each packet of one direction."""

    def __init__(self, out: int, seed: int) -> None:
        self.out = out
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._bad = False

    def delays_ms(self, rtp: bool, line: Impairment) -> list[float]:
        """After which times copies of this packet come out; [] = it is lost."""
        if line.cut:
            self.counts["cut"] += rtp
            return []
        if not rtp:
            return [0.0]
        self.counts["sent"] += 1
        draw = self._random.random
        enter, leave = line.bursts
        self._bad = draw() >= leave if self._bad else draw() < enter
        if self._bad or draw() < line.loss:
            self.counts["lost"] += 1
            return []
        delay = max(0.0, line.delay_ms + self._random.gauss(0, line.jitter_ms))
        if draw() < line.reorder:
            delay += line.reorder_ms
            self.counts["held_back"] += 1
        if draw() < line.duplicate:
            self.counts["duplicated"] += 1
            return [delay, delay]
        return [delay]


def move(near: str, far: str, seed: int) -> None:
    """Move packets until standard input ends; each line of it is a JSON Impairment, answered by the counts so far."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    near_fd, far_fd = _tunnel(near, NEAR, FAR), _tunnel(far, FAR, NEAR)
    _enter(home)
    inward, outward = Direction(near_fd, seed), Direction(far_fd, seed + 1)
    directions = {far_fd: inward, near_fd: outward}
    line, waiting, number = Impairment(), list[tuple[float, int, int, bytes]](), itertools.count()
    poll = select.poll()
    for fd in (near_fd, far_fd, 0):
        poll.register(fd, select.POLLIN)
    print("ready", flush=True)
    while True:
        pause_ms = max(0.0, waiting[0][0] - time.monotonic()) * 1000 if waiting else 1000
        for fd, _ in poll.poll(pause_ms):
            if fd == 0:
                text = sys.stdin.readline()
                if not text:
                    return
                line = Impairment(**json.loads(text))
                print(json.dumps(inward.counts), flush=True)
                continue
            direction = directions[fd]
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = os.read(fd, 65536)
                    rtp = _is_rtp(data)
                    # Outward the line is perfect, unless it is cut.
                    harm = line if direction is inward or line.cut else Impairment()
                    for delay_ms in direction.delays_ms(rtp, harm):
                        due = time.monotonic() + delay_ms / 1000
                        heapq.heappush(waiting, (due, next(number), direction.out, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, data = heapq.heappop(waiting)
            with contextlib.suppress(OSError):
                os.write(out, data)


def _is_rtp(data: bytes) -> bool:
    if len(data) < 28 or data[0] >> 4 != 4 or data[9] != UDP:
        return False
    header = (data[0] & 15) * 4
    port = int.from_bytes(data[header + 2 : header + 4], "big")
    return port >= FIRST_PORT and port % 2 == 0


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _tunnel(namespace: str, address: str, peer: str) -> int:
    with open(f"/run/netns/{namespace}") as file:  # noqa: PTH123 - a descriptor is wanted
        _enter(file.fileno())
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22s", b"line", IFF_TUN_NO_PI, b""))
    for command in (f"ip addr add {address} peer {peer} dev line", "ip link set line up", "ip link set lo up"):
        subprocess.run(command.split(), check=True)
    return fd


class BadLine:
    """The line while a test runs; `set` changes it and returns what has happened to RTP towards us so far."""

    def __init__(self, near: str, far: str, process: asyncio.subprocess.Process) -> None:
        self.near, self.far = near, far
        self._process = process
        self._line = Impairment()

    def link(self, state: str) -> None:
        """Our end of the cable: "down" or "up"."""
        subprocess.run(["ip", "-n", self.near, "link", "set", "line", state], check=True)

    async def set(self, **changes: Any) -> dict[str, int]:
        """Change what is named and leave the rest; counts by sent, lost, held_back, duplicated, cut."""
        self._line = replace(self._line, **changes)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        names = Impairment.__slots__
        stdin.write(json.dumps({name: getattr(self._line, name) for name in names}).encode() + b"\n")
        await stdin.drain()
        counts = json.loads(await stdout.readline())
        return {name: counts.get(name, 0) for name in ("sent", "lost", "held_back", "duplicated", "cut")}


@contextlib.asynccontextmanager
async def bad_line(seed: int = 1) -> AsyncIterator[BadLine]:
    """Both namespaces and a line that is perfect yet; skips where they cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None or not Path("/dev/net/tun").exists():
        pytest.skip("needs iproute2 and /dev/net/tun")
    near, far = f"near-{os.getpid()}", f"far-{os.getpid()}"
    for name in (near, far):
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.netem", near, far, str(seed)),
            cwd=Path(__file__).parents[2],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None
        if await process.stdout.readline() != b"ready\n":
            pytest.skip("no TUN device can be made in a network namespace here")
        yield BadLine(near, far, process)
        process.stdin.close()
        await process.wait()
    finally:
        for name in (near, far):
            subprocess.run(["ip", "netns", "del", name], check=False)


def within(namespace: str) -> tuple[str, ...]:
    """How a command begins that is to run in a namespace; () for that of the tests."""
    return ("ip", "netns", "exec", namespace) if namespace else ()


def connect_within(namespace: str, address: tuple[str, int]) -> socket.socket:
    """A TCP connection that was made in another namespace; OSError as usual."""
    made: list[socket.socket | OSError] = []

    def run() -> None:  # in a thread of its own, which ends there
        try:
            with open(f"/run/netns/{namespace}") as file:  # noqa: PTH123
                _enter(file.fileno())
            made.append(socket.create_connection(address, timeout=5))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    result.setblocking(False)
    return result


if __name__ == "__main__":
    move(sys.argv[1], sys.argv[2], int(sys.argv[3]))
