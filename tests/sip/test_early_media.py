"""Audio before the answer, as SIP sees it: who has whose session description, and what the 2xx may still say."""

import pytest

from sipagent.sip.engine import Answered, Confirmed, EarlySession, IncomingCall, PlaceCall, Reoffer
from tests.support.sipnet import SDP, SDP2, Host, VirtualNetwork

A, B = "10.0.0.1", "10.0.0.2"
BOB = PlaceCall(f"sip:bob@{B}", "", SDP, from_user="alice")


def ringing(wanted: PlaceCall = BOB, *, can_prack: bool = True) -> tuple[VirtualNetwork, Host, Host, str]:
    """A call that `b` has to answer, and its handle; `can_prack` False takes 100rel out of the caller's INVITE."""
    net = VirtualNetwork()
    a, b = net.host(A), net.host(B)
    net.drop = lambda source, text: source == A and text.startswith("INVITE ")
    a.agent.place(wanted, a.now)
    net.run(0.01)
    invite = a.requests("INVITE")[0]
    net.drop = lambda source, text: False
    net.inject(A, B, (invite if can_prack else invite.replace("100rel, ", "")).encode())
    net.run(0.1)
    return net, a, b, b.of(IncomingCall)[0].handle


def in_dialog(a: Host, b: Host, method: str, number: int, more: str, body: bytes) -> bytes:
    """A request of the caller within the early dialog."""
    invite, early = a.requests("INVITE")[0], b.responses(183)[0]
    lines = [line for line in invite.split("\r\n") if line.startswith(("Via:", "From:", "Call-ID:", "Max-Forwards:"))]
    to = next(line for line in early.split("\r\n") if line.startswith("To:"))
    kept = [line.replace("branch=z9hG4bK", f"branch=z9hG4bK{number}") for line in lines]
    described = ["Content-Type: application/sdp"] if body else []
    head = [f"{method} sip:bob@{B} SIP/2.0", *kept, to, f"CSeq: {number} {method}", *more.splitlines(), *described]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def rack(a: Host, b: Host) -> str:
    def value(text: str, name: str) -> str:
        return next(line for line in text.split("\r\n") if line.startswith(f"{name}:")).split()[1]

    return f"RAck: {value(b.responses(183)[0], 'RSeq')} {value(a.requests('INVITE')[0], 'CSeq')} INVITE"


@pytest.mark.rfc("3261", "13.2.1", "MUST", role="UAS", text="the 2xx after an unreliable 183 repeats the same answer")
def test_without_100rel_the_200_repeats_the_answer_of_the_183() -> None:
    net, _, b, handle = ringing(can_prack=False)
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    net.run(0.1)
    assert b.of(EarlySession) == [EarlySession(handle)]
    assert "RSeq" not in b.responses(183)[0]
    b.agent.answer(handle, SDP2, (), b.now)
    net.run(0.1)
    assert b.responses(200)[0].endswith(SDP2.decode())


@pytest.mark.rfc("3261", "13.2.1", "MUST", role="UAS", text="after a reliable answer the 2xx makes no new offer")
@pytest.mark.rfc("3262", "5", "MUST", role="UAC", text="an answer in a reliable 183 holds when the 2xx repeats none")
def test_after_a_prack_the_200_is_silent_and_the_answer_of_the_183_holds() -> None:
    net, a, b, handle = ringing()
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    assert not b.of(EarlySession)  # the caller may not have it yet
    net.run(0.1)
    assert b.of(EarlySession) == [EarlySession(handle)]
    b.agent.answer(handle, SDP2, (), b.now)
    net.run(0.1)
    final = next(text for text in b.responses(200) if "INVITE\r\n" in text)
    assert "m=audio" not in final
    assert a.of(Answered)[0].body == SDP2
    assert b.of(Confirmed) == [Confirmed(handle, None)]


@pytest.mark.rfc(
    "3262", "5", "MUST", role="UAS", text="an INVITE without offer: ours is in the 183, the answer in PRACK"
)
def test_an_offer_in_the_183_is_answered_by_the_prack() -> None:
    net, a, b, handle = ringing(PlaceCall(f"sip:bob@{B}", "", b"", from_user="alice"))
    net.drop = lambda source, text: text.startswith("PRACK ")  # that of our own agent answers nothing
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    net.run(0.1)
    assert not b.of(EarlySession)
    net.drop = lambda source, text: False
    net.inject(A, B, in_dialog(a, b, "PRACK", 70001, rack(a, b), SDP))
    net.run(0.1)
    assert b.of(EarlySession) == [EarlySession(handle, SDP)]
    b.agent.answer(handle, SDP2, (), b.now)
    net.run(0.1)
    final = next(text for text in b.responses(200) if "INVITE\r\n" in text)
    assert "m=audio" not in final
    assert b.of(Confirmed) == [Confirmed(handle, None)]


def test_a_prack_that_should_answer_our_offer_and_does_not_leaves_it_to_the_200() -> None:
    net, _, b, handle = ringing(PlaceCall(f"sip:bob@{B}", "", b"", from_user="alice"))
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    net.run(0.1)
    assert not b.of(EarlySession)
    b.agent.answer(handle, SDP2, (), b.now)
    net.run(0.1)
    assert any("INVITE\r\n" in text and "m=audio" in text for text in b.responses(200))


@pytest.mark.rfc("3261", "13.3.1.1", "MUST", role="UAS", text="a call that is not answered is mentioned each minute")
@pytest.mark.rfc("3262", "3", "SHOULD", role="UAS", text="a reliable reminder comes each two and a half minutes")
@pytest.mark.parametrize(("can_prack", "times"), [(False, [0, 60, 120, 180]), (True, [0, 150])])
def test_proxies_are_reminded_of_a_call_that_waits(can_prack: bool, times: list[int]) -> None:
    net, _, b, handle = ringing(can_prack=can_prack)
    begun = b.now
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    net.run(200)
    told = [(round(at - begun), text) for at, text in b.sent if text.startswith("SIP/2.0 183 ")]
    assert [at for at, _ in told] == times
    # what has been agreed by PRACK is not offered again
    assert ["m=audio" in text for _, text in told] == [True] + [not can_prack] * (len(times) - 1)
    b.agent.answer(handle, SDP2, (), b.now)
    net.run(200)
    assert len(b.responses(183)) == len(times)


@pytest.mark.rfc("3311", "5.2", "MUST", role="UAS", text="an UPDATE that comes before the INVITE's answer gets 500")
def test_an_update_before_the_invites_answer_is_put_off_and_after_its_prack_taken() -> None:
    net, a, b, handle = ringing()
    net.drop = lambda source, text: text.startswith("PRACK ")
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    net.run(0.1)
    net.inject(A, B, in_dialog(a, b, "UPDATE", 70001, "", SDP2))
    net.run(0.1)
    assert "Retry-After: " in b.responses(500)[0]
    net.inject(A, B, in_dialog(a, b, "PRACK", 70002, rack(a, b), b""))
    net.inject(A, B, in_dialog(a, b, "UPDATE", 70003, "", SDP2))
    net.run(0.1)
    assert b.of(Reoffer) == [Reoffer(handle, SDP2)]


@pytest.mark.rfc("3311", "5.2", "MUST", role="UAC", text="an UPDATE that crosses our unanswered offer gets 491")
def test_an_update_that_comes_before_the_answer_to_our_offer_gets_491() -> None:
    net, a, b, handle = ringing(can_prack=False)
    b.agent.provisional(handle, 180, b"", (), b.now)
    net.run(0.1)
    invite, early = a.requests("INVITE")[0], b.responses(180)[0]
    lines = [line for line in early.split("\r\n") if line.startswith(("Via:", "Call-ID:"))]
    sender = next(line for line in invite.split("\r\n") if line.startswith("From:")).removeprefix("From:")
    target = next(line for line in early.split("\r\n") if line.startswith("To:")).removeprefix("To:")
    head = [f"UPDATE sip:alice@{A} SIP/2.0", *lines, f"From:{target}", f"To:{sender}", "CSeq: 5 UPDATE"]
    head += ["Max-Forwards: 70", "Content-Type: application/sdp", f"Content-Length: {len(SDP2)}", "", ""]
    net.inject(B, A, "\r\n".join(head).replace("branch=z9hG4bK", "branch=z9hG4bKu").encode() + SDP2)
    net.run(0.1)
    assert a.responses(491) and not a.of(Reoffer)
