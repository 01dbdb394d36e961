"""Mutation fuzzing of a running service: damaged SIP and SDP over real sockets, UDP and TCP.

    nice -n 19 python -m bench.fuzz_live --messages 1000000 --json

Every 300 messages the service must answer OPTIONS. At the end, when the last timers have run out, a good call must be
set up and heard, nothing may have been raised, no call, dialog or row may be left, no process may have been replaced,
and the service may hold at most a tenth more memory than after the first tenth of the messages. Exit status 1 when
that is not so. `bench.fuzz` does the same to the SIP stack alone, in virtual time, from a seed that repeats it all.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.caller import SDP, Caller
from bench.soak import figures, leaks
from tests.support.mutation import MESSAGES, mutate
from tests.support.service import Service, service

BATCH: Final = 300
TCP_SHARE: Final = 0.05  # of the batches
PATIENCE_S: Final = 60.0
TIMERS_S: Final = 45.0  # 64*T1 = 32 s until a call without ACK ends, and its row rests 5 s
MEMORY_SHARE: Final = 0.1
FULL: Final = 100_000  # messages after which the tables of calls that are over are full
KEPT_KB: Final = 50_000  # what they may take until then
CONFIG: Final = """
[[route]]
brain = "line_brains:Plain"
pipeline = "echo"
[limits]
max_calls = {calls}
[log]
level = "warning"
"""
CALLS: Final = 20
CALL_IDS: Final = 50
METHODS: Final = ("INVITE", "INVITE", "ACK", "BYE", "CANCEL", "UPDATE", "INFO", "PRACK", "REFER", "OPTIONS")
HEAD: Final = (
    "{method} sip:agent@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{branch}\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:fuzz@127.0.0.1>;tag={branch}\r\nTo: <sip:agent@127.0.0.1>{to_tag}\r\n"
    "Call-ID: {call_id}\r\nCSeq: {number} {method}\r\nContact: <sip:fuzz@127.0.0.1:{port}>\r\n"
)
ANSWER: Final = re.compile(rb"^SIP/2\.0 2.*?\r\nTo:[^\r]*(;tag=\w+).*?\r\nCall-ID: (fuzz\d+)\r\n", re.DOTALL)


async def fuzz(agent: Service, messages: int, seed: int, settle: bool = True) -> dict[str, Any]:
    """Send so many; what was found. Without `settle` what is left over is not waited for, nor judged."""
    rng, far_end = random.Random(seed), FarEnd(("127.0.0.1", agent.sip_port))
    begun, sent, tenth, problem = time.monotonic(), 0, None, ""
    while sent < messages and not problem:
        seeds = far_end.seeds(rng)
        batch = [mutate(rng.choice(seeds), rng) for _ in range(min(BATCH, messages - sent))]
        await (far_end.by_tcp if rng.random() < TCP_SHARE else far_end.by_udp)(batch)
        sent += len(batch)
        if not await far_end.is_answered():
            problem = f"no answer to OPTIONS after {sent} messages: {agent.log()[-1000:]}"
        if tenth is None and sent >= messages / 10:
            tenth = await _rest(agent, settle)
    far_end.close()
    last = await _rest(agent, settle)
    problem = problem or ("" if await _good_call(agent) else "no good call afterwards")
    if "Traceback" in (log := agent.log()):
        problem = problem or f"raised: {log[max(0, log.index('Traceback') - 500) :][:3000]}"
    if settle and tenth is not None and not problem:
        room_kb = MEMORY_SHARE * tenth["sipagent"]["rss_kb"] + (0 if messages >= FULL * 10 else KEPT_KB)
        problem = "; ".join(leaks(tenth, last, int(room_kb)))
    seconds = round(time.monotonic() - begun, 1)
    return {"messages": sent, "seconds": seconds, "after_a_tenth": tenth, "at_the_end": last, "problem": problem}


class FarEnd:
    """A UDP socket and TCP connections; it reads To tags out of answers, so that its requests meet their dialogs."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._line.bind(("127.0.0.1", 0))
        self._line.setblocking(False)
        self._port = self._line.getsockname()[1]
        self._tags: dict[str, str] = {}  # by Call-ID

    def close(self) -> None:
        """Close the socket."""
        self._line.close()

    async def by_udp(self, batch: list[bytes]) -> None:
        """A datagram each."""
        for data in batch:
            self._send(data[:60_000])

    async def by_tcp(self, batch: list[bytes]) -> None:
        """Ten messages on each connection, which the service may close at any byte."""
        for first in range(0, len(batch), 10):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*self._target)
                writer.write(b"".join(batch[first : first + 10]))
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def is_answered(self) -> bool:
        """Whether OPTIONS gets an answer; it is repeated, since the storm may have filled the buffers."""
        token = secrets.token_hex(8)
        ping = f"{self._head('OPTIONS', token, token, 1)}Content-Length: 0\r\n\r\n".encode()
        patience = time.monotonic() + PATIENCE_S
        while time.monotonic() < patience:
            self._send(ping)
            again = time.monotonic() + 0.5
            while time.monotonic() < again:
                try:
                    data = self._line.recv(65_536)
                except BlockingIOError:
                    await asyncio.sleep(0.002)
                    continue
                if token.encode() in data:
                    return True
                if found := ANSWER.search(data):
                    self._tags[found[2].decode()] = found[1].decode()
        return False

    def seeds(self, rng: random.Random) -> list[bytes]:
        """The torture messages, and as many requests of one of few calls."""
        call_id, number = f"fuzz{rng.randrange(CALL_IDS)}", rng.randrange(1, 4)
        body, own = SDP.format(host="127.0.0.1", rtp=40_000), []
        for method in METHODS:
            described = method in ("INVITE", "UPDATE")
            kind = "Content-Type: application/sdp\r\n" if described else ""
            head = self._head(method, f"{call_id}x{number}", call_id, number)
            own.append(f"{head}{kind}Content-Length: {len(body) * described}\r\n\r\n{body * described}".encode())
        return [*MESSAGES, *own * 5]

    def _head(self, method: str, branch: str, call_id: str, number: int) -> str:
        tag = self._tags.get(call_id, "") if method != "CANCEL" else ""
        return HEAD.format(method=method, port=self._port, branch=branch, to_tag=tag, call_id=call_id, number=number)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # the buffer is full
            self._line.sendto(data, self._target)


async def _rest(agent: Service, settle: bool) -> dict[str, Any]:
    if settle:
        await asyncio.sleep(TIMERS_S)
    return await figures(agent)


async def _good_call(agent: Service) -> bool:
    caller = Caller("127.0.0.1", f"127.0.0.1:{agent.sip_port}")
    await caller.open()
    outcome = await caller.call(1.0)
    caller.close()
    return outcome.status == outcome.bye_status == 200 and outcome.packets > 10 and outcome.broken == 0


async def measure(messages: int, seed: int) -> dict[str, Any]:
    """A service of its own, and the storm on it."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        async with service(Path(folder), CONFIG.format(calls=CALLS), 4 * CALLS, start_seconds=300) as agent:
            return await fuzz(agent, messages, seed)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {"benchmark": "fuzz_live", "cores": os.cpu_count(), **asyncio.run(measure(options.messages, options.seed))}
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    sys.exit(bool(result["problem"]))


if __name__ == "__main__":
    main()
