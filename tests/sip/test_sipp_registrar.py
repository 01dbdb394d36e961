"""sipp as a registrar: what it answers to our REGISTER and OPTIONS, each flow over UDP and TCP."""

import asyncio

import pytest

from sipagent.sip.engine import RegistrationChanged, TrunkAccount
from tests.sip.support import station
from tests.support.ports import free_port
from tests.support.requirement import Requirement, flow
from tests.support.scenario import Recv, Reply, Step, recv, registrar, reply
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers
CHALLENGE = '{kind}-Authenticate: Digest realm="sip.test",nonce="{nonce}",algorithm={algorithm},qop="auth"{more}\n'


def register(has: str = "", lacks: str = "") -> Recv:
    return recv("REGISTER", has=has, lacks=lacks)


def answer(status: int, headers: str = "") -> Reply:
    return reply(status, headers=headers, contact=False)


def challenge(nonce: str = "n1", more: str = "", algorithm: str = "MD5", kind: str = "WWW") -> Reply:
    headers = CHALLENGE.format(kind=kind, nonce=nonce, algorithm=algorithm, more=more)
    return answer(401 if kind == "WWW" else 407, headers)


GRANTED = answer(200, "[last_Contact:];expires=60\n")
SEEN_ELSEWHERE = (
    '<recv request="REGISTER" timeout="8000"><action>'
    '<ereg regexp="Contact: &lt;sip:[^@]*@{contact}[^&gt;]*&gt;" search_in="msg" check_it="true" assign_to="c"/>'
    '<ereg regexp="(SIP/2.0/[A-Z]* [^;]*).*branch=([^;]*)" search_in="hdr" header="Via:" check_it="true" '
    'assign_to="all,by,branch"/></action></recv><Reference variables="all,c"/>'
    "<send><![CDATA[\nSIP/2.0 200 OK\nVia: [$by];branch=[$branch];received=198.51.100.7;rport=7777\n[last_From:]\n"
    "[last_To:];tag=r\n[last_Call-ID:]\n[last_CSeq:]\n[last_Contact:];expires=60\nContent-Length: 0\n\n]]></send>"
)
LEAVES = (register(has="expires=0"), answer(200))  # at the end of each test
SCENARIOS: dict[str, tuple[Step, ...]] = {
    "registers": (register(lacks="Authorization"), GRANTED, *LEAVES),
    "challenged": (
        register(),
        challenge(),
        register(has='Authorization: Digest username="agent".*nonce="n1".*nc=00000001'),
        GRANTED,
        register(has="nc=00000002"),
        answer(200),
    ),
    "challenged_with_sha256": (
        register(),
        challenge(algorithm="SHA-256"),
        register(has="algorithm=SHA-256"),
        GRANTED,
        *LEAVES,
    ),
    "challenged_by_a_proxy": (
        register(),
        challenge(kind="Proxy"),
        register(has="Proxy-Authorization"),
        GRANTED,
        *LEAVES,
    ),
    "stale_nonce": (
        *(register(), challenge(), register(has='nonce="n1"'), challenge("n2", ",stale=true")),
        *(register(has='nonce="n2"'), GRANTED, *LEAVES),
    ),
    "interval_too_brief": (
        *(register(has="Expires: 60"), answer(423, "Min-Expires: 1800\n"), register(has="Expires: 1800")),
        *(answer(200, "[last_Contact:];expires=1800\n"), *LEAVES),
    ),
    "out_of_service_for_a_second": (register(), answer(503, "Retry-After: 1\n"), register(), GRANTED, *LEAVES),
    "contact_is_rewritten": (
        SEEN_ELSEWHERE.format(contact="127.0.0.1"),
        SEEN_ELSEWHERE.format(contact="198.51.100.7:7777"),
        *LEAVES,
    ),
    "trying_first": (register(), answer(100), GRANTED, *LEAVES),
}
REQUIREMENTS: dict[str, tuple[Requirement, ...]] = {
    "challenged": (("3261", "22.2", "SHOULD", "credentials are used again with the next nonce count"),),
    "challenged_by_a_proxy": (("3261", "22.3", "SHOULD", "a proxy's challenge of a REGISTER is answered"),),
    "stale_nonce": (("7616", "3.3", "SHOULD", "stale=true of a registrar: the new nonce within the attempt"),),
    "interval_too_brief": (("3261", "10.2.8", "SHOULD", "423 of a registrar: Min-Expires is asked for"),),
    "out_of_service_for_a_second": (("3261", "20.33", "SHOULD", "503 of a registrar: tried again after Retry-After"),),
    "contact_is_rewritten": (("3581", "4", "SHOULD", "the Contact follows received and rport of the registrar"),),
}
# over a stream the registrar sees the port of a connection, which nobody can call
FLOWS = [
    flow(name, way, REQUIREMENTS, "UAC")
    for name in SCENARIOS
    for way in ("u1", "t1")
    if (name, way) != ("contact_is_rewritten", "t1")
]


@pytest.mark.parametrize(("name", "transport"), FLOWS)
async def test_flow(name: str, transport: str) -> None:
    port, parameter = free_port(tcp=True), ";transport=tcp" if transport == "t1" else ""
    trunk = TrunkAccount("t", f"sip:127.0.0.1:{port}{parameter}", "agent", password="secret", expires_s=60)
    scenario = registrar(*SCENARIOS[name])
    async with (
        sipp(scenario, port=port, transport=transport) as far_end,
        station(free_port(tcp=True), trunk) as us,
    ):
        await us.expect(RegistrationChanged, where="REGISTERED: 'registered'", limit_s=10)
        async with asyncio.timeout(10):
            while us.engine.stats()["requests_out_REGISTER"] < scenario.count('"REGISTER"') - 1:
                await asyncio.sleep(0.01)
        await us.engine.unregister()
        assert await far_end.finished() == 0, far_end.errors()
        await us.expect(RegistrationChanged, where="UNREGISTERED: 'unregistered'")


@pytest.mark.rfc("3261", "11", "SHOULD", role="UAC", text="a trunk is asked by OPTIONS again and again")
@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_trunk_is_kept_alive_by_options(transport: str) -> None:
    port, parameter = free_port(tcp=True), ";transport=tcp" if transport == "t1" else ""
    trunk = TrunkAccount("t", f"sip:127.0.0.1:{port}{parameter}", "agent", register=False)
    ping = registrar(recv("OPTIONS", has="Contact: "), reply(200, contact=False))
    async with (
        sipp(ping, port=port, transport=transport, calls=3) as far_end,
        station(free_port(tcp=True), trunk, keepalive_s=0.2) as us,
    ):
        assert await far_end.finished() == 0, far_end.errors()
        async with asyncio.timeout(5):
            while us.engine.stats().get("keepalives_answered", 0) < 3:
                await asyncio.sleep(0.01)
