"""STIR/SHAKEN through the whole service: sipp calls with an Identity, and is called with one."""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.ports import free_port
from tests.support.scenario import Step, ack, bye, callee, caller, invite, recv, reply
from tests.support.service import Service, service
from tests.support.sipp import sipp
from tests.support.stir import URL, Authority, Signing, tn_auth_list

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]

CALLER, CALLED = "+12155551212", "+12155551213"
CONFIG = """
[[trunk]]
name = "carrier"
server = "sip:127.0.0.1:{port}"
register = false
caller_id = "{caller}"
stir_key = "key.pem"
stir_x5u = "{url}"

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
AUTHORITY = Authority(time.time())
SIGNING = AUTHORITY.issue(tn_auth_list(numbers=("12155551212",)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, int]]:
    """A service that requires an Identity, and the port of its carrier."""
    folder, port = tmp_path_factory.mktemp("service"), free_port(tcp=True)
    (folder / "anchors.pem").write_bytes(AUTHORITY.anchor)
    SIGNING.save_chain(folder / "certificates")
    SIGNING.save_key(folder / "key.pem")
    extra = CONFIG.format(port=port, caller=CALLER, url=URL)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SIPAGENT__SIP__STIR", "require")
        environment.setenv("SIPAGENT__SIP__STIR_TRUST_ANCHORS", "anchors.pem")
        environment.setenv("SIPAGENT__SIP__STIR_CERTIFICATES", "certificates")
        async with service(folder, extra) as running:
            yield running, port


async def calls(agent: Service, headers: tuple[tuple[str, str], ...], *then: Step) -> None:
    """sipp calls from CALLER with these headers, and hears what is expected."""
    text = "".join(f"{name}: {value}\n" for name, value in headers)
    scenario = caller(invite(headers=text), recv(100, optional=True), *then)
    scenario = scenario.replace("sip:sipp@[local_ip]:[local_port]>;tag", f"sip:{CALLER}@[local_ip]:[local_port]>;tag")
    async with sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16), service=CALLED) as far_end:
        assert await far_end.finished() == 0, far_end.errors()


ANSWERED = (recv(180), recv(200), ack(), bye(), recv(200))
FORGER = Signing(Authority(time.time()).issue().key, b"")


@pytest.mark.rfc("8224", "6.2.2", "MUST", role="UAS", text="each failure has its status, on the wire")
@pytest.mark.parametrize("kind", ["forged", "expired", "none"])
async def test_a_caller_without_an_identity_that_holds_is_refused(agent: tuple[Service, int], kind: str) -> None:
    running, _ = agent
    now = time.time()
    headers, status = {
        "forged": (FORGER.headers(CALLER, CALLED, now), 438),
        "expired": (SIGNING.headers(CALLER, CALLED, now - 600), 403),
        "none": ((), 428),
    }[kind]
    await calls(running, headers, recv(status), ack())
    assert (
        f'sipagent_stir_total{{result="{status if headers else "absent"}"}} 1.0'
        in (await running.http.get("/metrics")).text
    )


async def test_a_caller_whose_identity_holds_is_answered(agent: tuple[Service, int]) -> None:
    running, _ = agent
    await calls(running, SIGNING.headers(CALLER, CALLED, time.time(), "A"), *ANSWERED)
    call = await running.call_in_state("ended")
    assert (call["stir"]["result"], call["stir"]["attestation"], call["stir"]["authority"]) == ("passed", "A", "listed")


async def test_the_compact_name_of_the_header_is_understood(agent: tuple[Service, int]) -> None:
    running, _ = agent
    headers = [
        ("y" if name == "Identity" else name, value) for name, value in SIGNING.headers(CALLER, CALLED, time.time())
    ]
    await calls(running, tuple(headers), *ANSWERED)


async def test_our_own_call_carries_an_identity(agent: tuple[Service, int]) -> None:
    running, port = agent
    signed = r"Identity: [A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+;info=.https://cert.test/signer.pem.;alg=ES256"
    answers = callee(recv("INVITE", has=signed), reply(486), recv("ACK"))
    async with sipp(answers, port=port) as carrier:
        call_id = await running.place(CALLED)
        call = await running.call_in_state("ended", call_id)
        assert call["outcome"] == "busy"
        assert await carrier.finished() == 0, carrier.errors()
    assert 'sipagent_stir_signed_total{attestation="A"} 1.0' in (await running.http.get("/metrics")).text
