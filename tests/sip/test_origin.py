"""Requests within a dialog, and CANCEL, are taken from the call's own far end only."""

import pytest

from sipagent.sip.dialog import Dialog
from sipagent.sip.engine import Cancelled, Confirmed, Ended, InDialogMessage
from sipagent.sip.flow import Flow
from sipagent.sip.origin import may_come_from
from tests.sip.test_call_flows import A, B, assert_nothing_left, dial, established, hangup, pair

STRANGER = "10.0.0.66"


@pytest.mark.rfc("3261", "26.1.3", "SHOULD", role="both", text="a forged BYE from a third address ends no call (UDP)")
@pytest.mark.parametrize("victim", ["caller", "callee"])
def test_forged_bye_from_a_third_address_ends_no_call(victim: str) -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    net.drop = lambda source, text: text.startswith("BYE ")
    from_, to, sender, ended = (A, B, a, b) if victim == "callee" else (B, A, b, a)
    hangup(sender, handle if victim == "callee" else other)
    net.run(0.1)
    forged = sender.requests("BYE")[0].encode()
    net.inject(STRANGER, to, forged)
    net.run(1)
    assert not ended.of(Ended)
    assert not ended.responses(481)
    assert ended.agent.stats()["foreign_requests"] == 1
    net.inject(from_, to, forged)
    net.run(1)
    assert ended.of(Ended)[0].by == "remote"


def test_forged_info_and_ack_from_a_third_address_change_nothing() -> None:
    net, a, b = pair()
    net.drop = lambda source, text: text.startswith(("ACK ", "INFO "))
    handle, _ = established(net, a, b)
    call = a.agent.call(handle)
    assert call is not None
    call.send_in_dialog("INFO", "text/plain", b"x", a.now)
    net.settle()
    for text in (a.requests("ACK")[0], a.requests("INFO")[0]):
        net.inject(STRANGER, B, text.encode())
    net.run(1)
    assert not b.of(Confirmed)
    assert not b.of(InDialogMessage)


@pytest.mark.rfc(
    "3261", "26.1.3", "SHOULD", role="UAS", text="a forged CANCEL from a third address cancels nothing (UDP)"
)
def test_forged_cancel_from_a_third_address_cancels_nothing() -> None:
    net, a, b = pair()
    net.drop = lambda source, text: text.startswith("CANCEL ")
    handle = dial(a)
    net.run(1)
    hangup(a, handle)
    net.settle()
    net.inject(STRANGER, B, a.requests("CANCEL")[0].encode())
    net.run(0.1)
    assert not b.of(Cancelled)
    assert b.agent.stats()["foreign_requests"] == 1
    net.drop = lambda source, text: False
    net.run(100)
    assert b.of(Cancelled)
    assert_nothing_left(net, a, b)


def dialog(target: str, *routes: str, flow: str = "192.0.2.1") -> Dialog:
    remote = Flow("UDP", (flow, 5060), ("10.0.0.1", 5060))
    return Dialog("c", "<sip:a@a>;tag=1", "1", "<sip:b@b>;tag=2", "2", target, routes, 0, None, remote)


@pytest.mark.parametrize(
    ("known", "address", "allowed"),
    [
        (dialog("sip:b@192.0.2.1:5060"), "192.0.2.1", True),
        (dialog("sip:b@192.0.2.1:5060"), "192.0.2.2", False),
        (dialog("sip:b@192.168.1.5:5060"), "192.0.2.1", True),  # behind NAT: where it came from, whatever it says
        (dialog("sip:b@192.0.2.7:5060"), "192.0.2.7", True),  # its remote target, or what a re-INVITE made of it
        (dialog("sip:b@192.168.1.5", "<sip:192.0.2.1;lr>", "<sip:192.0.2.9;lr>"), "192.0.2.9", True),
        (dialog("sip:b@192.168.1.5", "<sip:192.0.2.1;lr>"), "192.0.2.66", False),
        (dialog("sip:b@192.168.1.5", "<sip:proxy.test;lr>"), "192.0.2.66", True),  # a name may be any address
        (dialog("sip:b@[2001:DB8:0::1]", flow="2001:db8::7"), "2001:db8::1", True),
    ],
)
def test_address_is_one_of_the_dialogs(known: Dialog, address: str, allowed: bool) -> None:
    assert may_come_from(known, address) is allowed


@pytest.mark.rfc("3581", "4", "MUST", role="UAS", text="a far end whose NAT moves it to another port keeps its call")
def test_far_end_whose_port_has_moved_keeps_its_call() -> None:
    net, a, b = pair()
    handle, _ = established(net, a, b)
    hangup(a, handle)
    net.drop = lambda source, text: text.startswith("BYE ")
    net.settle()
    moved = Flow("UDP", (A, 40_000), (B, 5060))
    b.agent.receive(a.requests("BYE")[0].encode(), moved, net.now)
    net.run(0.1)
    assert b.of(Ended)[0].by == "remote"
