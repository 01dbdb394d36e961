"""What happens at the limit, and in a flood: the calls that were accepted must not notice.

    python -m bench.overload --json
    python -m bench.overload --max-calls 50 --seconds 60 --flood 1000     the full form

First twice `max_calls` are offered: what is over the limit must get 503 at once, what is accepted must be perfect. Then
a stranger at 127.0.0.66 sends INVITEs while the trunk at 127.0.0.1 places calls. Exit status 1 when that is not so.
"""

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.caller import Caller, Outcome
from bench.loadgen import cpu_ns
from tests.support.service import Service, service

REFUSED_MS: Final = 100.0
HEARD: Final = 0.98  # of the packets that are due, as the caller's clock has it
STRANGER: Final = "127.0.0.66"
CONFIG: Final = """
[[trunk]]
name = "carrier"
server = "sip:127.0.0.1:9"
register = false
[[route]]
brain = "line_brains:Plain"
pipeline = "echo"
[limits]
max_calls = {calls}
"""


async def overload(agent: Service, calls: int, seconds: float, gap_s: float = 0.02) -> dict[str, Any]:
    """Offer twice `calls`, one each `gap_s`; all last until the last one has been offered and `seconds` more."""
    caller = Caller("127.0.0.1", f"127.0.0.1:{agent.sip_port}")
    await caller.open()
    lasting = 2 * calls * gap_s + seconds
    under_way = []
    for _ in range(2 * calls):
        under_way.append(asyncio.create_task(caller.call(lasting)))
        await asyncio.sleep(gap_s)
    outcomes = await asyncio.gather(*under_way)
    caller.close()
    refused = [outcome for outcome in outcomes if outcome.status == 503]
    return {"offered": len(outcomes), "refused": len(refused), "refused_ms": _times(refused), **_accepted(outcomes)}


async def flood(agent: Service, rate: int, calls: int, seconds: float) -> dict[str, Any]:
    """`rate` INVITEs a second from a stranger, and `calls` of the trunk spread over `seconds`."""
    trunk, stranger = (Caller(host, f"127.0.0.1:{agent.sip_port}") for host in ("127.0.0.1", STRANGER))
    await trunk.open()
    await stranger.open()
    sent = 0

    async def send() -> None:
        nonlocal sent
        begun = time.monotonic()
        while True:
            for _ in range(int((time.monotonic() - begun) * rate) - sent):
                stranger.invite(secrets.token_hex(8), 9)
                sent += 1
            await asyncio.sleep(0.005)

    begun, cpu = time.monotonic(), cpu_ns(agent.process.pid)
    sending = asyncio.create_task(send())
    under_way = []
    for _ in range(calls):
        under_way.append(asyncio.create_task(trunk.call(1.0)))
        await asyncio.sleep(seconds / calls)
    outcomes = await asyncio.gather(*under_way)
    sending.cancel()
    core = (cpu_ns(agent.process.pid) - cpu) / 1e9 / (time.monotonic() - begun)
    trunk.close()
    stranger.close()
    metrics = (await agent.http.get("/metrics")).text
    dropped = sum(
        float(line.split()[-1]) for line in metrics.splitlines() if 'sipagent_sip_total{event="guard_' in line
    )
    return {"invites_of_strangers": sent, "dropped": int(dropped), "signalling_core": round(core, 3)} | _accepted(
        outcomes
    )


def _accepted(outcomes: list[Outcome]) -> dict[str, Any]:
    accepted = [outcome for outcome in outcomes if outcome.status == 200]
    return {
        "accepted": len(accepted),
        "unanswered": sum(outcome.status == 0 for outcome in outcomes),
        "accepted_ms": _times(accepted),
        "packets": sum(outcome.packets for outcome in accepted),
        "packets_due": round(sum(outcome.listened_s * 50 + 1 for outcome in accepted)),
        "packets_out_of_step": sum(outcome.broken for outcome in accepted),
        "bye_answered": sum(outcome.bye_status == 200 for outcome in accepted),
    }


def _times(outcomes: list[Outcome]) -> dict[str, float]:
    ordered = sorted(outcome.seconds * 1000 for outcome in outcomes)
    parts = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[int(part * (len(ordered) - 1))], 1) for name, part in parts.items()} if ordered else {}


async def measure(calls: int, seconds: float, rate: int) -> dict[str, Any]:
    """Both, on one service."""
    os.environ["SIPAGENT__SIP__ACCEPT_UNKNOWN_SOURCES"] = "false"
    os.environ["SIPAGENT__MEDIA__RTP_TIMEOUT_SECONDS"] = "3600"  # our callers listen and say nothing
    with tempfile.TemporaryDirectory(prefix="overload") as folder:
        async with service(Path(folder), CONFIG.format(calls=calls), ports=4 * calls + 40) as agent:
            limit = await overload(agent, calls, seconds)
            await asyncio.sleep(6)  # rows rest for 5 s after a call
            return {"limit": limit, "flood": await flood(agent, rate, max(10, int(2 * seconds)), seconds)}


def problems(limit: dict[str, Any], flood: dict[str, Any], calls: int) -> list[str]:
    """What was not as it must be."""
    found = []
    if (limit["accepted"], limit["refused"]) != (calls, calls):
        found.append(f"{limit['accepted']} accepted and {limit['refused']} refused with 503, not {calls} of each")
    if limit["refused_ms"] and limit["refused_ms"]["p99"] > REFUSED_MS:
        found.append(f"the 503 took {limit['refused_ms']['p99']} ms")
    if flood["unanswered"]:
        found.append(f"{flood['unanswered']} calls of the trunk were not set up in the flood")
    for name, part in (("limit", limit), ("flood", flood)):
        if part["packets_out_of_step"] or part["packets"] < HEARD * part["packets_due"]:
            lost = f"{part['packets']} of {part['packets_due']} packets, {part['packets_out_of_step']} out of step"
            found.append(f"{name}: accepted calls heard {lost}")
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--max-calls", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--flood", type=int, default=1000, help="INVITEs a second from the stranger")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = asyncio.run(measure(options.max_calls, options.seconds, options.flood))
    found = problems(result["limit"], result["flood"], options.max_calls)
    if options.json:
        print(json.dumps({"benchmark": "overload", "cores": os.cpu_count(), **result, "problems": found}))
    else:
        for part, figures in result.items():
            print(part)
            for name, value in figures.items():
                print(f"  {name:>22} {value}")
        print("problems:", *(found or ["none"]), sep="\n  ")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
