"""What dies comes back, and takes no more along than its own."""

import asyncio
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.scenario import Pause, ack, bye, caller, invite, recv
from tests.support.service import Service, service, workers_ready
from tests.support.sipp import Sipp, sipp

pytestmark = pytest.mark.peers

ROUTE = '[[route]]\nbrain = "line_brains:{brain}"\npipeline = "{pipeline}"\n'
ECHO = ROUTE.format(brain="Plain", pipeline="echo")
OFFER = (invite(), recv(100, optional=True), recv(180, optional=True))
UNTIL_BYE = caller(*OFFER, recv(200), ack(), recv("BYE", timeout_ms=60_000))


def talk(seconds: float) -> str:
    return caller(*OFFER, recv(200), ack(), Pause(int(seconds * 1000)), bye(), recv(200))


def calls(agent: Service, scenario: str) -> AbstractAsyncContextManager[Sipp]:
    return sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """All processes below this one."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [each for child in found for each in (child, *children(child))]


async def until(what: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.02)


async def test_a_killed_parent_leaves_no_process_and_no_port_and_the_next_start_knows_of_its_calls(
    tmp_path: Path,
) -> None:
    async with service(tmp_path, ECHO) as agent:
        async with calls(agent, UNTIL_BYE):
            call = await agent.call_in_state("connected")
            processes = children(agent.process.pid)
            assert len(processes) >= 4, "fork server, media plane, ears, worker"
            agent.process.kill()
            await agent.process.wait()
            await until(lambda: not any(alive(pid) for pid in processes), 3)
            for port in (agent.sip_port, *agent.rtp_ports):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("127.0.0.1", port))
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support" / "brains")}
        again = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sipagent", "serve", "-c", str(tmp_path / "sipagent.toml")),
            cwd=tmp_path,
            env=environment | {"SIPAGENT__LIMITS__MAX_CALLS": "4"},
            stderr=asyncio.subprocess.PIPE,
        )
        assert again.stderr is not None
        lines: list[str] = []
        async with asyncio.timeout(60):
            while "listening" not in (lines[-1] if lines else ""):
                lines.append((await again.stderr.readline()).decode())
                assert lines[-1], "".join(lines)
        again.send_signal(signal.SIGTERM)
        await again.communicate()
        assert any("calls were lost" in line for line in lines)
        with closing(sqlite3.connect(tmp_path / "records" / "calls.sqlite3")) as connection:
            outcome = connection.execute("select outcome from calls where id = ?", (call["id"],)).fetchone()
        assert outcome == ("lost",)


async def test_a_call_outlives_two_media_planes_and_the_third_one_takes_it_along(tmp_path: Path) -> None:
    async with service(tmp_path, ECHO) as agent:
        async with calls(agent, UNTIL_BYE) as far_end:
            call = await agent.call_in_state("connected")
            for died in (1, 2, 3):
                os.kill((await agent.health())["planes"][0]["media"], signal.SIGKILL)
                async with asyncio.timeout(10):
                    while (plane := (await agent.health())["planes"][0])["restarts"] < died or not plane["ready"]:
                        await asyncio.sleep(0.02)
                if died < 3:
                    async with calls(agent, talk(0.5)) as other:  # new ones work at once
                        assert await other.finished() == 0, other.errors()
            assert await far_end.finished() == 0, far_end.errors()
        ended = await agent.call_in_state("ended", call["id"])
        assert (ended["outcome"], ended["reason"]) == ("failed", "media plane died")
        resumed = [event["gap_ms"] async for event in agent.events(call["id"]) if event["type"] == "media_resumed"]
        assert len(resumed) == 2


async def test_killed_ears_are_back_and_calls_go_on(tmp_path: Path) -> None:
    async with service(tmp_path, ECHO) as agent:
        async with calls(agent, UNTIL_BYE) as far_end:
            call = await agent.call_in_state("connected")
            before = (await agent.health())["planes"][0]["ears"]
            os.kill(before, signal.SIGKILL)
            async with asyncio.timeout(20):
                while (after := (await agent.health())["planes"][0]["ears"]) == before or not alive(after):
                    await asyncio.sleep(0.02)
            assert (await agent.call_in_state("connected"))["id"] == call["id"]
            await agent.http.post(f"/v1/calls/{call['id']}/hangup")
            assert await far_end.finished() == 0, far_end.errors()
        assert (await agent.call_in_state("ended"))["outcome"] == "answered"


@pytest.mark.models
async def test_a_call_that_kills_its_workers_hears_the_apology_and_gets_bye(tmp_path: Path) -> None:
    routes = "[conversation]\nworkers = 2\n" + ROUTE.format(brain="Deadly", pipeline="cascaded")
    async with service(tmp_path, routes) as agent:
        await workers_ready(agent)
        async with sipp(UNTIL_BYE, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16), limit_s=60) as far_end:
            call = await agent.call_in_state("connected")
            assert await far_end.finished(60) == 0, far_end.errors()
        ended = await agent.call_in_state("ended", call["id"])
        assert ended["outcome"] == "failed" and "no worker" in ended["reason"]
        warnings = [event async for event in agent.events(call["id"]) if event["type"] == "warning"]
        assert [event["takeover"] for event in warnings if "takeover" in event] == [1, 2, 3]
