"""Two user agents without sockets: whole calls in virtual time, also over a line that loses messages."""

import itertools

import pytest

from sipagent.sip.call_state import TRANSITIONS, CallInput, CallState
from sipagent.sip.engine import (
    Answered,
    Cancelled,
    Confirmed,
    Ended,
    EngineEvent,
    IncomingCall,
    InDialogMessage,
    PlaceCall,
    Progress,
    Reoffer,
    ReofferAnswered,
    ReofferRefused,
    TransferProgress,
    TransferRequested,
)
from sipagent.sip.flow import Send
from tests.support.sipnet import SDP, SDP2, Host, VirtualNetwork

A, B = "10.0.0.1", "10.0.0.2"


def pair(**kwargs: float) -> tuple[VirtualNetwork, Host, Host]:
    net = VirtualNetwork(**kwargs)  # type: ignore[arg-type]
    return net, net.host(A), net.host(B)


def answering(host: Host, ring_s: float = 0.0) -> None:
    def react(event: EngineEvent) -> None:
        if isinstance(event, IncomingCall):
            host.agent.provisional(event.handle, 180, b"", (), host.now)
            host.agent.answer(event.handle, SDP, (), host.now)
        elif isinstance(event, Reoffer):
            call = host.agent.call(event.handle)
            assert call is not None
            call.reoffers.accept(SDP2, host.now)

    host.react = react


def dial(host: Host, to: str = B, offer: bytes = SDP) -> str:
    return host.agent.place(PlaceCall(f"sip:bob@{to}", "", offer, from_user="alice"), host.now)


def established(net: VirtualNetwork, a: Host, b: Host) -> tuple[str, str]:
    answering(b)
    handle = dial(a)
    net.run(1)
    assert a.of(Answered)
    return handle, b.of(IncomingCall)[0].handle


def hangup(host: Host, handle: str) -> None:
    call = host.agent.call(handle)
    assert call is not None
    call.hangup((), host.now)


def assert_nothing_left(net: VirtualNetwork, *hosts: Host) -> None:
    net.run(100)
    for host in hosts:
        stats = host.agent.stats()
        assert (stats["calls"], stats["dialogs"], stats["transactions"]) == (0, 0, 0)
        assert not host.agent._invites
        assert host.agent.deadline is None or host.agent.deadline > host.now


@pytest.mark.parametrize(("state", "event"), list(itertools.product(CallState, CallInput)))
def test_call_moves_by_its_table_only(state: CallState, event: CallInput) -> None:
    _, a, _ = pair()
    call = a.agent.call(dial(a))
    assert call is not None
    call.state = state
    assert call.step(event) is ((state, event) in TRANSITIONS)
    assert call.state is TRANSITIONS.get((state, event), state)


@pytest.mark.rfc("3261", "13.2.2.4", "MUST", role="UAC", text="a 2xx is acknowledged with an ACK of its own")
@pytest.mark.rfc("3261", "13.3.1.4", "MUST", role="UAS", text="a 2xx answers the INVITE, its ACK confirms the dialog")
@pytest.mark.rfc("3261", "15.1.1", "MUST", role="UAC", text="BYE ends a confirmed dialog at once")
@pytest.mark.rfc("3261", "15.1.2", "SHOULD", role="UAS", text="BYE gets a 2xx and ends the session")
def test_call_is_answered_confirmed_and_ended_by_the_caller() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    assert [type(event) for _, event in a.events] == [Progress, Answered]
    assert b.of(Confirmed) == [Confirmed(other, None)]
    hangup(a, handle)
    net.run(1)
    assert a.of(Ended)[0].by == "local"
    assert b.of(Ended)[0].by == "remote"
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "15.1.1", "MUST", role="UAS", text="the callee ends a confirmed dialog with BYE")
def test_call_is_ended_by_the_callee() -> None:
    net, a, b = pair()
    _, other = established(net, a, b)
    hangup(b, other)
    net.run(1)
    assert a.of(Ended)[0].by == "remote"
    assert_nothing_left(net, a, b)


@pytest.mark.rfc(
    "3261",
    "17",
    "MUST",
    role="both",
    text="repetitions carry a call over a line that loses a third of its messages; nothing is left",
)
@pytest.mark.parametrize("seed", range(25))
def test_call_comes_about_and_ends_over_a_line_that_loses_a_third(seed: int) -> None:
    net, a, b = pair(seed=seed, loss=0.33, jitter_s=0.1)
    answering(b)
    handle = dial(a)
    net.run(40)
    assert len(b.of(IncomingCall)) == 1
    if a.agent.call(handle) is not None:  # eleven 2xx or their ACKs may all be lost
        hangup(a, handle)
    net.run(100)
    assert len(a.of(Ended)) == 1
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "13.3.1.4", "MUST", role="UAS", text="2xx is repeated until the ACK comes")
@pytest.mark.rfc("3261", "13.2.2.4", "MUST", role="UAC", text="every repetition of a 2xx gets the ACK again")
def test_lost_ack_repeats_the_answer_and_nothing_else() -> None:
    net, a, b = pair()
    lost = itertools.count()
    net.drop = lambda source, text: text.startswith("ACK ") and next(lost) < 3
    established(net, a, b)
    net.run(5)
    assert len(b.responses(200)) == 4
    assert len(a.of(Answered)) == 1
    assert len(b.of(Confirmed)) == 1


@pytest.mark.rfc("3261", "13.3.1.4", "SHOULD", role="UAS", text="64*T1 without ACK: the session is ended with BYE")
def test_answer_without_any_ack_ends_with_bye_after_32_seconds() -> None:
    net, a, b = pair()
    net.drop = lambda source, text: text.startswith("ACK ")
    established(net, a, b)
    net.run(29)
    assert not b.of(Ended)
    net.run(4)
    assert b.of(Ended) == [Ended(b.of(IncomingCall)[0].handle, "timeout", 408, "no ACK")]
    assert len(b.requests("BYE")) == 1
    assert a.of(Ended)[0].by == "remote"
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "15", "MUST", role="UAS", text="no BYE before the ACK of our 2xx, or its time-out")
def test_hangup_before_the_ack_waits_for_it() -> None:
    net, a, b = pair()
    net.drop = lambda source, text: text.startswith("ACK ") and net.now < 1003
    _, other = established(net, a, b)
    hangup(b, other)
    net.settle()
    assert b.of(Ended)[0].by == "local"
    assert not b.requests("BYE")
    net.run(5)
    assert len(b.requests("BYE")) == 1
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "9.2", "SHOULD", role="UAS", text="CANCEL gets 200, the INVITE 487")
@pytest.mark.rfc("3261", "9.1", "SHOULD", role="UAC", text="an unanswered call is given up by CANCEL")
def test_caller_who_gives_up_cancels_and_the_callee_is_told() -> None:
    net, a, b = pair()
    handle = dial(a)
    net.run(1)
    hangup(a, handle)
    net.run(1)
    assert b.of(Cancelled)
    assert b.responses(487)
    assert a.of(Ended) == [Ended(handle, "local", 487)]
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "9.1", "MUST", role="UAC", text="CANCEL is not sent before a provisional response")
def test_cancel_waits_for_the_first_provisional_response() -> None:
    net, a, b = pair()
    handle = dial(a)
    hangup(a, handle)
    assert not a.requests("CANCEL")
    net.run(1)
    assert a.requests("CANCEL")
    assert b.of(Cancelled)
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "13.2.2.4", "MUST", role="UAC", text="a 2xx that crosses our CANCEL gets ACK, then BYE")
def test_answer_that_crosses_a_cancel_is_acknowledged_and_ended() -> None:
    net, a, b = pair(delay_s=0.1)
    handle = dial(a)
    net.run(0.35)
    hangup(a, handle)
    net.settle()
    b.agent.answer(b.of(IncomingCall)[0].handle, SDP, (), b.now)
    net.run(2)
    assert not a.of(Answered)
    assert len(a.requests("ACK")) == 1
    assert len(a.requests("BYE")) == 1
    assert b.of(Ended)[0].by == "remote"
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "13.2.2.3", "MUST", role="UAC", text="a refusal ends the call; status and headers are kept")
@pytest.mark.rfc("3261", "20.33", "MUST", role="UAC", text="Retry-After of a refusal reaches the user")
def test_refusal_reaches_the_caller_with_status_and_headers() -> None:
    net, a, b = pair()
    dial(a)
    net.run(0.2)
    b.agent.reject(b.of(IncomingCall)[0].handle, 503, "Full", (("Retry-After", "7"),), b.now)
    net.run(1)
    ended = a.of(Ended)[0]
    assert (ended.by, ended.status, ended.reason) == ("refused", 503, "Full")
    assert ("Retry-After", "7") in ended.headers
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "13.3.1", "SHOULD", role="UAS", text="an INVITE that expires before the answer gets 487")
def test_invite_that_expires_is_withdrawn() -> None:
    net, a, b = pair()
    a.agent.place(PlaceCall(f"sip:bob@{B}", "", SDP, headers=(("Expires", "20"),)), a.now)
    net.run(19)
    assert not b.of(Cancelled)
    net.run(2)
    assert b.of(Cancelled)[0].reason == "the INVITE expired"
    assert a.of(Ended)[0].status == 487
    assert_nothing_left(net, a, b)


@pytest.mark.rfc("3261", "19.1.2", "MUST", role="both", text="characters that the user part does not allow are escaped")
def test_user_part_of_an_odd_request_uri_is_escaped_in_our_contact() -> None:
    net, a, b = pair()
    answering(b)
    a.agent.place(PlaceCall(f"sip:sips%3Auser%40example.com@{B}", "", SDP), a.now)
    net.run(1)
    assert f"Contact: <sip:sips%3Auser%40example.com@{B}:5060>" in b.responses(200)[0]
    assert b.of(Confirmed)


@pytest.mark.rfc("3262", "5", "MUST", role="UAS", text="an offer in a PRACK is answered in its 2xx")
def test_offer_in_a_prack_is_answered_in_its_200() -> None:
    net, a, b = pair()
    a.agent.place(PlaceCall(f"sip:bob@{B}", "", SDP), a.now)
    net.run(0.1)
    handle = b.of(IncomingCall)[0].handle
    net.drop = lambda source, text: text.startswith("PRACK ")
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    net.run(0.1)
    prack = a.requests("PRACK")[0].replace(
        "Content-Length: 0\r\n", f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n"
    )
    net.inject(A, B, prack.encode() + SDP)
    net.run(0.1)
    assert b.of(Reoffer) == [Reoffer(handle, SDP)]
    call = b.agent.call(handle)
    assert call is not None
    call.reoffers.accept(SDP2, b.now)
    net.run(0.1)
    assert any("PRACK" in text and SDP2.decode() in text for text in b.responses(200))


@pytest.mark.rfc(
    "3261", "14.2", "MUST", role="UAS", text="a second INVITE before the first has its answer gets 500 with Retry-After"
)
def test_second_reinvite_before_the_first_is_answered_gets_500_with_retry_after() -> None:
    net, a, b = pair()
    handle, _ = established(net, a, b)
    b.react = None
    call = a.agent.call(handle)
    assert call is not None
    call.reoffers.offer(SDP2, a.now)
    net.run(0.1)
    again = a.requests("INVITE")[-1]
    number = int(again.split("CSeq: ")[1].split()[0])
    again = again.replace("branch=z9hG4bK", "branch=z9hG4bKx").replace(f"CSeq: {number}", f"CSeq: {number + 1}")
    net.inject(A, B, again.encode())
    net.run(0.1)
    assert "Retry-After: " in b.responses(500)[0]


@pytest.mark.rfc("3261", "17.1.1.2", "MUST", role="UAC", text="timer B: 64*T1 without any response ends the attempt")
def test_no_answer_at_all_ends_after_32_seconds() -> None:
    net, a, _ = pair()
    dial(a, "10.0.0.9")
    net.run(31)
    assert not a.of(Ended)
    net.run(2)
    assert (a.of(Ended)[0].by, a.of(Ended)[0].status) == ("timeout", 408)
    assert_nothing_left(net, a)


@pytest.mark.rfc("3262", "4", "MUST", role="UAC", text="a reliable provisional response gets PRACK")
@pytest.mark.rfc(
    "3262",
    "3",
    "MUST",
    role="UAS",
    text="a provisional response with a session description is sent reliably when the caller can",
)
def test_early_media_travels_in_a_reliable_183_with_prack() -> None:
    net, a, b = pair()
    dial(a)
    net.run(0.2)
    handle = b.of(IncomingCall)[0].handle
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    net.run(0.2)
    progress = a.of(Progress)[0]
    assert (progress.status, progress.body) == (183, SDP2)
    assert a.requests("PRACK")
    b.agent.answer(handle, SDP2, (), b.now)
    net.run(1)
    assert a.of(Answered)
    assert b.of(Confirmed)


@pytest.mark.rfc("3262", "3", "MUST", role="UAS", text="a reliable provisional response is repeated until its PRACK")
@pytest.mark.rfc(
    "3262", "4", "MUST", role="UAC", text="a reliable response that comes again, or out of order, is not told twice"
)
def test_lost_reliable_183_is_repeated_and_told_once() -> None:
    net, a, b = pair()
    lost = itertools.count()
    net.drop = lambda source, text: text.startswith("SIP/2.0 183") and next(lost) < 2
    dial(a)
    net.run(0.2)
    b.agent.provisional(b.of(IncomingCall)[0].handle, 183, SDP2, (), b.now)
    net.run(5)
    assert len(b.responses(183)) == 3
    assert len(a.of(Progress)) == 1


@pytest.mark.rfc(
    "3262",
    "3",
    "MUST",
    role="UAS",
    text="no 2xx while a reliable response with a session description waits for its PRACK",
)
def test_answer_waits_for_the_prack() -> None:
    net, a, b = pair()
    net.drop = lambda source, text: text.startswith("PRACK ") and net.now < 1002
    dial(a)
    net.run(0.2)
    handle = b.of(IncomingCall)[0].handle
    b.agent.provisional(handle, 183, SDP2, (), b.now)
    b.agent.answer(handle, SDP2, (), b.now)
    net.run(0.5)
    assert not b.responses(200)
    net.run(5)
    assert a.of(Answered)


@pytest.mark.rfc("3262", "3", "SHOULD", role="UAS", text="64*T1 without PRACK: the INVITE is refused with 5xx")
def test_reliable_response_without_prack_fails_the_call() -> None:
    net, a, b = pair()
    net.drop = lambda source, text: text.startswith("PRACK ")
    dial(a)
    net.run(0.2)
    b.agent.provisional(b.of(IncomingCall)[0].handle, 183, SDP2, (), b.now)
    net.run(40)
    assert b.of(Ended)[0].by == "timeout"
    assert a.of(Ended)[0].status == 504


@pytest.mark.rfc("3261", "14.1", "MUST", role="UAC", text="re-INVITE with an offer changes a running session")
@pytest.mark.rfc("3261", "14.2", "MUST", role="UAS", text="a re-INVITE is answered with an answer to its offer")
def test_reoffer_goes_both_ways() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    call = a.agent.call(handle)
    assert call is not None
    call.reoffers.offer(SDP2, a.now)
    net.run(1)
    assert b.of(Reoffer) == [Reoffer(other, SDP2)]
    assert a.of(ReofferAnswered) == [ReofferAnswered(handle, SDP2)]
    answering(a)
    back = b.agent.call(other)
    assert back is not None
    back.reoffers.offer(SDP, b.now)
    net.run(1)
    assert a.of(Reoffer) == [Reoffer(handle, SDP)]
    assert b.of(ReofferAnswered)


@pytest.mark.rfc("3261", "14.1", "MUST", role="UAC", text="a refused re-INVITE leaves the session as it was")
def test_refused_reoffer_leaves_the_session() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    b.react = None
    call, back = a.agent.call(handle), b.agent.call(other)
    assert call is not None
    assert back is not None
    call.reoffers.offer(SDP2, a.now)
    net.run(0.5)
    back.reoffers.reject(488, "", b.now)
    net.run(1)
    assert a.of(ReofferRefused) == [ReofferRefused(handle, 488, "Not Acceptable Here")]
    assert call.confirmed


@pytest.mark.rfc("3261", "14.2", "MUST", role="UAS", text="an INVITE that meets our own pending one gets 491")
@pytest.mark.rfc(
    "3261", "14.1", "SHOULD", role="UAC", text="after 491 the owner of the Call-ID waits 2.1 to 4 s, the other 0 to 2 s"
)
def test_offers_that_cross_get_491_and_both_succeed_in_the_end() -> None:
    net, a, b = pair(delay_s=0.1)
    handle, other = established(net, a, b)
    answering(a)
    call, back = a.agent.call(handle), b.agent.call(other)
    assert call is not None
    assert back is not None
    call.reoffers.offer(SDP2, a.now)
    back.reoffers.offer(SDP, b.now)
    net.run(8)
    assert a.responses(491)
    assert b.responses(491)
    assert len(a.of(ReofferAnswered)) == len(b.of(ReofferAnswered)) == 1
    first_a = next(at for at, text in a.sent if text.startswith("INVITE ") and at > 1000.5)
    second_a = [at for at, text in a.sent if text.startswith("INVITE ") and at > first_a]
    assert second_a[0] - first_a > 2.1  # a owns the Call-ID
    assert call.confirmed
    assert back.confirmed


@pytest.mark.rfc("3261", "14.1", "MUST", role="UAC", text="no second INVITE transaction while one is in progress")
def test_reoffer_queues_behind_a_pending_one_and_the_latest_wins() -> None:
    net, a, b = pair()
    handle, _ = established(net, a, b)
    call = a.agent.call(handle)
    assert call is not None
    for body in (SDP2, SDP, SDP2):
        call.reoffers.offer(body, a.now)
    net.run(2)
    assert [event.offer for event in b.of(Reoffer)] == [SDP2, SDP2]


@pytest.mark.rfc("3261", "12.2.1.2", "SHOULD", role="UAC", text="481 or 408 to a request within the dialog ends it")
def test_far_end_that_forgot_the_dialog_ends_the_call_at_a_reoffer() -> None:
    net, a, b = pair()
    handle, _ = established(net, a, b)
    net.hosts.pop(B)
    net.host(B)  # restarted
    call = a.agent.call(handle)
    assert call is not None
    call.reoffers.offer(SDP2, a.now)
    net.run(2)
    assert a.of(Ended)[0].status == 481
    assert_nothing_left(net, a)


@pytest.mark.rfc(
    "3261", "13.2.1", "MUST", role="UAC", text="an INVITE without offer: the offer is in the 2xx, the answer in the ACK"
)
@pytest.mark.rfc("3261", "13.3.1.4", "MUST", role="UAS", text="an INVITE without offer gets our offer in the 2xx")
def test_delayed_offer_brings_the_answer_in_the_ack() -> None:
    net, a, b = pair()
    handle = dial(a, offer=b"")
    answering(b)
    net.run(1)
    assert b.of(IncomingCall)[0].offer is None
    assert a.of(Answered)[0].body == SDP
    del handle


@pytest.mark.rfc("6086", "4.2", "MUST", role="UAS", text="INFO within a dialog is answered and handed on")
@pytest.mark.rfc("3428", "7", "MUST", role="UAS", text="MESSAGE within a dialog is answered and handed on")
def test_info_and_message_travel_within_the_call() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    call = a.agent.call(handle)
    assert call is not None
    call.send_in_dialog("INFO", "application/dtmf-relay", b"Signal=5\r\n", a.now)
    call.send_in_dialog("MESSAGE", "text/plain", b"hello", a.now)
    net.run(1)
    assert b.of(InDialogMessage) == [
        InDialogMessage(other, "INFO", "application/dtmf-relay", b"Signal=5\r\n"),
        InDialogMessage(other, "MESSAGE", "text/plain", b"hello"),
    ]


@pytest.mark.rfc("3261", "12.2.2", "MUST", role="UAS", text="a lower CSeq within the dialog gets 500")
def test_request_with_an_older_number_gets_500() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    for body in (b"1", b"2"):
        call = a.agent.call(handle)
        assert call is not None
        call.send_in_dialog("INFO", "text/plain", body, a.now)
        net.run(1)
    old = a.requests("INFO")[0].replace("branch=z9hG4bK", "branch=z9hG4bKold")
    net.inject(A, B, old.encode())
    net.run(1)
    assert len(b.responses(500)) == 1
    assert [event.body for event in b.of(InDialogMessage)] == [b"1", b"2"]
    del other


@pytest.mark.rfc(
    "3515", "2.4.4", "MUST", role="UAS", text="an accepted REFER is reported by NOTIFY at once and at its end"
)
@pytest.mark.rfc(
    "3515",
    "2.4.5",
    "MUST",
    role="UAS",
    text="NOTIFY carries a message/sipfrag status line; the last one ends the subscription",
)
@pytest.mark.rfc("3892", "3", "SHOULD", role="UAC", text="REFER carries Referred-By")
def test_transfer_is_asked_accepted_reported_and_done() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    a.agent.refer(handle, "sip:carol@10.0.0.3", None, a.now)
    net.run(0.5)
    asked = b.of(TransferRequested)[0]
    assert asked.refer_to == "sip:carol@10.0.0.3"
    assert "sip:alice@" in asked.referred_by
    back = b.agent.call(other)
    assert back is not None
    back.transfers.accept(b.now)
    net.run(0.5)
    back.transfers.notify(200, "OK", True, b.now)
    net.run(0.5)
    assert [(event.status, event.done) for event in a.of(TransferProgress)] == [(100, False), (200, True)]
    back.transfers.notify(200, "OK", True, b.now)
    net.run(0.5)
    assert len(a.of(TransferProgress)) == 2


@pytest.mark.rfc("3515", "2.4.2", "MUST", role="UAS", text="a REFER that we do not accept gets a refusal")
def test_refused_transfer_is_told() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    a.agent.refer(handle, "sip:carol@10.0.0.3", None, a.now)
    net.run(0.5)
    back = b.agent.call(other)
    assert back is not None
    back.transfers.reject(603, b.now)
    net.run(0.5)
    assert a.of(TransferProgress) == [TransferProgress(handle, 603, "Decline", True)]


@pytest.mark.rfc(
    "3891",
    "3",
    "MUST",
    role="UAS",
    text="an INVITE with Replaces takes the place of the call that it names, which is ended with BYE",
)
def test_attended_transfer_replaces_the_old_call() -> None:
    """a talks to b; c takes b's place: c calls a with Replaces, a answers, and the call to b ends."""
    net, a, b = pair()
    c = net.host("10.0.0.3")
    handle, other = established(net, a, b)
    replaces = b.agent.replaces(other)  # as a third party would learn it in Refer-To
    call_id, to_tag, from_tag = replaces.split(";")
    c.agent.place(
        PlaceCall("sip:alice@10.0.0.1", "", SDP, "carol", headers=(("Replaces", replaces), ("Require", "replaces"))),
        c.now,
    )
    del call_id, to_tag, from_tag
    answering(a)
    net.run(1)
    assert a.of(IncomingCall)[0].replaces == handle
    assert c.of(Answered)
    assert b.of(Ended)[0].by == "remote"
    assert [event.handle for event in a.of(Ended)] == [handle]


@pytest.mark.rfc("3891", "3", "MUST", role="UAS", text="Replaces that matches no dialog gets 481")
def test_replaces_of_nothing_gets_481() -> None:
    net, a, b = pair()
    a.agent.place(PlaceCall(f"sip:b@{B}", "", SDP, headers=(("Replaces", "x;to-tag=1;from-tag=2"),)), a.now)
    net.run(1)
    assert a.of(Ended)[0].status == 481
    assert not b.of(IncomingCall)


@pytest.mark.rfc(
    "3261",
    "13.2.2.4",
    "MUST",
    role="UAC",
    text="each 2xx of a forked INVITE gets ACK; the dialogs that are not wanted get BYE",
)
@pytest.mark.rfc(
    "6026", "7.2", "MUST", role="UAC", text="a client transaction hands on every 2xx, also after the first"
)
def test_forked_answers_keep_the_first_and_end_the_others() -> None:
    net, a, b = pair()
    answering(b)
    handle = dial(a)
    net.run(0.1)
    second = next(text for text in b.responses(200)).replace(
        "To: <sip:bob@10.0.0.2>;tag=", "To: <sip:bob@10.0.0.2>;tag=z"
    )
    net.inject(B, A, second.encode())
    net.run(2)
    assert len(a.of(Answered)) == 1
    byes = a.requests("BYE")
    assert byes
    assert ";tag=z" in byes[0]
    assert len([text for text in a.requests("ACK") if ";tag=z" in text]) == 1
    call = a.agent.call(handle)
    assert call is not None
    assert call.confirmed


@pytest.mark.rfc(
    "4028", "10", "SHOULD", role="both", text="the refresher refreshes at half of the interval, for 24 hours"
)
@pytest.mark.rfc(
    "4028", "7.4", "SHOULD", role="UAC", text="UPDATE without a session description is preferred for a refresh"
)
def test_session_of_a_day_is_refreshed_by_update_all_the_time() -> None:
    net, a, b = pair()
    handle, other = established(net, a, b)
    net.run(86_400)
    updates = len(a.requests("UPDATE")) + len(b.requests("UPDATE"))
    assert updates == 95  # every 900 of 1800 s
    assert not a.of(Ended)
    assert not b.of(Ended)
    del handle, other


@pytest.mark.rfc(
    "4028", "10", "SHOULD", role="both", text="a session that is not refreshed is ended with BYE before it expires"
)
@pytest.mark.parametrize("gone", ["a", "b"])
def test_session_whose_far_end_vanished_is_ended_by_its_timer(gone: str) -> None:
    net, a, b = pair()
    established(net, a, b)
    del net.hosts[A if gone == "a" else B]
    net.run(1900)
    left = b if gone == "a" else a
    assert left.of(Ended)[0].by == "timeout"


@pytest.mark.rfc("4028", "9", "MUST", role="UAS", text="an interval below our minimum gets 422 with Min-SE")
def test_interval_that_is_too_small_is_refused_with_422_and_asked_again() -> None:
    net, a, b = pair()
    answering(b)
    dial(a)
    actions, _ = a.agent.drain()
    assert isinstance(actions[0], Send)
    net.inject(A, B, actions[0].data.replace(b"Session-Expires: 1800", b"Session-Expires: 60"))
    net.run(0.1)
    assert "Min-SE: 90" in b.responses(422)[0]
    assert not b.of(IncomingCall)


@pytest.mark.rfc(
    "4028", "7.3", "SHOULD", role="UAC", text="422: the request is repeated with the interval that the far end needs"
)
def test_caller_that_gets_422_asks_again_with_the_longer_interval() -> None:
    net, a, b = pair()
    answering(b)
    dial(a)
    net.drop = lambda source, text: source == B
    net.run(0.1)
    refusal = b.responses(100)[0].replace("SIP/2.0 100 Trying", "SIP/2.0 422 Small\r\nMin-SE: 3600")
    net.drop = lambda source, text: False
    net.inject(B, A, refusal.replace("To: <sip:bob@10.0.0.2>", "To: <sip:bob@10.0.0.2>;tag=x").encode())
    net.run(0.01)
    assert "Session-Expires: 3600" in a.requests("INVITE")[-1]
    assert "Min-SE: 3600" in a.requests("INVITE")[-1]


@pytest.mark.rfc("3261", "25.1", "MUST", role="both", text="no value with a line break leaves in a header")
def test_a_header_with_a_line_break_cannot_be_sent() -> None:
    from sipagent.errors import LocalError

    _, a, _ = pair()
    for bad in (
        PlaceCall(f"sip:b@{B}", "", SDP, headers=(("X-A", "1\r\nVia: evil"),)),
        PlaceCall(f"sip:b@{B}\r\nVia: evil", "", SDP),
        PlaceCall(f"sip:b@{B}", "", SDP, from_name="a\r\nb"),
        PlaceCall(f"sip:b@{B}", "", SDP, from_user="a>;evil"),
        PlaceCall("", "", SDP),
    ):
        with pytest.raises(LocalError):
            a.agent.place(bad, a.now)
