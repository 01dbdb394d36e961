"""What a dialog and its first request are held to beyond the flows: routes, repetitions, the first 100."""

import pytest

from sipagent.sip.dialog import Dialog
from sipagent.sip.engine import IncomingCall
from sipagent.sip.flow import Flow
from tests.sip.test_call_flows import A as CALLER
from tests.sip.test_call_flows import B, dial, pair


def dialog(*routes: str) -> Dialog:
    flow = Flow("UDP", ("192.0.2.1", 5060), ("10.0.0.1", 5060))
    return Dialog("c", "<sip:a@a>;tag=1", "1", "<sip:b@b>;tag=2", "2", "sip:b@192.0.2.7", routes, 4, None, flow)


@pytest.mark.rfc(
    "3261", "12.2.1.1", "MUST", role="both", text="loose routes stand in Route, the target in the Request-URI"
)
def test_request_follows_its_loose_routes() -> None:
    request = dialog("<sip:192.0.2.2;lr>", "<sip:192.0.2.3;lr>").request("BYE")
    assert str(request.uri) == "sip:b@192.0.2.7"
    assert request.headers.getlist("Route") == ["<sip:192.0.2.2;lr>", "<sip:192.0.2.3;lr>"]
    assert request.headers["CSeq"] == "5 BYE"


@pytest.mark.rfc(
    "3261", "12.2.1.1", "MUST", role="both", text="a strict router gets itself as Request-URI, the target last"
)
def test_strict_router_gets_the_target_at_the_end_of_the_route() -> None:
    request = dialog("<sip:192.0.2.2>", "<sip:192.0.2.3;lr>").request("BYE")
    assert str(request.uri) == "sip:192.0.2.2"
    assert request.headers.getlist("Route") == ["<sip:192.0.2.3;lr>", "<sip:b@192.0.2.7>"]


@pytest.mark.rfc("3261", "8.1.1.6", "MUST", role="UAC", text="every request carries Max-Forwards 70")
def test_request_carries_max_forwards() -> None:
    assert dialog().request("INFO").headers["Max-Forwards"] == "70"


@pytest.mark.rfc("3261", "17.2.1", "MUST", role="UAS", text="100 Trying leaves at once, before our user has decided")
def test_trying_leaves_at_once() -> None:
    net, a, b = pair()
    dial(a)
    net.run(0.03)
    assert len(b.responses(100)) == 1
    assert len(b.of(IncomingCall)) == 1
    assert not b.responses(180)


@pytest.mark.rfc(
    "3261", "17.2.3", "MUST", role="UAS", text="a repeated INVITE gets the latest response again and is one call"
)
def test_repeated_invite_is_one_call() -> None:
    net, a, b = pair()
    dial(a)
    net.run(0.1)
    b.agent.provisional(b.of(IncomingCall)[0].handle, 180, b"", (), b.now)
    net.run(0.1)
    for _ in range(3):
        net.inject(CALLER, B, a.requests("INVITE")[0].encode())
    net.run(0.2)
    assert len(b.of(IncomingCall)) == 1
    assert len(b.responses(180)) == 4


@pytest.mark.rfc("3581", "3", "MUST", role="UAC", text="every Via of ours over UDP asks for rport")
def test_via_asks_for_rport() -> None:
    net, a, _ = pair()
    dial(a)
    net.run(0.1)
    assert ";rport" in a.requests("INVITE")[0].split("\r\n")[1]


@pytest.mark.rfc(
    "3581", "4", "MUST", role="UAS", text="a response with rport goes to the very source, with received and rport"
)
def test_response_goes_to_the_source_that_asked_for_it() -> None:
    net, a, b = pair()
    dial(a)
    net.run(0.1)
    assert f";received={CALLER};rport=5060" in b.responses(100)[0]


@pytest.mark.rfc("3261", "19.3", "MUST", role="both", text="tags, branches and Call-IDs hold at least 32 random bits")
def test_tags_and_branches_are_random() -> None:
    _, a, _ = pair()
    tokens = {a.agent.layer.token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) * 4 >= 32 for token in tokens)
