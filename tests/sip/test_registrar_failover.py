"""A registration that one server loses is taken up by another, and by the first again when its turn comes."""

import contextlib
import re

import pytest

from sipagent.sip.engine import (
    Ended,
    EngineEvent,
    EngineSettings,
    PlaceCall,
    RegistrationChanged,
    RegistrationState,
    TrunkAccount,
)
from sipagent.sip.finder import Finder
from sipagent.sip.flow import Flow, Locate, Send
from sipagent.sip.native import NativeEngine
from sipagent.sip.resolver import Records, Srv
from sipagent.sip.transport import Transports
from tests.sip.support import SDP, Station
from tests.support.kamailio import Kamailio, kamailio
from tests.support.sipnet import Host, VirtualNetwork

US, FIRST, SECOND = "10.0.0.2", "10.0.0.1", "10.0.0.3"
TRUNK = TrunkAccount("t", f"sip:{FIRST}", "agent", expires_s=300)


class RegistrarHost:
    """A registrar on the virtual network: it holds the binding that came last, or is down."""

    def __init__(self, net: VirtualNetwork, address: str) -> None:
        self.agent, self.net, self.address, self.protocol = self, net, address, "UDP"
        self.sent: list[tuple[float, str]] = []
        self.received: list[tuple[float, str]] = []
        self.down = self.busy = False
        self.bound_until = 0.0
        self.deadline: float | None = None
        self._out: list[Send] = []
        net.hosts[address] = self  # type: ignore[assignment]

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        text = data.decode()
        if self.down:
            return
        kept = [line for line in text.split("\r\n") if line.split(":")[0] in COPIED]
        expires = int(re.search(r"Expires: (\d+)", text)[1])  # type: ignore[index]
        if not self.busy:
            self.bound_until = now + expires
        status = "503 Busy" if self.busy else "200 OK"
        answer = "\r\n".join((f"SIP/2.0 {status}", *kept, "Content-Length: 0", "", ""))
        self._out.append(Send(Flow("UDP", (US, 5060), (self.address, 5060)), answer.encode()))

    def on_deadline(self, now: float) -> None: ...

    def drain(self) -> tuple[list[Send], list[EngineEvent]]:
        out, self._out = self._out, []
        return out, []


def registered() -> tuple[VirtualNetwork, Host, RegistrarHost, RegistrarHost]:
    net = VirtualNetwork()
    us = net.host(US, TRUNK, trunk_of={FIRST: "t", SECOND: "t"})
    first, second = RegistrarHost(net, FIRST), RegistrarHost(net, SECOND)
    net.targets[FIRST] = (FIRST, SECOND)
    us.agent.bindings.register(TRUNK, f"sip:agent@{US}:5060", True, net.now)
    net.run(1)
    return net, us, first, second


def states(us: Host) -> list[RegistrationState]:
    return [event.state for event in us.of(RegistrationChanged)]


def bound(net: VirtualNetwork, *registrars: RegistrarHost) -> bool:
    return any(not one.down and one.bound_until > net.now for one in registrars)


COPIED = ("Via", "From", "To", "Call-ID", "CSeq", "Contact")
HELD = [RegistrationState.REGISTERING, RegistrationState.REGISTERED]


@pytest.mark.rfc("3263", "4.3", "SHOULD", role="UAC", text="a registration that is lost fails over, and back")
def test_a_registration_fails_over_to_the_second_server_and_back() -> None:
    net, us, first, second = registered()
    assert first.bound_until and not second.received
    for up, down in ((second, first), (first, second), (second, first)):
        up.down, down.down = False, True
        net.run(303)  # the binding that was, and the time that a REGISTER may be on its way
        assert bound(net, up)
        net.run(1000)
        assert bound(net, up)
    assert states(us) == HELD, "nobody noticed: each refresh found the other server before the binding ended"


def test_a_server_that_says_503_is_left_at_once() -> None:
    net, us, first, second = registered()
    first.busy = True
    us.agent.bindings._bindings["t"].registration.move(f"sip:agent@{US}:5070", net.now)
    us.agent.bindings._run(us.agent.bindings._bindings["t"], net.now)
    net.run(1)
    assert bound(net, second)
    assert states(us) == HELD


@pytest.mark.rfc("5626", "4.5", "MUST", role="UAC", text="with every server down the wait grows, and either may end it")
@pytest.mark.parametrize("which", [0, 1])
def test_with_both_servers_down_either_ends_the_wait(which: int) -> None:
    net, us, first, second = registered()
    first.down = second.down = True
    net.run(3 * 3600)
    assert states(us)[-1] is RegistrationState.UNREACHABLE
    tries = len([at for at, text in us.sent if text.startswith("REGISTER") and at > net.now - 3600])
    assert tries < 120, "half an hour at most between the attempts, each of eleven messages to two servers"
    (first, second)[which].down = False
    net.run(1800 + 64)
    assert bound(net, first, second)
    assert states(us)[-1] is RegistrationState.REGISTERED


# ---- two real ones


class TwoServers:
    """DNS in which pbx.test has two servers, the first of the better priority."""

    def __init__(self, first: int, second: int, transport: str = "tcp") -> None:
        self._service = f"_sip._{transport}.pbx.test"
        self._servers = tuple(Srv(priority, 1, port, "one.test") for priority, port in ((1, first), (2, second)))

    async def query(self, name: str, kind: str) -> Records:
        known = {(self._service, "SRV"): self._servers, ("one.test", "A"): ("127.0.0.1",)}
        return Records(known.get((name, kind), ()), 60.0)


async def test_the_first_server_is_found_again_when_the_second_held_the_flow() -> None:
    transports = Transports(lambda data, flow: None, lambda flow: None)
    await transports.listen(("udp:127.0.0.1:0",))
    finder = Finder(transports, TwoServers(25543, 25546, "udp"), lambda uri, found: None)
    where = "sip:pbx.test;transport=udp"

    def asking(key: int, attempt: int, tried: int) -> Locate:
        return Locate(key, where, attempt, 500, frozenset({("UDP", "127.0.0.1", tried)}))

    flow, _ = await finder.find(asking(1, 1, 25543))
    assert flow is not None and flow.remote[1] == 25546
    assert [target.port for target in await finder.resolve(where)] == [25546, 25543], "the silent one comes last"
    flow, _ = await finder.find(asking(2, 1, 25546))
    assert flow is not None and flow.remote[1] == 25543
    nowhere, _ = await finder.find(asking(2, 2, 25546))
    assert nowhere is None
    await transports.close()


@pytest.mark.peers
@pytest.mark.rfc("3263", "4.3", "SHOULD", role="UAC", text="registration and calls move between two Kamailios and back")
async def test_registration_and_calls_move_between_two_real_servers_and_back() -> None:
    account = TrunkAccount("pbx", "sip:pbx.test;transport=tcp", "agent", password="agent-secret", expires_s=60)
    settings = EngineSettings(listen=("tcp:127.0.0.1:25541",), trunks=(account,))
    agent = Station(settings)
    agent.engine = NativeEngine(settings, None, TwoServers(25543, 25546))
    calls = 0

    async def works_at(server: Kamailio) -> None:
        nonlocal calls
        await server.registered("agent")
        agent.engine.place(PlaceCall("nobody", "pbx", SDP))
        calls += 1
        assert (await agent.expect(Ended, calls, 15)).status == 404, "whom Kamailio does not know"

    async with contextlib.AsyncExitStack() as second_runs:
        async with kamailio(25543) as first:
            await agent.engine.start(agent.note)
            await works_at(first)
            second = await second_runs.enter_async_context(kamailio(25546))
        await works_at(second)
        async with kamailio(25543) as first:
            assert await first.contacts("agent") == [], "it stays where it is held, and moves when that is lost"
            await second_runs.aclose()
            await works_at(first)
            await agent.engine.stop()
    assert [event.state for event in agent.events if isinstance(event, RegistrationChanged)][:2] == HELD
