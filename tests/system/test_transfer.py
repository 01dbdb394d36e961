"""Transfers of a live call, with sipp as the caller and sipp as the target: twelve ends, and the ways there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.support.ports import free_port
from tests.support.scenario import SDP, Pause, Request, Step, ack, bye, callee, caller, invite, recv, reply
from tests.support.service import Service, service
from tests.support.sipp import Sipp, sipp

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
deny_numbers = ["+4900*"]
"""
TARGET = "+4930777"
LONG = 30.0  # rings for longer than any target here takes to answer or refuse, on the busiest machine
UP = (invite(), recv(100, optional=True), recv(180, optional=True), recv(200), ack())
GETS_BYE = (recv("BYE", timeout_ms=15_000), reply(200))
STAYS = caller(*UP, *GETS_BYE)
RINGS = (recv("INVITE"), reply(180))
RINGS_UNTIL_CANCEL = callee(*RINGS, recv("CANCEL"), reply(200), reply(487, recall="INVITE"), recv("ACK"))
ANSWERS = (*RINGS, reply(200, body=SDP.format(version=1)), recv("ACK"))


def notify(number: int, status: int, state: str = "active;expires=60") -> tuple[Step, ...]:
    """NOTIFY of the caller's that its call to the target got `status`."""
    headers = f"Event: refer\nSubscription-State: {state}\n"
    body = f"SIP/2.0 {status} Whatever\n"
    request = Request("NOTIFY", number, headers=headers, body=body, content_type="message/sipfrag;version=2.0")
    return request, recv(200)


def refers(status: int) -> str:
    """A caller that takes the REFER, and whose call to the target ends with `status`."""
    done = notify(3, status, "terminated;reason=noresource")
    return caller(*UP, recv("REFER", has=f"Refer-To:.*{TARGET[1:]}"), reply(202), *notify(2, 100), *done, *GETS_BYE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, int]]:
    port = free_port(tcp=True, count=16)
    async with service(tmp_path_factory.mktemp("service"), CONFIG.format(port=port), ports=160) as agent:
        yield agent, port


@dataclass
class Transferring:
    """A call whose far end is being transferred, and how that ended."""

    agent: Service
    call_id: str
    result: dict[str, Any]
    caller: Sipp

    async def back(self) -> None:
        """The agent has its caller again, and may hang up."""
        call = (await self.agent.http.get(f"/v1/calls/{self.call_id}")).json()
        assert call["state"] == "connected"
        await self.agent.http.post(f"/v1/calls/{self.call_id}/hangup")
        await self.over()

    async def over(self) -> None:
        """The caller saw what its scenario says, and the call has ended."""
        assert await self.caller.finished() == 0, self.caller.errors()
        await self.agent.call_in_state("ended", self.call_id)

    async def second_over(self) -> None:
        """The second call has ended, and belongs to the first."""
        second = await self.agent.call_in_state("ended", self.result["second"])
        assert second["outcome"] == "answered"


@asynccontextmanager
async def transferring(
    agent: Service, scenario: str, mode: str, to: str = TARGET, ring_seconds: float = 3
) -> AsyncIterator[Transferring]:
    """A caller that plays `scenario` is transferred; entered when the outcome is known."""
    known = {call["id"] for call in await agent.calls()}
    async with sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end:
        call_id = ""
        while not call_id:
            call_id = next(
                (
                    call["id"]
                    for call in await agent.calls()
                    if call["state"] == "connected" and call["id"] not in known
                ),
                "",
            )
        body = {"to": to, "mode": mode, "ring_seconds": ring_seconds}
        answer = await agent.http.post(f"/v1/calls/{call_id}/transfer", json=body)
        assert answer.status_code == 202, answer.text
        async for event in agent.events(call_id):
            if event["type"] == "transfer" and "outcome" in event:
                break
        yield Transferring(agent, call_id, event, far_end)


ENDS = [(486, "busy"), (480, "no_answer"), (603, "rejected"), (404, "invalid_number"), (503, "congested")]


@pytest.mark.rfc("5589", "6.2", "SHOULD", role="UAC", text="after a transfer that failed the call goes on")
@pytest.mark.parametrize(("status", "outcome"), ENDS)
async def test_after_a_blind_transfer_that_failed_the_caller_is_the_agents_again(
    line: tuple[Service, int], status: int, outcome: str
) -> None:
    async with transferring(line[0], refers(status), "blind") as transfer:
        assert transfer.result["outcome"] == outcome
        await transfer.back()


@pytest.mark.rfc(
    "5589", "6.1", "SHOULD", role="UAC", text="after a blind transfer that succeeded the caller gets BYE at once"
)
async def test_after_a_blind_transfer_that_succeeded_the_caller_gets_bye(line: tuple[Service, int]) -> None:
    async with transferring(line[0], refers(200), "blind") as transfer:
        assert transfer.result["outcome"] == "transferred"
        await transfer.over()


async def test_a_caller_that_takes_no_refer_stays_with_the_agent(line: tuple[Service, int]) -> None:
    refuses = caller(*UP, recv("REFER"), reply(405), *GETS_BYE)
    async with transferring(line[0], refuses, "blind") as transfer:
        assert transfer.result["outcome"] == "failed"
        await transfer.back()


async def test_a_blind_transfer_without_a_result_ends_after_the_time_given(line: tuple[Service, int]) -> None:
    silent = caller(*UP, recv("REFER"), reply(202), *notify(2, 100), *GETS_BYE)
    async with transferring(line[0], silent, "blind", ring_seconds=0.8) as transfer:
        assert transfer.result["outcome"] == "no_answer"
        await transfer.back()


@pytest.mark.parametrize("mode", ["bridged", "attended"])
@pytest.mark.parametrize(("status", "outcome"), ENDS)
async def test_when_the_target_refuses_the_caller_is_the_agents_again(
    line: tuple[Service, int], mode: str, status: int, outcome: str
) -> None:
    agent, port = line
    async with (
        sipp(callee(*RINGS, reply(status), recv("ACK")), port=port) as target,
        transferring(agent, STAYS, mode, ring_seconds=LONG) as transfer,
    ):
        assert transfer.result["outcome"] == outcome
        await transfer.back()
        assert await target.finished() == 0, target.errors()


@pytest.mark.parametrize("mode", ["bridged", "attended"])
async def test_a_target_that_does_not_answer_in_time_is_rung_no_longer(line: tuple[Service, int], mode: str) -> None:
    agent, port = line
    async with (
        sipp(RINGS_UNTIL_CANCEL, port=port) as target,
        transferring(agent, STAYS, mode, ring_seconds=2) as transfer,
    ):
        assert transfer.result["outcome"] == "no_answer"
        assert await target.finished() == 0, target.errors()
        await transfer.back()


async def test_a_caller_who_hangs_up_while_it_rings_stops_the_ringing(line: tuple[Service, int]) -> None:
    agent, port = line
    impatient = caller(*UP, Pause(2500), bye(), recv(200))
    async with (
        sipp(RINGS_UNTIL_CANCEL, port=port) as target,
        transferring(agent, impatient, "bridged", ring_seconds=20) as transfer,
    ):
        assert transfer.result["outcome"] == "cancelled"
        await transfer.over()
        assert await target.finished() == 0, target.errors()


async def test_whoever_hangs_up_ends_both_halves_of_a_bridged_call(line: tuple[Service, int]) -> None:
    agent, port = line
    async with (
        sipp(callee(*ANSWERS, Pause(500), bye(), recv(200)), port=port) as target,
        transferring(agent, STAYS, "bridged", ring_seconds=LONG) as transfer,
    ):
        assert transfer.result["outcome"] == "transferred"
        await transfer.over()
        assert await target.finished() == 0, target.errors()
        await transfer.second_over()
    async with (
        sipp(callee(*ANSWERS, *GETS_BYE), port=port) as target,
        transferring(agent, caller(*UP, Pause(4000), bye(), recv(200)), "bridged", ring_seconds=LONG) as transfer,
    ):
        assert transfer.result["outcome"] == "transferred"
        await transfer.over()
        assert await target.finished() == 0, target.errors()
        await transfer.second_over()


@pytest.mark.rfc("5589", "7", "SHOULD", role="UAC", text="an attended transfer names the consulted call in Replaces")
async def test_an_attended_transfer_names_the_consulted_call_and_ends_both(line: tuple[Service, int]) -> None:
    agent, port = line
    done = notify(3, 200, "terminated;reason=noresource")
    replaces = f"Refer-To:.*{TARGET[1:]}.*[?]Replaces=.*to-tag%3D.*from-tag%3D"
    takes_over = caller(*UP, recv("REFER", has=replaces), reply(202), *notify(2, 100), *done, *GETS_BYE)
    async with (
        sipp(callee(*ANSWERS, *GETS_BYE), port=port) as target,
        transferring(agent, takes_over, "attended", ring_seconds=LONG) as transfer,
    ):
        assert transfer.result["outcome"] == "transferred"
        await transfer.over()
        assert await target.finished() == 0, target.errors()


async def test_a_caller_that_does_not_take_the_consulted_call_is_joined_with_it(line: tuple[Service, int]) -> None:
    agent, port = line
    async with (
        sipp(callee(*ANSWERS, Pause(1500), bye(), recv(200)), port=port) as target,
        transferring(
            agent, caller(*UP, recv("REFER"), reply(603), *GETS_BYE), "attended", ring_seconds=LONG
        ) as transfer,
    ):
        assert transfer.result["outcome"] == "transferred" and transfer.result["second"]
        await transfer.over()
        assert await target.finished() == 0, target.errors()


@pytest.mark.rfc("3515", "2.4.2", "MUST", role="UAS", text="REFER is accepted by policy only")
async def test_refer_from_the_far_end_is_refused_unless_it_is_allowed(line: tuple[Service, int]) -> None:
    agent, _ = line
    refer = Request("REFER", 2, headers="Refer-To: <sip:777@127.0.0.1>\n")
    async with sipp(
        caller(*UP, refer, recv(603), bye(3), recv(200)), f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)
    ) as far_end:
        assert await far_end.finished() == 0, far_end.errors()
