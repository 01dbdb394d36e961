"""Everything at once: calls of all kinds while processes die and stop, and what the service holds afterwards.

    python -m bench.misfortune [--seconds 60] [--seed 0] [--json]

Callers talk, hold, press keys, cancel, vanish, and hang up at any moment. Who has the HTTP endpoint places calls,
holds, transfers, captures and hangs up. Meanwhile media planes, ears and workers are killed, they and signalling are
stopped for moments, and the configuration is read again. The exit status is 1 when any of all that is left behind, a
request is answered as an error of ours, a record has no end, a recording cannot be read, something was raised, or the
next caller is not answered and heard.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import soundfile

from bench import harm
from bench.soak import metrics_of
from tests.support.ports import free_port
from tests.support.scenario import (
    SDP,
    Pause,
    Request,
    ack,
    bye,
    callee,
    caller,
    cancel,
    invite,
    recv,
    reinvite,
    reply,
)
from tests.support.service import Service, service, workers_ready
from tests.support.sipp import sipp

PORTS: Final = 240
CONFIG: Final = """
[[trunk]]
name = "office"
server = "sip:127.0.0.1:{port}"
register = false
[conversation]
workers = 2
[[route]]
brain = "line_brains:Plain"
pipeline = "echo"
record = "wav"
[limits]
max_calls = 40
allow_hosts = ["127.0.0.1"]
place_per_minute = 0
"""
MEDIA: Final = """
planes = 2
rtp_timeout_seconds = 8
"""
HELD: Final = SDP.format(version=2) + "a=sendonly\n"
BACK: Final = SDP.format(version=3) + "a=sendrecv\n"
KEY: Final = Request("INFO", 4, body="Signal=5\nDuration=160\n", content_type="application/dtmf-relay")
ANSWERED: Final = (recv(100, optional=True), recv(180, optional=True), recv(200))
TALKS: Final = caller(invite(), *ANSWERED, ack(), Pause(1500), bye(), recv(200))
CALLERS: Final = (  # with new calls a second
    (TALKS, 4.0),
    (
        caller(
            invite(), *ANSWERED, ack(), Pause(200), reinvite(2, HELD), *ANSWERED, ack(2), Pause(300),
            reinvite(3, BACK), *ANSWERED, ack(3), Pause(300), KEY, recv(200), bye(5), recv(200),
        ),
        2.0,
    ),
    (caller(invite(), recv(100, optional=True), cancel(), recv(200), ack(), bye(2), recv(200)), 1.0),
    (caller(invite(), *ANSWERED, ack()), 0.3),
)  # fmt: skip
COLLEAGUE: Final = callee(
    recv("INVITE"), reply(180), Pause(100), reply(200, body=SDP.format(version=1)), recv("ACK"),
    recv("BYE", timeout_ms=60_000), reply(200),
)  # fmt: skip
STEERING_S: Final = 0.05
HARM_S: Final = 2.0
SETTLE_S: Final = 45.0  # the RTP time limit, and 64*T1 until SIP has forgotten a call


async def misfortune(seconds: float, seed: int, every_s: float = HARM_S) -> dict[str, Any]:
    """What happened, how often, and what was wrong then or afterwards; a process is harmed every `every_s`."""
    chance = random.Random(seed)
    happened: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="misfortune") as folder:
        async with _colleague() as port, service(Path(folder), CONFIG.format(port=port), PORTS, media=MEDIA) as agent:
            await workers_ready(agent)
            before = await metrics_of(agent)
            target = f"sip:colleague@127.0.0.1:{port}"
            async with asyncio.TaskGroup() as group:
                for scenario, rate in CALLERS:
                    group.create_task(_call(agent, scenario, rate, seconds))
                until = asyncio.get_running_loop().time() + seconds
                group.create_task(_repeat(until, STEERING_S, lambda: _steer(agent, target, chance, happened)))
                group.create_task(_repeat(until, every_s, lambda: harm.do(agent, chance, happened)))
            wrong = await _settle(agent, before) + await _next_caller(agent)
            wrong += [f"logged: {line[:300]}" for line in agent.log().splitlines() if "Traceback" in line]
        wrong += _records(Path(folder) / "records", happened)
    wrong += [f"HTTP answered {answer}" for answer in happened if answer.endswith(" 500")]
    return {"seconds": seconds, "seed": seed, "happened": dict(sorted(happened.items())), "wrong": wrong}


async def _repeat(until: float, every_s: float, what: Callable[[], Awaitable[None]]) -> None:
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(every_s)
        await what()


async def _call(agent: Service, scenario: str, rate: float, seconds: float) -> None:
    """Callers of one kind; how their calls go is not asked: half of them are ended by somebody else."""
    async with sipp(
        scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=2), calls=max(1, int(rate * seconds)), rate=rate,
        limit_s=seconds + 40, extra=("-rtp_echo",),
    ) as far_end:  # fmt: skip
        with contextlib.suppress(TimeoutError):
            await far_end.finished(seconds + 12)


@contextlib.asynccontextmanager
async def _colleague() -> AsyncIterator[int]:
    """The port of one who answers every call."""
    port = free_port(count=2)
    async with sipp(COLLEAGUE, "", port=port, calls=1_000_000, limit_s=86_400, extra=("-rtp_echo",)):
        yield port


async def _steer(agent: Service, target: str, chance: random.Random, happened: Counter[str]) -> None:
    running = [call for call in await agent.calls() if call["state"] != "ended"]
    wishes: list[tuple[str, dict[str, str] | None]] = [
        ("hold", None), ("resume", None), ("dtmf", {"digits": "12#"}), ("capture", None), ("take-back", None),
        ("step-in", None), ("step-out", None), ("answer", None), ("hangup", None),
        *(("transfer", {"to": target, "mode": mode}) for mode in ("blind", "attended", "bridged")),
    ]  # fmt: skip
    wish, body = chance.choice(wishes)
    path = f"/v1/calls/{chance.choice(running)['id']}/{wish}" if running else ""
    if not running or chance.random() < 0.05:
        path, body = "/v1/calls", {"to": target}
    answer = await agent.http.post(path, json=body)
    happened[f"{path.rpartition('/')[2]} {answer.status_code}"] += 1


async def _settle(agent: Service, before: dict[str, float]) -> list[str]:
    """End all calls; what is still held afterwards."""
    for call in await agent.calls():
        await agent.http.post(f"/v1/calls/{call['id']}/hangup")
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_S
    left = await metrics_of(agent)
    while left != before and loop.time() < until:
        await asyncio.sleep(0.5)
        left = await metrics_of(agent)
    return [f"{name}: {before[name]} before, {left[name]} after" for name in left if left[name] != before[name]]


async def _next_caller(agent: Service) -> list[str]:
    async with sipp(
        TALKS, f"127.0.0.1:{agent.sip_port}", port=free_port(count=2), calls=1, extra=("-rtp_echo",)
    ) as far_end:
        call = await agent.call_in_state("connected")
        await asyncio.sleep(1.2)
        status = await far_end.finished()
    ended = await agent.call_in_state("ended", call["id"])
    wrong = [f"the next caller: {far_end.errors()[-500:]}"] if status else []
    return wrong if ended["quality"]["mos_in"] > 4 else [*wrong, f"the next caller was not heard: {ended['quality']}"]


def _records(folder: Path, happened: Counter[str]) -> list[str]:
    """Records without an end, and recordings that cannot be read."""
    with contextlib.closing(sqlite3.connect(folder / "calls.sqlite3")) as database:
        rows = database.execute("SELECT id, outcome, ended_by, status, reason, recording FROM calls").fetchall()
    wrong = [f"call {row[0]} has no outcome" for row in rows if not row[1]]
    for _, outcome, ended_by, status, reason, recording in rows:
        happened[f"calls {outcome}, by {ended_by}: {status or ''} {reason}"] += 1
        try:
            if recording:
                soundfile.info(str(folder / recording))
        except soundfile.LibsndfileError as error:
            wrong.append(f"{recording}: {error}")
    return wrong


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    result = asyncio.run(misfortune(options.seconds, options.seed))
    if options.json:
        print(json.dumps(result))
    else:
        for what, count in result["happened"].items():
            print(f"{what:24} {count}")
        print("wrong:", *(result["wrong"] or ["nothing"]), sep="\n  ")
    sys.exit(bool(result["wrong"]))


if __name__ == "__main__":
    main()
