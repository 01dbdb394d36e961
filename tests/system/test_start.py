"""The order in which a service starts."""

import asyncio
from pathlib import Path

import pytest

from sipagent.service import memory, planes
from sipagent.service.config import load
from sipagent.service.supervisor import Service, serve
from sipagent.sip.engine import RegistrationState
from tests.support.kamailio import kamailio
from tests.support.ports import free_port
from tests.support.scenario import ack, caller, invite, recv
from tests.support.sipp import sipp

CONFIG = """
[sip]
listen = ["udp:127.0.0.1:{sip}"]
accept_unknown_sources = true
[media]
ports = [{rtp}, {last}]
[limits]
max_calls = 2
[http]
listen = ""
[records]
directory = "{folder}/records"
[[trunk]]
name = "kamailio"
server = "sip:127.0.0.1:{kamailio}"
username = "agent"
password = "agent-secret"
[[route]]
brain = "line_brains:Plain"
pipeline = "echo"
"""


@pytest.mark.peers
async def test_register_does_not_wait_for_the_planes_and_calls_get_503_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(planes, "loaded", never.wait)
    registrar, sip, rtp = free_port(tcp=True), free_port(), free_port(count=8)
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG.format(sip=sip, rtp=rtp, last=rtp + 6, kamailio=registrar, folder=tmp_path))
    config, problems = load.read(file, {})
    assert not problems
    async with kamailio(registrar):
        service = Service(config)
        starting = asyncio.create_task(service.start())
        try:
            async with asyncio.timeout(20):
                while service.engine.registrations()["kamailio"].state is not RegistrationState.REGISTERED:
                    assert not starting.done(), starting.exception()
                    await asyncio.sleep(0.01)
            refused = caller(invite(), recv(100, optional=True), recv(503, has="Retry-After: "), ack())
            async with sipp(refused, f"127.0.0.1:{sip}", port=free_port(count=2)) as far_end:
                assert await far_end.finished() == 0, far_end.errors()
            assert not service.running
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            await service.stop()


async def test_a_service_that_has_started_gives_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, settled = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(memory, "EVERY_S", 0.01)
    monkeypatch.setattr(memory, "give_back", given.set)
    monkeypatch.setattr(memory, "settle", settled.set)
    sip, rtp = free_port(tcp=True), free_port(count=8)
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG.format(sip=sip, rtp=rtp, last=rtp + 6, kamailio=free_port(), folder=tmp_path))
    config, _ = load.read(file, {})
    serving = asyncio.create_task(serve(config))
    try:
        await asyncio.wait_for(given.wait(), 30)
        assert settled.is_set()
    finally:
        serving.cancel()
        await asyncio.wait([serving])
