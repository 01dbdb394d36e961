"""SIGHUP: trunks, routes, limits and the code of brains change, calls go on."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support.kamailio import Kamailio, kamailio
from tests.support.ports import free_port
from tests.support.scenario import ack, bye, caller, invite, recv
from tests.support.service import Service, service, workers_ready
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers

TRUNK = """
[[trunk]]
name = "{name}"
server = "sip:127.0.0.1:{port}"
username = "{user}"
password = "{password}"
expires = 60
"""
ROUTE = """
[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
OFFER = (invite(), recv(100, optional=True), recv(180, optional=True))
UNTIL_BYE = caller(*OFFER, recv(200), ack(), recv("BYE", timeout_ms=90_000))
ANSWERED = (*OFFER, recv(200), ack(), bye(), recv(200))


def trunk(name: str, port: int, user: str, password: str = "") -> str:
    return TRUNK.format(name=name, port=port, user=user, password=password or f"{user}-secret")


async def reload(agent: Service, extra: str) -> None:
    """Write another end of the configuration, send SIGHUP, wait for the answer in the log."""
    config = agent.folder / "sipagent.toml"
    head = config.read_text().partition("# from here")[0]
    config.write_text(f"{head}# from here\n{extra}")
    answers = agent.log().count("configuration is")
    agent.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while agent.log().count("configuration is") == answers:
            await asyncio.sleep(0.05)


async def contacts(proxy: Kamailio, **wanted: int) -> None:
    """Wait until each user has so many contacts."""
    async with asyncio.timeout(10):
        while {user: len(await proxy.contacts(user)) for user in wanted} != wanted:
            await asyncio.sleep(0.1)


async def test_trunks_come_go_and_change_without_touching_a_call(tmp_path: Path) -> None:
    port = free_port(tcp=True)
    both = trunk("one", port, "agent") + trunk("two", port, "alice")
    async with kamailio(port) as proxy, service(tmp_path, f"# from here\n{both}{ROUTE}") as agent:
        await contacts(proxy, agent=1, alice=1, bob=0)
        async with sipp(UNTIL_BYE, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16), limit_s=90) as far_end:
            call = await agent.call_in_state("connected")
            await reload(agent, trunk("one", port, "agent") + trunk("three", port, "bob") + ROUTE)
            await contacts(proxy, agent=1, alice=0, bob=1)
            registrations = (await agent.health())["registrations"]
            assert {name: one["state"] for name, one in registrations.items()} == {
                "one": "registered",
                "three": "registered",
            }
            await reload(agent, trunk("one", port, "carol") + trunk("three", port, "bob") + ROUTE)
            await contacts(proxy, agent=0, bob=1, carol=1)
            assert (await agent.call_in_state("connected"))["id"] == call["id"]
            await agent.http.post(f"/v1/calls/{call['id']}/hangup")
            assert await far_end.finished() == 0, far_end.errors()
        call = await agent.call_in_state("ended")
        assert call["outcome"] == "answered"


async def test_routes_and_limits_change_and_what_cannot_change_is_told(tmp_path: Path) -> None:
    limits = "[limits]\nmax_calls = 4\ndeny_numbers = [{deny}]\n"
    async with service(tmp_path, f"# from here\n{ROUTE}{limits.format(deny='')}") as agent:
        other = ROUTE.replace('to = "*"', 'to = "sales"')
        await reload(agent, other + limits.format(deny="'+49900*'") + "[conversation]\nworkers = 3\n")
        for user, steps in (("sales", ANSWERED), ("agent", (*OFFER, recv(404), ack()))):
            async with sipp(
                caller(*steps), f"127.0.0.1:{agent.sip_port}", port=free_port(count=16), service=user
            ) as far_end:
                assert await far_end.finished() == 0, far_end.errors()
        denied = await agent.http.post("/v1/calls", json={"to": "+49900123456"})
        assert denied.status_code == 422 and "denied" in denied.text
        assert "conversation.workers" in agent.log()


async def test_a_bad_file_is_refused_whole_and_the_old_configuration_goes_on(tmp_path: Path) -> None:
    async with service(tmp_path, f"# from here\n{ROUTE}") as agent:
        pids = [worker["pid"] for worker in (await agent.health())["workers"]]
        await reload(agent, ROUTE.replace('to = "*"', 'to = "sales"') + "[limits]\nmax_cals = 4\nring_seconds = 'x'\n")
        assert "did you mean max_calls" in agent.log() and "ring_seconds" in agent.log()
        async with sipp(caller(*ANSWERED), f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end:
            assert await far_end.finished() == 0, far_end.errors()
        assert [worker["pid"] for worker in (await agent.health())["workers"]] == pids


BRAIN = """
from sipagent.brain import Brain
from sipagent.brain.contract import Caller, Decline

class Changing(Brain):
    async def on_offer(self, caller: Caller) -> Decline | None:
        self.call.set_variable("code", {code!r})
        {decision}
"""


@pytest.mark.models
async def test_new_calls_get_new_code_and_old_calls_finish_on_the_old(tmp_path: Path) -> None:
    def write(decision: str, code: str) -> None:
        (tmp_path / "changing.py").write_text(BRAIN.format(decision=decision, code=code))

    write("return None", "old")
    route = '[[route]]\nbrain = "changing:Changing"\n'
    async with service(tmp_path, f"# from here\n{route}") as agent:
        await workers_ready(agent)
        (before,) = (await agent.health())["workers"]
        async with sipp(UNTIL_BYE, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16), limit_s=90) as far_end:
            old = await agent.call_in_state("connected")
            write("this is no Python", "broken")
            await reload(agent, route)
            async with asyncio.timeout(30):
                while "the old, which goes on" not in agent.log():
                    await asyncio.sleep(0.1)
            write("return Decline(486)", "new")
            await reload(agent, route)
            async with asyncio.timeout(30):
                while len(workers := await duties(agent)) != 2 or workers != {"serving", "retiring"}:
                    await asyncio.sleep(0.1)
            refused = caller(*OFFER, recv(486), ack())
            async with sipp(refused, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as other:
                assert await other.finished() == 0, other.errors()
            assert (await agent.http.get(f"/v1/calls/{old['id']}")).json()["state"] == "connected"
            await agent.http.post(f"/v1/calls/{old['id']}/hangup")
            assert await far_end.finished() == 0, far_end.errors()
        await agent.call_in_state("ended", old["id"])
        async with asyncio.timeout(10):
            while await duties(agent) != {"serving"}:
                await asyncio.sleep(0.1)
        (after,) = (await agent.health())["workers"]
        assert after["pid"] != before["pid"]
        assert not Path(f"/proc/{before['pid']}").exists()


async def duties(agent: Service) -> set[str]:
    return {worker["duty"] for worker in (await agent.health())["workers"]}
