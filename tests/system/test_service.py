"""Admission, refusal and drain of the whole service, with sipp as the far end."""

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.scenario import ack, caller, invite, recv
from tests.support.service import Service, service
from tests.support.sipp import Sipp, sipp

pytestmark = [pytest.mark.peers]

ECHO = """
[[route]]
to = "busy"
brain = "line_brains:Picky"
pipeline = "cascaded"

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
G729_ONLY = """v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 18
a=rtpmap:18 G729/8000
"""
OFFER = (invite(), recv(100, optional=True), recv(180, optional=True))
UNTIL_BYE = caller(*OFFER, recv(200), ack(), recv("BYE", timeout_ms=60_000))


def refused(status: int, **kwargs: str) -> str:
    return caller(*OFFER, recv(status, **kwargs), ack())


def calls(agent: Service, scenario: str, user: str = "agent") -> AbstractAsyncContextManager[Sipp]:
    return sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16), service=user, limit_s=60)


async def plays(agent: Service, scenario: str, user: str = "agent") -> None:
    """sipp runs `scenario` against the service as written."""
    async with calls(agent, scenario, user) as far_end:
        assert await far_end.finished() == 0, far_end.errors()


@pytest.mark.rfc("3261", "21.5.4", "SHOULD", role="UAS", text="over capacity: 503 with Retry-After")
async def test_what_is_over_capacity_gets_503_and_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with service(tmp_path, ECHO + "[limits]\nmax_calls = 1\n") as agent:
        async with calls(agent, UNTIL_BYE):
            await agent.call_in_state("connected")
            await plays(agent, refused(503, has="Retry-After: [0-9]"))
        metrics = (await agent.http.get("/metrics")).text
        assert 'sipagent_calls_refused_total{why="full"} 1.0' in metrics


@pytest.mark.rfc("3261", "21.4.24", "SHOULD", role="UAS", text="over capacity: 486 when configured")
async def test_what_is_over_capacity_gets_486_when_that_is_configured(tmp_path: Path) -> None:
    async with (
        service(tmp_path, ECHO + "[limits]\nmax_calls = 1\nfull_status = 486\n") as agent,
        calls(agent, UNTIL_BYE),
    ):
        await agent.call_in_state("connected")
        await plays(agent, refused(486))


async def test_while_the_ticks_of_the_media_plane_begin_late_no_new_call_is_taken(tmp_path: Path) -> None:
    limits = "[limits]\nmax_pacing_ms = 60\nretry_after_seconds = 7\n"
    trunk = '[[trunk]]\nname = "carrier"\nserver = "sip:127.0.0.1:9"\nregister = false\n'
    async with (
        service(tmp_path, ECHO + limits + trunk) as agent,
        calls(agent, UNTIL_BYE),
    ):
        call = await agent.call_in_state("connected")
        media = (await agent.health())["planes"][0]["media"]
        for _ in range(40):  # 1 % of the ticks of the last ten seconds, and some more
            os.kill(media, signal.SIGSTOP)
            await asyncio.sleep(0.12)
            os.kill(media, signal.SIGCONT)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while not (await agent.health())["planes"][0]["late"]:
                await asyncio.sleep(0.05)
        await plays(agent, refused(503, has="Retry-After: 7"))
        placed = await agent.http.post("/v1/calls", json={"to": "+493012345678"})
        assert placed.status_code == 503 and "max_pacing_ms" in placed.text and "no-capacity" in placed.text
        (missing,) = (await agent.http.get("/readyz")).json()["missing"]
        assert missing.startswith("media is late: p99 of pacing ")
        metrics = (await agent.http.get("/metrics")).text
        assert 'sipagent_media_late{plane="0"} 1.0' in metrics
        assert 'sipagent_calls_refused_total{why="late"} 1.0' in metrics
        assert (await agent.call_in_state("connected"))["id"] == call["id"], "calls that are there go on"


@pytest.mark.models
async def test_a_call_is_refused_before_it_is_answered(tmp_path: Path) -> None:
    async with service(tmp_path, ECHO) as agent:
        await plays(agent, refused(486), user="busy")
        call = await agent.call_in_state("ended")
        assert (call["outcome"], call["status"]) == ("rejected", 486)
        await plays(
            agent, caller(invite(body=G729_ONLY), recv(100, optional=True), recv(488, has="Warning: 305"), ack())
        )
        await plays(agent, caller(invite(body="v=0\nm=audio 99999999\n"), recv(100, optional=True), recv(400), ack()))


@pytest.mark.rfc("3261", "21.5.4", "SHOULD", role="UAS", text="while draining: 503 to new calls, running ones go on")
async def test_sigterm_lets_calls_finish_and_refuses_new_ones(tmp_path: Path) -> None:
    async with service(tmp_path, ECHO) as agent:
        async with calls(agent, UNTIL_BYE) as far_end:
            call = await agent.call_in_state("connected")
            os.killpg(agent.process.pid, signal.SIGTERM)  # as `timeout` and some supervisors do: the planes stay
            async with asyncio.timeout(10):
                while "draining" not in (await agent.health())["status"]:
                    await asyncio.sleep(0.05)
            assert (await agent.http.get("/readyz")).status_code == 503
            assert (await agent.http.post("/v1/calls", json={"to": "+493012345678"})).status_code == 503
            await plays(agent, refused(503, has="Retry-After"))
            assert (await agent.call_in_state("connected"))["id"] == call["id"]
            await agent.http.post(f"/v1/calls/{call['id']}/hangup")
            assert await far_end.finished() == 0, far_end.errors()
        assert await asyncio.wait_for(agent.process.wait(), 10) == 0


@pytest.mark.rfc("3326", "2", "SHOULD", role="both", text="our BYE carries a Reason")
async def test_calls_that_outlast_the_drain_get_bye_with_a_reason(tmp_path: Path) -> None:
    waits = caller(*OFFER, recv(200), ack(), recv("BYE", has="Reason: SIP;cause=503", timeout_ms=60_000))
    async with service(tmp_path, ECHO + "[limits]\nmax_calls = 4\ndrain_seconds = 1\n") as agent:
        async with calls(agent, waits) as far_end:
            await agent.call_in_state("connected")
            agent.process.send_signal(signal.SIGTERM)
            assert await far_end.finished(60) == 0, far_end.errors()
        assert await asyncio.wait_for(agent.process.wait(), 10) == 0


async def test_a_call_is_ended_at_its_longest(tmp_path: Path) -> None:
    async with (
        service(tmp_path, ECHO + "[limits]\nmax_calls = 4\nmax_call_seconds = 1\n") as agent,
        calls(agent, UNTIL_BYE) as far_end,
    ):
        assert await far_end.finished() == 0, far_end.errors()
        call = await agent.call_in_state("ended")
        assert call["reason"] == "the longest call allowed"
