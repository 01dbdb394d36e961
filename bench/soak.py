"""Many short calls through one service: what is held after the last call is what was held before the first.

    python -m bench.soak --json
    python -m bench.soak --calls 10000 --rate 20

sipp calls, hears the echo of its own echo for a while, and hangs up. A first batch fills what is kept on purpose (the
last 1000 calls, caches, every row's memory); then memory, descriptors, ports, rows and dialogs are read before and
after the rest. `tests/calls/test_growth.py` is the short form: it sees a leak of a kilobyte a call.
"""

import argparse
import asyncio
import contextlib
import csv
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.scenario import Pause, ack, bye, caller, invite, recv
from tests.support.service import Service, service
from tests.support.sipp import sipp

CONFIG: Final = """
[[route]]
brain = "line_brains:Plain"
pipeline = "echo"
[limits]
max_calls = {calls}
"""
TALK_S: Final = 1.0
REST_S: Final = 8.0  # rows rest for 5 s after a call
TRANSACTIONS_S: Final = 40.0  # 64*T1 = 32 s until SIP has forgotten one: before that the memory tells of the rate
FULL: Final = 1500  # calls after which everything that is kept on purpose is full: the last 1000, caches, every row
GROWTH_KB: Final = 12_000  # holes in the heap, which come to an end after some 8,000 calls
BLOCKS_PER_CALL: Final = 0.2  # of memory that Python uses: what every fifth call leaves behind is found
BLOCKS: Final = "sipagent_python_blocks"
METRICS: Final = ("sipagent_calls", "sipagent_dialogs", "sipagent_rows", "sipagent_rows_free", "sipagent_orphans")


async def soak(calls: int, rate: float, warm_up: int, rest_s: float = REST_S) -> dict[str, Any]:
    """Run `calls` calls after `warm_up` others; figures before and after, what grew, and how many calls failed."""
    at_once = int(rate * (TALK_S + 2)) + 10
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        ports = 4 * at_once + 4 * int(rate * REST_S)
        async with service(Path(folder), CONFIG.format(calls=at_once + int(rate * REST_S) // 2), ports=ports) as agent:
            failed = await _run(agent, warm_up, rate)
            await asyncio.sleep(rest_s)
            before = await figures(agent)
            failed += await _run(agent, calls, rate)
            await asyncio.sleep(rest_s)
            after = await figures(agent)
    grown = {
        name: value["rss_kb"] - before[name]["rss_kb"]
        for name, value in after.items()
        if isinstance(value, dict) and name in before
    }
    return {
        "calls": calls, "warm_up": warm_up, "failed_calls": failed, "before": before, "after": after, "grown_kb": grown
    }  # fmt: skip


async def figures(agent: Service) -> dict[str, Any]:
    """What every process holds, by its name, and what call control says."""
    held = await asyncio.to_thread(_processes, agent) | await metrics_of(agent)
    return held | await metrics_of(agent, (BLOCKS,))


async def metrics_of(agent: Service, names: tuple[str, ...] = METRICS) -> dict[str, float]:
    """What call control says that it holds, by name."""
    metrics = (await agent.http.get("/metrics")).text
    values = {name: re.findall(rf"(?m)^{name}(?:_total)?(?:{{[^}}]*}})? ([0-9.e+]+)$", metrics) for name in names}
    return {name: sum(map(float, found)) for name, found in values.items()}


def _processes(agent: Service) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for pid in _family(agent.process.pid):
        name = "sipagent" if pid == agent.process.pid else _status(pid, "Name")
        links = list(_descriptors(pid))
        held[name] = {
            "rss_kb": int(_status(pid, "RssAnon").split()[0]),
            "fds": len(links),
            "sockets": sum(link.startswith("socket:") for link in links),  # of the media plane: its ports
        }
    return held


def _descriptors(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield str(link.readlink())


def leaks(before: dict[str, Any], after: dict[str, Any], rss_kb: int, blocks: float = math.inf) -> list[str]:
    """What has grown: a process by more than `rss_kb`, what Python uses by more than `blocks`, all else at all."""
    found = []
    for name, value in after.items():
        if name == BLOCKS:
            if value > before[name] + blocks:
                found.append(f"{name}: {before[name]:.0f} before, {value:.0f} after")
        elif not isinstance(value, dict):
            if value != before.get(name):
                found.append(f"{name}: {before.get(name)} before, {value} after")
        elif name not in before:
            found.append(f"{name} was not there before")
        else:
            if value["fds"] > before[name]["fds"]:
                found.append(f"{name}: {before[name]['fds']} descriptors before, {value['fds']} after")
            if value["rss_kb"] > before[name]["rss_kb"] + rss_kb:
                found.append(f"{name}: {before[name]['rss_kb']} kB before, {value['rss_kb']} kB after")
    return found


async def _run(agent: Service, calls: int, rate: float) -> int:
    """The calls of this batch that did not go as planned."""
    talk = caller(
        invite(), recv(100, optional=True), recv(180, optional=True), recv(200), ack(), Pause(int(TALK_S * 1000)),
        bye(), recv(200),
    )  # fmt: skip
    limit_s = calls / rate * 2 + 60
    async with sipp(
        talk, f"127.0.0.1:{agent.sip_port}", port=free_port(count=2), calls=calls, rate=rate, limit_s=limit_s,
        extra=("-rtp_echo", "-trace_stat", "-stf", "calls.csv"),
    ) as far_end:  # fmt: skip
        status = await far_end.finished(limit_s + 10)
        if status:
            print(far_end.errors()[-2000:], file=sys.stderr)
        with (far_end.folder / "calls.csv").open(newline="") as file:
            *_, last = csv.DictReader(file, delimiter=";")
    return calls - int(last["SuccessfulCall(C)"])


def _family(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(each for child in children for each in _family(child))]


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:")), "0")


def main() -> None:
    """Command line; the exit status is 1 when something has leaked or a call has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rate", type=float, default=10.0, help="new calls a second")
    parser.add_argument("--warm-up", type=int, default=0, help="calls before the first look; 0 = 1500, or as many")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warm_up = options.warm_up or min(FULL, options.calls)
    result = asyncio.run(soak(options.calls, options.rate, warm_up, TRANSACTIONS_S))
    # Until what is kept on purpose is full, each new call may take what one call leaves behind.
    full = warm_up >= FULL
    result["leaks"] = leaks(
        result["before"],
        result["after"],
        GROWTH_KB if full else 20 * options.calls,
        BLOCKS_PER_CALL * options.calls if full else math.inf,
    )
    if options.json:
        print(json.dumps({"benchmark": "soak", "cores": os.cpu_count(), **result}))
    else:
        print(f"{result['calls']} calls after {result['warm_up']}, failed: {result['failed_calls']}")
        for name, value in result["after"].items():
            print(f"{name:>22}  {result['before'].get(name)}  →  {value}")
        print("grown:", *(f"{name} {kb / 1000:+.1f} MB" for name, kb in result["grown_kb"].items()))
        print("leaks:", *(result["leaks"] or ["none"]), sep="\n  ")
    sys.exit(bool(result["leaks"] or result["failed_calls"]))


if __name__ == "__main__":
    main()
