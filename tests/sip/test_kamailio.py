"""Registration and calls through a real Kamailio."""

import asyncio

import pytest

from sipagent.sip.engine import (
    Answered,
    Confirmed,
    Ended,
    IncomingCall,
    PlaceCall,
    RegistrationChanged,
    RegistrationState,
    TrunkAccount,
)
from sipagent.sip.registration import Phase
from tests.sip.support import SDP, station
from tests.support.kamailio import kamailio
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers


def trunk(user: str, port: int, transport: str = "", password: str = "") -> TrunkAccount:
    return TrunkAccount(
        name="kam",
        server=f"sip:127.0.0.1:{port}{transport}",
        username=user,
        password=password or f"{user}-secret",
        expires_s=60,
    )


@pytest.mark.rfc(
    "3261", "10.2", "MUST", role="UAC", text="registers and un-registers at Kamailio over UDP and TCP, MD5 and SHA-256"
)
@pytest.mark.rfc("8760", "2.4", "SHOULD", role="UAC", text="SHA-256 is answered where the registrar asks for it")
@pytest.mark.parametrize(
    ("transport", "options"), [("", ()), (";transport=tcp", ()), ("", ("WITH_SHA256",))], ids=["udp", "tcp", "sha256"]
)
async def test_engine_registers_and_unregisters(transport: str, options: tuple[str, ...]) -> None:
    async with kamailio(25500, options=options) as proxy, station(25501, trunk("agent", 25500, transport)) as agent:
        registered = await agent.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        assert registered.expires_s == 60
        assert len(await proxy.contacts("agent")) == 1
        await agent.engine.unregister()
        await agent.expect(RegistrationChanged, where="UNREGISTERED: 'unregistered'")
        assert await proxy.contacts("agent") == []


@pytest.mark.rfc("5626", "4.5", "MUST", role="UAC", text="a flow that broke is registered anew")
async def test_connection_that_breaks_is_followed_by_a_new_registration() -> None:
    async with kamailio(25517), station(25518, trunk("agent", 25517, ";transport=tcp")) as agent:
        await agent.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        before = agent.engine.stats()["requests_out_REGISTER"]
        for connection in list(agent.engine._transports._connections.values()):
            connection.close()
        async with asyncio.timeout(5):
            while agent.engine.stats()["requests_out_REGISTER"] == before:
                await asyncio.sleep(0.05)
        assert agent.engine.registrations()["kam"].state is RegistrationState.REGISTERED


INSTANCE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


@pytest.mark.rfc("5626", "4.2.1", "MUST", role="UAC", text="Kamailio binds our flow by instance and reg-id")
@pytest.mark.rfc("5626", "4.4.2", "SHOULD", role="UAC", text="Kamailio answers STUN on the flow that it is bound to")
async def test_flow_is_bound_by_our_instance_and_kept_open_by_stun() -> None:
    settings = {"instance_id": INSTANCE, "keepalive": "stun", "keepalive_s": 0.3}
    async with kamailio(25530, options=("WITH_OUTBOUND", "WITH_STUN")) as registrar:
        async with station(25531, trunk("agent", 25530), **settings) as agent:
            await agent.expect(RegistrationChanged, where="REGISTERED: 'registered'")
            registration = agent.engine._agent.bindings._bindings["kam"].registration
            assert registration.outbound, "the 200 requires outbound"
            assert registration.flow_timer_s == 20
            dump = await registrar.rpc("ul.dump")
            assert f"Instance: <urn:uuid:{INSTANCE}>" in dump and "Reg-Id: 1" in dump
            async with asyncio.timeout(10):
                while agent.engine.stats().get("keepalives_answered", 0) < 2:
                    await asyncio.sleep(0.05)
            assert "keepalives_lost" not in agent.engine.stats()
            for binding in agent.engine._agent.bindings._bindings.values():
                binding.registration.phase = Phase.GONE  # as if it were killed: nothing is taken back
        async with station(25532, trunk("agent", 25530), **settings) as again:
            await again.expect(RegistrationChanged, where="REGISTERED: 'registered'")
            contacts = await registrar.contacts("agent")
            assert len(contacts) == 1 and ":25532" in contacts[0], "a restart takes its binding over, calls come once"


@pytest.mark.rfc("3261", "22.1", "SHOULD", role="UAC", text="credentials that were refused are not sent again at once")
async def test_wrong_password_is_refused_and_told() -> None:
    async with kamailio(25503), station(25504, trunk("agent", 25503, password="wrong")) as agent:
        refused = await agent.expect(RegistrationChanged, where="REFUSED: 'refused'")
        assert refused.status == 401
        assert refused.retry_in_s >= 30


@pytest.mark.rfc("3261", "12.2.1.1", "MUST", role="UAC", text="requests within the dialog follow the Record-Route")
@pytest.mark.rfc(
    "3261", "12.1.1", "MUST", role="UAS", text="Record-Route is copied into the answer and kept as the route set"
)
@pytest.mark.rfc("3261", "22.3", "SHOULD", role="UAC", text="a proxy's 407 is answered")
@pytest.mark.parametrize("transport", ["", ";transport=tcp"], ids=["udp", "tcp"])
async def test_call_between_two_engines_runs_through_the_proxy_with_its_record_route(transport: str) -> None:
    async with (
        kamailio(25506, options=("WITH_407",)),
        station(25507, trunk("alice", 25506, transport)) as alice,
        station(25508, trunk("bob", 25506, transport)) as bob,
    ):
        for one in (alice, bob):
            await one.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        bob.answer_all()
        handle = alice.engine.place(PlaceCall("bob", "kam", SDP))
        answered = await alice.expect(Answered)
        assert answered.body == SDP
        incoming = await bob.expect(IncomingCall)
        assert incoming.from_uri.startswith("sip:alice@")
        assert incoming.trunk == "kam"
        await bob.expect(Confirmed)
        alice.engine.hangup(handle)
        ended = await bob.expect(Ended)
        assert ended.by == "remote"
        assert "Record-Route" in str(bob.engine.ladder(incoming.handle))
        assert "alice-secret" not in str(alice.engine.ladder(handle))
        assert "Proxy-Authorization: ***" in str(alice.engine.ladder(handle))


async def test_call_to_the_pstn_side_is_hung_up_by_us() -> None:
    async with (
        kamailio(25510, pstn="127.0.0.1:25512"),
        sipp("uas", port=25512) as far_end,
        station(25511, trunk("agent", 25510)) as agent,
    ):
        await agent.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        handle = agent.engine.place(PlaceCall("+15551234", "kam", SDP))
        await agent.expect(Answered)
        agent.engine.hangup(handle)
        assert await far_end.finished() == 0, far_end.errors()


@pytest.mark.rfc(
    "3261", "21.5.4", "SHOULD", role="UAC", text="503 of the last target ends the call, Retry-After is kept"
)
async def test_503_of_the_only_server_ends_the_call_with_its_status() -> None:
    async with kamailio(25514), station(25515, trunk("agent", 25514)) as agent:
        await agent.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        agent.engine.place(PlaceCall("down", "kam", SDP))
        ended = await agent.expect(Ended)
        assert (ended.status, ended.by) == (503, "refused")
        assert ("Retry-After", "1") in ended.headers
