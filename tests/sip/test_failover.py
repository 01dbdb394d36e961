"""A call whose first server is silent: the next is asked after 4 s, and what the first says then comes late."""

import pytest

from sipagent.sip.engine import Answered, Ended, IncomingCall, PlaceCall
from tests.sip.test_call_flows import SDP, A, B, answering, assert_nothing_left, dial, hangup
from tests.support.sipnet import Host, VirtualNetwork

C = "10.0.0.3"


def two_servers() -> tuple[VirtualNetwork, Host, Host, Host]:
    """a calls; b and c are both servers of b's address."""
    net = VirtualNetwork()
    hosts = net.host(A), net.host(B), net.host(C)
    net.targets[B] = (B, C)
    return net, *hosts


@pytest.mark.rfc(
    "3263", "4.3", "SHOULD", role="UAC", text="4 s without any answer to an INVITE: the next server is asked"
)
def test_silent_server_is_passed_over_after_4_seconds() -> None:
    net, a, b, c = two_servers()
    del net.hosts[B]
    answering(c)
    handle = dial(a)
    net.run(3.9)
    assert not c.of(IncomingCall)
    net.run(0.5)
    assert a.of(Answered)
    assert a.agent.stats()["targets_passed_over"] == 1
    hangup(a, handle)
    assert_nothing_left(net, a, c)
    assert not b.events


def test_server_that_rings_is_not_passed_over() -> None:
    net, a, b, c = two_servers()
    b.react = lambda event: b.agent.provisional(event.handle, 180, b"", (), b.now)  # type: ignore[union-attr]
    dial(a)
    net.run(20)
    assert not c.of(IncomingCall)
    assert len(b.of(IncomingCall)) == 1


def test_the_only_server_keeps_its_32_seconds() -> None:
    net = VirtualNetwork()
    a = net.host(A)
    dial(a)
    net.run(31)
    assert not a.of(Ended)
    net.run(2)
    assert a.of(Ended)[0].status == 408


@pytest.mark.rfc("3261", "9.1", "MUST", role="UAC", text="a server that rings after we passed it over gets CANCEL")
def test_server_that_rings_late_is_cancelled() -> None:
    net, a, b, c = two_servers()
    net.drop = lambda source, text: source == B and net.now < 1006
    b.react = None
    answering(c)
    handle = dial(a)
    net.run(20)
    assert len(a.of(Answered)) == 1
    assert a.requests("CANCEL")
    assert b.responses(487)
    assert not a.of(Ended)
    hangup(a, handle)
    assert_nothing_left(net, a, b, c)


@pytest.mark.rfc(
    "3261", "13.2.2.4", "MUST", role="UAC", text="a server that answers after we passed it over gets ACK and BYE"
)
def test_server_that_answers_late_gets_ack_and_bye() -> None:
    net, a, b, c = two_servers()
    net.drop = lambda source, text: source == B and net.now < 1006
    answering(b)
    answering(c)
    handle = dial(a)
    net.run(20)
    assert len(a.of(Answered)) == 1
    assert b.of(Ended)[0].by == "remote"
    call = a.agent.call(handle)
    assert call is not None
    assert call.confirmed
    hangup(a, handle)
    assert_nothing_left(net, a, b, c)


def test_call_that_is_given_up_meanwhile_asks_nobody_else() -> None:
    net, a, b, c = two_servers()
    del net.hosts[B]
    handle = a.agent.place(PlaceCall(f"sip:bob@{B}", "", SDP), a.now)
    net.run(1)
    hangup(a, handle)
    net.run(40)
    assert not c.of(IncomingCall)
    assert_nothing_left(net, a)
    assert not b.events
