"""The agent phones somebody: ringing, answer, and every way of not answering, with sipp as the far end."""

import asyncio

import pytest

from tests.support.scenario import callee, recv, reply
from tests.support.service import Service
from tests.support.sipp import sipp

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[[trunk]]
name = "carrier"
server = "sip:127.0.0.1:{port}"
username = "agent"
register = false
caller_id = "+4930555"

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"

[limits]
ring_seconds = 3
max_calls = 4
"""

RINGS_UNTIL_CANCEL = callee(
    recv("INVITE"), reply(180), recv("CANCEL"), reply(200), reply(487, recall="INVITE"), recv("ACK")
)


async def ended(agent: Service, call_id: str) -> dict[str, object]:
    return await agent.call_in_state("ended", call_id)


async def test_an_answered_call_is_connected_and_hung_up(agent_and_port: tuple[Service, int]) -> None:
    agent, port = agent_and_port
    async with sipp("uas", port=port, extra=("-rtp_echo",)) as carrier:
        call_id = await agent.place("+493012345678")
        await agent.call_in_state("connected", call_id)
        answer = await agent.http.post(f"/v1/calls/{call_id}/hangup")
        assert answer.status_code in (200, 202)
        call = await ended(agent, call_id)
        assert call["outcome"] == "answered" and call["direction"] == "outbound"
        assert await carrier.finished() == 0, carrier.errors()


@pytest.mark.rfc("3261", "13.2.2.3", "MUST", role="UAC", text="a refusal reaches the operator by name")
@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (486, "busy"),
        (603, "rejected"),
        (404, "invalid_number"),
        (503, "congested"),
        (480, "no_answer"),
        (302, "not_reachable"),
        (500, "failed"),
    ],
)
async def test_a_refusal_has_a_name(agent_and_port: tuple[Service, int], status: int, outcome: str) -> None:
    agent, port = agent_and_port
    async with sipp(callee(recv("INVITE"), reply(180), reply(status), recv("ACK")), port=port) as carrier:
        call = await ended(agent, await agent.place("+493012345678"))
        assert (call["outcome"], call["status"]) == (outcome, status)
        assert await carrier.finished() == 0, carrier.errors()


@pytest.mark.rfc(
    "3261", "9.1", "SHOULD", role="UAC", text="a call that nobody answers is cancelled after the ringing time"
)
async def test_a_call_that_nobody_answers_is_cancelled(agent_and_port: tuple[Service, int]) -> None:
    agent, port = agent_and_port
    async with sipp(RINGS_UNTIL_CANCEL, port=port) as carrier:
        call_id = await agent.place("+493012345678")
        await agent.call_in_state("ringing", call_id)
        call = await ended(agent, call_id)
        assert call["outcome"] == "no_answer"
        assert await carrier.finished() == 0, carrier.errors()


async def test_hanging_up_while_it_rings_cancels_the_call(agent_and_port: tuple[Service, int]) -> None:
    agent, port = agent_and_port
    async with sipp(RINGS_UNTIL_CANCEL, port=port) as carrier:
        call_id = await agent.place("+493012345678")
        await agent.call_in_state("ringing", call_id)
        await agent.http.post(f"/v1/calls/{call_id}/hangup")
        call = await ended(agent, call_id)
        assert call["outcome"] == "cancelled"
        assert await carrier.finished() == 0, carrier.errors()


async def test_the_same_idempotency_key_places_one_call(agent_and_port: tuple[Service, int]) -> None:
    agent, port = agent_and_port
    async with sipp("uas", port=port) as carrier:
        headers = {"Idempotency-Key": "order-4711"}
        both = [await agent.http.post("/v1/calls", json={"to": "+493012345678"}, headers=headers) for _ in range(2)]
        assert both[0].json()["id"] == both[1].json()["id"]
        await agent.call_in_state("connected", both[0].json()["id"])
        await agent.http.post(f"/v1/calls/{both[0].json()['id']}/hangup")
        await ended(agent, both[0].json()["id"])
        assert await carrier.finished() == 0, carrier.errors()


async def test_a_far_end_that_is_not_there_is_told_as_such(agent_and_port: tuple[Service, int]) -> None:
    agent, _ = agent_and_port
    call = await asyncio.wait_for(ended(agent, await agent.place("+493012345678")), 40)
    assert call["outcome"] in ("not_reachable", "no_answer")
