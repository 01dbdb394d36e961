"""What a brain does with its caller: transfers that come back to it, MESSAGE and INFO both ways, a redirect."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.ports import free_port
from tests.support.scenario import Pause, Request, Step, ack, bye, callee, caller, invite, recv, reply
from tests.support.service import Service, service, workers_ready
from tests.support.sipp import sipp

pytestmark = [pytest.mark.peers, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[[trunk]]
name = "carrier"
server = "sip:127.0.0.1:{port}"
username = "agent"
register = false

[[route]]
to = "*"
brain = "line_brains:Switchboard"
"""
UP = (invite(), recv(100, optional=True), recv(180, optional=True), recv(200), ack(), Pause(500))


def says(number: int, text: str, expected: str) -> tuple[Step, ...]:
    """The caller sends a MESSAGE, and gets another one."""
    message = Request("MESSAGE", number, body=text, content_type="text/plain")
    return message, recv(200), recv("MESSAGE", has=expected, timeout_ms=15_000), reply(200)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, int]]:
    port = free_port(tcp=True, count=16)
    async with service(tmp_path_factory.mktemp("service"), CONFIG.format(port=port), ports=80) as agent:
        await workers_ready(agent)
        yield agent, port


async def test_the_caller_comes_back_to_a_brain_whose_transfers_fail(line: tuple[Service, int]) -> None:
    agent, port = line
    scenario = caller(
        *UP,
        *says(2, "bridged +4930777", "outcome=busy"),
        *says(3, "blind sip:someone@elsewhere.example", "outcome=blocked"),
        *says(4, "attended 777", "outcome=blocked"),
        bye(5),
        recv(200),
    )
    async with (
        sipp(callee(recv("INVITE"), reply(180), reply(486), recv("ACK")), port=port) as target,
        sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end,
    ):
        assert await far_end.finished(25) == 0, far_end.errors()
        assert await target.finished() == 0, target.errors()


async def test_info_that_is_no_digit_reaches_the_brain_and_is_answered(line: tuple[Service, int]) -> None:
    note = Request("INFO", 2, body="call back at ten", content_type="application/x-note")
    answer = recv("MESSAGE", has="noted=call back at ten")
    scenario = caller(*UP, note, recv(200), answer, reply(200), bye(3), recv(200))
    async with sipp(scenario, f"127.0.0.1:{line[0].sip_port}", port=free_port(count=16)) as far_end:
        assert await far_end.finished() == 0, far_end.errors()


async def test_a_brain_sends_a_caller_elsewhere_before_the_answer(line: tuple[Service, int]) -> None:
    scenario = caller(
        invite(),
        recv(100, optional=True),
        recv(180, optional=True),
        recv(302, has="Contact: &lt;sip:777@127.0.0.1&gt;"),
        ack(),
    )
    async with sipp(scenario, f"127.0.0.1:{line[0].sip_port}", port=free_port(count=16), service="moved") as far_end:
        assert await far_end.finished() == 0, far_end.errors()
