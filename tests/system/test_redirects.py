"""A carrier that redirects the agent's call, with sipp as the carrier and as those whom it names."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.ports import free_port
from tests.support.scenario import OFFER, Step, callee, recv, reply
from tests.support.service import Service, service
from tests.support.sipp import sipp
from tests.system.test_outbound import CONFIG

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]
NUMBER = "+493012345678"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent_and_port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, int]]:
    """A service that follows, and the port of its carrier."""
    port = free_port(tcp=True, count=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIPAGENT__SIP__REDIRECTS", "follow")
        async with service(tmp_path_factory.mktemp("service"), CONFIG.format(port=port)) as agent:
            yield agent, port


def moved(*contacts: str) -> tuple[Step, ...]:
    """The carrier says 302."""
    headers = "".join(f"Contact: {contact}\n" for contact in contacts)
    return recv("INVITE"), reply(302, headers=headers, contact=False), recv("ACK")


async def detail(agent: Service, call_id: str) -> dict[str, object]:
    shown: dict[str, object] = (await agent.http.get(f"/v1/calls/{call_id}")).json()
    return shown


@pytest.mark.rfc("3261", "8.1.3.4", "SHOULD", role="UAC", text="3xx is followed to the Contacts that it names, by q")
async def test_a_call_is_followed_to_the_one_who_takes_it(agent_and_port: tuple[Service, int]) -> None:
    agent, port = agent_and_port
    busy, free = free_port(tcp=True, count=16), free_port(tcp=True, count=16)
    named = (f"<sip:free@127.0.0.1:{free}>;q=0.1", f"<sip:busy@127.0.0.1:{busy}>;q=0.9")
    # RFC 3261 §8.1.3.4: To stays; RFC 7044: who has been asked before
    known = f"To: &lt;sip:.{NUMBER[1:]}@127.0.0.1:{port}&gt;.*cause%3D302.*busy@127.0.0.1.*cause%3D486.*;index=1.2;mp=1"
    takes = (
        *(recv("INVITE", has=known), reply(200, body=OFFER), recv("ACK"), recv("BYE")),
        reply(200, tag="", contact=False),
    )
    async with (
        sipp(callee(*moved(*named)), port=port) as carrier,
        sipp(callee(recv("INVITE"), reply(486), recv("ACK")), port=busy) as first,
        sipp(callee(*takes), port=free) as second,
    ):
        call_id = await agent.place(NUMBER)
        await agent.call_in_state("connected", call_id)
        await agent.http.post(f"/v1/calls/{call_id}/hangup")
        await agent.call_in_state("ended", call_id)
        for far_end in (carrier, first, second):
            assert await far_end.finished() == 0, far_end.errors()
    shown = await detail(agent, call_id)
    assert shown["outcome"] == "answered"
    assert shown["redirects"] == [
        {"to": NUMBER, "status": 302},
        {"to": f"sip:busy@127.0.0.1:{busy}", "status": 486},
        {"to": f"sip:free@127.0.0.1:{free}", "status": 200},
    ]
    ladder = (await agent.http.get(f"/v1/calls/{call_id}/ladder")).text
    assert ladder.count("-->  INVITE sip:") == 3  # one Call-ID, one ladder


async def test_a_call_is_not_followed_to_where_calls_are_not_allowed(agent_and_port: tuple[Service, int]) -> None:
    agent, port = agent_and_port
    async with sipp(callee(*moved("<sip:premium@10.9.9.9>")), port=port) as carrier:
        call_id = await agent.place(NUMBER)
        call = await agent.call_in_state("ended", call_id)
        assert (call["outcome"], call["status"]) == ("not_reachable", 302)
        assert await carrier.finished() == 0, carrier.errors()
    (_, refused) = (await detail(agent, call_id))["redirects"]  # type: ignore[misc]
    assert "10.9.9.9" in refused["problem"]
    assert 'sipagent_redirects_total{result="refused"} 1.0' in (await agent.http.get("/metrics")).text


async def test_a_carrier_that_redirects_to_itself_is_called_once(agent_and_port: tuple[Service, int]) -> None:
    agent, port = agent_and_port
    async with sipp(callee(*moved(f"<sip:{NUMBER}@127.0.0.1:{port}>")), port=port) as carrier:
        call_id = await agent.place(NUMBER)
        call = await agent.call_in_state("ended", call_id)
        assert call["status"] == 302
        assert await carrier.finished() == 0, carrier.errors()
    assert (await detail(agent, call_id))["redirects"][1]["problem"] == "tried already"  # type: ignore[index]
