"""Calls from a trunk that wants digest must know its password; whoever knows it is let through."""

import pytest

from sipagent.sip.engine import Answered, Ended, IncomingCall, PlaceCall, TrunkAccount
from tests.sip.test_call_flows import SDP, A, B, answering
from tests.support.sipnet import Host, VirtualNetwork

CARRIER = TrunkAccount("carrier", f"sip:{A}", "agent", password="secret", domain="pbx.test", inbound_digest=True)


def line(password: str) -> tuple[VirtualNetwork, Host, Host]:
    """a is the carrier, which calls b with that password."""
    net = VirtualNetwork()
    a = net.host(A, TrunkAccount("b", f"sip:{B}", "agent", password=password), trunk_of={B: "b"})
    b = net.host(B, CARRIER, trunk_of={A: "carrier"})
    answering(b)
    return net, a, b


@pytest.mark.rfc("3261", "22.2", "MAY", role="UAS", text="an INVITE of a trunk that wants it is challenged with 401")
def test_call_with_the_right_password_comes_through() -> None:
    net, a, b = line("secret")
    a.agent.place(PlaceCall("agent", "b", SDP), a.now)
    net.run(1)
    assert a.of(Answered)
    challenge = b.responses(401)[0]
    assert 'WWW-Authenticate: Digest realm="pbx.test"' in challenge
    assert challenge.index("SHA-256") < challenge.index("MD5")
    call = b.of(IncomingCall)[0]
    assert "Authorization" not in dict(call.headers), "a brain has no use for credentials"


def test_call_with_a_wrong_password_is_nobodys() -> None:
    net, a, b = line("guessed")
    a.agent.place(PlaceCall("agent", "b", SDP), a.now)
    net.run(1)
    assert a.of(Ended)[0].status == 401
    assert not b.of(IncomingCall)
    assert b.agent.stats()["callers_challenged"] == 2


def test_credentials_are_good_for_one_call() -> None:
    net, a, b = line("secret")
    a.agent.place(PlaceCall("agent", "b", SDP), a.now)
    net.run(1)
    replayed = (
        a.requests("INVITE")[1].replace("branch=z9hG4bK", "branch=z9hG4bKagain").replace("Call-ID: ", "Call-ID: x")
    )
    net.inject(A, B, replayed.encode())
    net.run(1)
    assert len(b.of(IncomingCall)) == 1
    assert b.agent.stats()["callers_challenged"] == 2


def test_other_trunks_are_not_asked() -> None:
    net, a, b = line("secret")
    b.trunk_of.clear()
    a.agent.place(PlaceCall("agent", "b", SDP), a.now)
    net.run(1)
    assert not b.responses(401)
    assert b.of(IncomingCall)


@pytest.mark.rfc("3325", "5", "MUST", role="UAS", text="asserted identities are dropped unless a trunk sends them")
@pytest.mark.parametrize("known", [True, False])
def test_asserted_identities_are_believed_from_a_trunk_only(known: bool) -> None:
    net = VirtualNetwork()
    a, b = net.host(A), net.host(B, TrunkAccount("t", f"sip:{A}"), trunk_of={A: "t"} if known else {})
    said = (
        ("P-Asserted-Identity", "<sip:+491@x>"),
        ("Diversion", "<sip:2@x>"),
        ("X-Order", "7"),
        ("Identity", "e30.e30.x"),
    )
    a.agent.place(PlaceCall(f"sip:b@{B}", "", SDP, headers=said), a.now)
    net.run(1)
    heard = {name for name, _ in b.of(IncomingCall)[0].headers} & {name for name, _ in said}
    assert heard == ({name for name, _ in said} if known else {"X-Order", "Identity"})


@pytest.mark.rfc("8224", "6", "SHOULD", role="UAS", text="Identity reaches the brain as it came")
def test_identity_reaches_the_user_as_it_came() -> None:
    net = VirtualNetwork()
    a, b = net.host(A), net.host(B)
    token = "eyJhbGciOiJFUzI1NiJ9.eyJhdHRlc3QiOiJBIn0.c2ln;info=<https://cert.test/a.pem>;alg=ES256;ppt=shaken"
    a.agent.place(PlaceCall(f"sip:b@{B}", "", SDP, headers=(("Identity", token),)), a.now)
    net.run(1)
    assert ("Identity", token) in b.of(IncomingCall)[0].headers
