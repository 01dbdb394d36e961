"""TLS with far ends that we did not write: Kamailio as registrar and proxy, baresip as the caller."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sipagent.sip.engine import (
    Answered,
    Confirmed,
    Ended,
    EngineSettings,
    IncomingCall,
    PlaceCall,
    RegistrationChanged,
    RegistrationState,
    TrunkAccount,
)
from sipagent.sip.native import NativeEngine
from tests.sip.support import SDP, Station
from tests.sip.test_tls import FixedNames
from tests.support.baresip import baresip
from tests.support.certificates import Authority, authority
from tests.support.kamailio import kamailio

pytestmark = pytest.mark.peers
PROXY, AGENT = 25720, 25730


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@asynccontextmanager
async def registering(
    trusted: Authority, host: str = "127.0.0.1", user: str = "agent", number: int = 0, way: str = "tls"
) -> AsyncIterator[Station]:
    """An engine whose trunk is Kamailio by TLS; `way` is its own listener's transport."""
    certificate, key = trusted.issue(f"{user}{number}", "IP:127.0.0.1")
    trunk = TrunkAccount(
        "kam", f"sip:{host}:{PROXY + 1};transport=tls", user, password=f"{user}-secret", domain="sip.test", expires_s=60
    )
    settings = EngineSettings(
        listen=(f"{way}:127.0.0.1:{AGENT + number}",), trunks=(trunk,), tls_certificate=certificate, tls_key=key,
        tls_ca=trusted.certificate,
    )  # fmt: skip
    made = Station(settings)
    made.engine = NativeEngine(settings, resolver=FixedNames())
    await made.engine.start(made.note)
    try:
        yield made
    finally:
        await made.engine.stop()


@pytest.mark.rfc(
    "3261", "26.3.1", "MUST", role="UAC", text="registers at Kamailio over TLS and is called by baresip over TLS"
)
async def test_baresip_calls_us_over_tls_through_kamailio(trusted: Authority, tmp_path: Path) -> None:
    account = (
        f'<sip:alice@sip.test;transport=tls>;outbound="sip:127.0.0.1:{PROXY + 1};transport=tls";auth_user=alice;'
        "auth_pass=alice-secret;regint=60;answermode=manual;audio_codecs=pcmu"
    )
    async with (
        kamailio(PROXY, tls=trusted.issue("proxy", "IP:127.0.0.1,DNS:sip.test"), options=("WITH_407",)) as proxy,
        registering(trusted) as agent,
        baresip(tmp_path / "alice", account, config=f"sip_cafile {trusted.certificate}\n") as alice,
    ):
        await agent.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        assert "transport=tls" in (await proxy.contacts("agent"))[0]
        await proxy.registered("alice")
        agent.answer_all()
        await alice.command("dial", "sip:agent@sip.test")
        await agent.expect(Confirmed)
        incoming = await agent.expect(IncomingCall)
        assert incoming.trunk == "kam"
        assert "SIP/2.0/TLS" in str(agent.engine.ladder(incoming.handle))
        assert "SIP/2.0/UDP" not in str(agent.engine.ladder(incoming.handle))
        await alice.until("CALL_ESTABLISHED")
        await alice.command("hangup")
        assert (await agent.expect(Ended)).by == "remote"


@pytest.mark.rfc(
    "5923", "9", "SHOULD", role="both", text="Kamailio's calls to us come on the TLS connection that we registered by"
)
async def test_engine_without_tls_listener_is_called_on_the_connection_that_it_registered_by(
    trusted: Authority,
) -> None:
    async with (
        kamailio(PROXY, tls=trusted.issue("proxy2", "IP:127.0.0.1")),
        registering(trusted) as agent,
        registering(trusted, user="bob", number=2, way="udp") as bob,
    ):
        for one in (agent, bob):
            await one.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        bob.answer_all()
        handle = agent.engine.place(PlaceCall("bob", "kam", SDP))
        await agent.expect(Answered)
        await bob.expect(Confirmed)
        incoming = await bob.expect(IncomingCall)
        assert "SIP/2.0/TLS" in str(bob.engine.ladder(incoming.handle)), "bob has no TLS listener"
        agent.engine.hangup(handle)
        assert (await bob.expect(Ended)).by == "remote"


@pytest.mark.rfc(
    "5922", "7.2", "MUST", role="UAC", text="a registrar with a wrong name, authority or date is refused in words"
)
@pytest.mark.parametrize(
    ("host", "problem", "words"),
    [
        ("pbx.test", "name", "Hostname mismatch"),
        ("127.0.0.1", "authority", "unable to get local issuer certificate"),
        ("127.0.0.1", "expired", "certificate has expired"),
    ],
)
async def test_registrar_whose_certificate_is_wrong_is_refused_with_words(
    trusted: Authority, tmp_path_factory: pytest.TempPathFactory, host: str, problem: str, words: str
) -> None:
    issuer = authority(tmp_path_factory.mktemp("other")) if problem == "authority" else trusted
    server = issuer.issue(problem, "IP:127.0.0.1,DNS:sip.test", days=-1 if problem == "expired" else 2)
    async with kamailio(PROXY, tls=server) as proxy, registering(trusted, host) as agent:
        changed = await agent.expect(RegistrationChanged, where="UNREACHABLE: 'unreachable'")
        assert words in changed.reason
        assert agent.engine.registrations()["kam"].state is RegistrationState.UNREACHABLE
        assert await proxy.contacts("agent") == []
