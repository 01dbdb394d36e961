"""Registrations of the engine on PJSIP at a real Kamailio, and its process killed."""

import asyncio
import os
import signal

import pytest

from sipagent.errors import ConfigError
from sipagent.service.pjsip_process import PjsipPlane
from sipagent.sip.engine import (
    Answered,
    Ended,
    EngineSettings,
    IncomingCall,
    PlaceCall,
    RegistrationChanged,
    TrunkAccount,
)
from sipagent.sip.pjsua2.engine import Pjsua2Engine
from tests.pjsua2.support import pjsip
from tests.sip.support import SDP
from tests.support.kamailio import kamailio
from tests.support.ports import free_port
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers
REGISTERED = "REGISTERED: 'registered'"


def trunk(user: str, port: int, password: str = "") -> TrunkAccount:
    server = f"sip:127.0.0.1:{port}"
    return TrunkAccount("kam", server, user, password=password or f"{user}-secret", expires_s=60)


async def test_engine_registers_and_unregisters() -> None:
    port = free_port(tcp=True)
    async with kamailio(port) as proxy, pjsip(trunk("agent", port)) as us:
        assert (await us.expect(RegistrationChanged, where=REGISTERED, limit_s=10)).expires_s == 60
        assert len(await proxy.contacts("agent")) == 1
        await us.engine.unregister()
        await us.expect(RegistrationChanged, where="UNREGISTERED: 'unregistered'")
        assert await proxy.contacts("agent") == []


async def test_wrong_password_is_refused_and_told() -> None:
    port = free_port(tcp=True)
    async with kamailio(port), pjsip(trunk("agent", port, "wrong")) as us:
        refused = await us.expect(RegistrationChanged, where="REFUSED: 'refused'", limit_s=10)
        assert refused.status == 401
        assert refused.retry_in_s >= 30


async def test_call_with_a_challenge_runs_through_the_proxy() -> None:
    port = free_port(tcp=True)
    async with (
        kamailio(port, options=("WITH_407",)),
        pjsip(trunk("alice", port)) as alice,
        pjsip(trunk("bob", port)) as bob,
    ):
        for one in (alice, bob):
            await one.expect(RegistrationChanged, where=REGISTERED, limit_s=10)
        bob.answer_all()
        handle = alice.engine.place(PlaceCall("bob", "kam", SDP))
        assert b"m=audio 27990" in ((await alice.expect(Answered, limit_s=10)).body or b"")
        assert (await bob.expect(IncomingCall)).trunk == "kam"
        alice.engine.hangup(handle)
        assert (await bob.expect(Ended)).by == "remote"
        assert "alice-secret" not in str(alice.engine.ladder(handle))
        assert "Proxy-Authorization: ***" in str(alice.engine.ladder(handle))


async def test_killed_process_ends_its_calls_comes_back_and_registers() -> None:
    port = free_port(tcp=True)
    async with kamailio(port) as proxy, pjsip(trunk("agent", port)) as us:
        await us.expect(RegistrationChanged, where=REGISTERED, limit_s=10)
        us.answer_all()
        async with sipp("uac", us.address, port=free_port(), extra=("-d", "60000")):
            await us.expect(IncomingCall)
            os.kill(us.engine.pid, signal.SIGKILL)
            ended = await us.expect(Ended)
            assert (ended.by, us.engine.handles()) == ("transport", ())
        await us.expect(RegistrationChanged, where="UNREACHABLE: 'unreachable'")
        await us.expect(RegistrationChanged, count=2, where=REGISTERED, limit_s=15)
        assert us.engine.stats()["restarts"] == 1
        assert len(await proxy.contacts("agent")) >= 1


async def test_trunks_come_and_go_while_the_engine_runs() -> None:
    port = free_port(tcp=True)
    async with kamailio(port) as proxy, pjsip() as us:
        us.engine.update_trunks((trunk("agent", port),))
        await us.expect(RegistrationChanged, where=REGISTERED, limit_s=10)
        assert len(await proxy.contacts("agent")) == 1
        us.engine.update_trunks(())
        async with asyncio.timeout(5):
            while await proxy.contacts("agent"):
                await asyncio.sleep(0.05)
        assert us.engine.registrations() == {}


async def test_taken_port_is_told_at_the_start() -> None:
    async with pjsip() as us:
        second = Pjsua2Engine(EngineSettings(listen=(f"udp:{us.address}",)), PjsipPlane)
        with pytest.raises(ConfigError, match=r"sip\.listen"):
            await second.start(lambda event: None)


def test_more_trunks_than_accounts_are_refused() -> None:
    many = tuple(TrunkAccount(f"t{n}", "sip:127.0.0.1") for n in range(8))
    with pytest.raises(ConfigError, match="accounts"):
        Pjsua2Engine(EngineSettings(listen=(), trunks=many), PjsipPlane)
