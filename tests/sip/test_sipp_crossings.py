"""Messages that cross, come twice or come out of order: sipp on either side, each flow over UDP and TCP."""

import asyncio

import pytest

from sipagent.sip.engine import Ended, EngineEvent, IncomingCall, PlaceCall, Reoffer, TrunkAccount
from tests.sip.support import SDP, Station, station
from tests.sip.test_sipp_calls_us import (
    ANSWERED,
    KEEP_TAG,
    KEPT,
    KEPT_REFERENCE,
    RSEQ,
    React,
    early,
    holding,
    obliging,
    ringing,
)
from tests.sip.test_we_call_sipp import INVITED, OVER, Drive, answered_then_ended_by_them, refused, talk_and_leave
from tests.support.ports import free_port
from tests.support.requirement import Requirement, flow
from tests.support.scenario import (
    OFFER,
    OFFER2,
    Request,
    Step,
    ack,
    bye,
    callee,
    caller,
    invite,
    recv,
    reinvite,
    reply,
)
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers
INACTIVE = OFFER2.replace("sendonly", "inactive")


def hesitating(target: Station, event: EngineEvent) -> None:
    """Takes half a second over each change."""
    if isinstance(event, Reoffer):
        asyncio.get_running_loop().call_later(0.5, target.engine.accept_reoffer, event.handle, SDP)
    else:
        obliging(target, event)


def early_then_changed(target: Station, event: EngineEvent) -> None:
    """Early media; the call is answered when the offer of the PRACK has been."""
    if isinstance(event, IncomingCall):
        target.engine.progress(event.handle, SDP)
    elif isinstance(event, Reoffer):
        target.engine.accept_reoffer(event.handle, SDP)
        target.engine.answer(event.handle, SDP)


def info(cseq: int, digit: str, **kwargs: object) -> Request:
    return Request(
        "INFO", cseq, body=f"Signal={digit}\nDuration=160\n", content_type="application/dtmf-relay",
        **kwargs,  # type: ignore[arg-type]
    )  # fmt: skip


THEY_CALL: dict[str, tuple[React, tuple[Step, ...]]] = {
    "invite_comes_twice": (
        ringing,
        (
            *(invite(), recv(100), recv(180), invite(branch="[branch-3]"), recv(180)),
            *(Request("CANCEL", branch="[branch-5]", to_tag="", contact=False), recv(200), recv(487)),
            ack(branch="[branch-8]"),
        ),
    ),
    "number_goes_backwards": (
        obliging,
        (invite(cseq=10), *ANSWERED, ack(10), info(5, "1"), recv(500), info(11, "2"), recv(200), bye(12), recv(200)),
    ),
    "reinvite_before_the_last_is_answered": (
        hesitating,
        (
            *(invite(), *ANSWERED, ack(), reinvite(2), recv(100), reinvite(3)),
            *(recv(500, has="Retry-After: "), ack(3), recv(200), ack(2), bye(9), recv(200)),
        ),
    ),
    "both_change_at_once": (
        holding,
        (
            *(invite(), *ANSWERED, ack(), recv("INVITE", has="a=sendonly", keep=True), reinvite(2), recv(491), ack(2)),
            *(reply(200, recall="INVITE", tag="", body=OFFER2), recv("ACK"), bye(9), recv(200)),
        ),
    ),
    "digit_while_on_hold": (
        obliging,
        (
            *(invite(), *ANSWERED, ack(), reinvite(2, INACTIVE), *ANSWERED, ack(2), info(3, "7"), recv(200)),
            *(reinvite(4, OFFER), *ANSWERED, ack(4), bye(9), recv(200)),
        ),
    ),
    "options_between": (
        ringing,
        (
            *(invite(), recv(100), recv(180), Request("OPTIONS", 2), recv(200), bye(3), recv(200), recv(487)),
            ack(),
        ),
    ),
    "offer_in_prack": (
        early_then_changed,
        (
            *(invite(headers="Supported: 100rel\n"), recv(100), RSEQ),
            Request("PRACK", 2, headers="RAck: [$rseq] 1 INVITE\n", body=OFFER2),
            *(recv(200, has="m=audio"), recv(200, lacks="m=audio"), ack(), bye(9), recv(200)),
            '<Reference variables="rseq"/>',
        ),
    ),
    "reliable_183_and_cancel": (
        early,
        (
            *(invite(headers="Require: 100rel\n"), recv(100), RSEQ),
            *(Request("CANCEL", branch="[branch-3]", to_tag="", contact=False), recv(200), recv(487)),
            *(ack(branch="[branch-6]"), '<Reference variables="rseq"/>'),
        ),
    ),
    "call_replaces_another": (
        obliging,
        (
            *(invite(), recv(100, optional=True), recv(180, optional=True), KEEP_TAG.format(status=200)),
            *(ack(to_tag=KEPT), KEPT_REFERENCE),
            invite(
                call_id="other///[call_id]",
                headers="Require: replaces\nReplaces: [call_id];to-tag=[$kept];from-tag=[pid]f[call_number]\n",
            ),
            *(recv(100, optional=True), recv(180, optional=True), KEEP_TAG.format(status=200).replace("kept", "other")),
            *(recv("BYE"), reply(200, tag="", contact=False)),
            ack(call_id="other///[call_id]", to_tag=";tag=[$other]"),
            *(bye(2, call_id="other///[call_id]", to_tag=";tag=[$other]"), recv(200), '<Reference variables="other"/>'),
        ),
    ),
}
WE_CALL: dict[str, tuple[Drive, tuple[Step, ...]]] = {
    "two_forks_answer": (
        answered_then_ended_by_them,
        (
            *(*INVITED, reply(180, tag="one"), reply(180, tag="two"), reply(200, tag="one", body=OFFER), recv("ACK")),
            *(reply(200, recall="INVITE", tag="two", body=OFFER), recv("ACK"), recv("BYE", has="To:.*tag=two")),
            *(reply(200, tag="", contact=False), bye(1, tag="one"), recv(200)),
        ),
    ),
    "answer_comes_twice": (
        answered_then_ended_by_them,
        (
            *(*INVITED, reply(200, body=OFFER), recv("ACK"), reply(200, recall="INVITE", body=OFFER), recv("ACK")),
            *(bye(1), recv(200)),
        ),
    ),
    "refusal_comes_twice": (
        refused(486)[0],
        (*INVITED, reply(486), recv("ACK"), reply(486, recall="INVITE", contact=False), recv("ACK")),
    ),
    "ringing_after_early_media": (
        talk_and_leave,
        (*INVITED, reply(183, body=OFFER), reply(180), reply(200, body=OFFER), recv("ACK"), *OVER),
    ),
    "bye_crosses_bye": (
        talk_and_leave,
        (
            *(*INVITED, reply(200, body=OFFER), recv("ACK"), recv("BYE", keep=True), bye(1), recv(481)),
            reply(200, recall="BYE", tag="", contact=False),
        ),
    ),
    "nonce_changes_within_the_call": (
        talk_and_leave,
        (
            *(*INVITED, reply(200, body=OFFER), recv("ACK"), recv("BYE")),
            reply(
                401,
                tag="",
                contact=False,
                headers='WWW-Authenticate: Digest realm="sip.test",nonce="n1",algorithm=MD5,qop="auth"\n',
            ),
            *(recv("BYE", has='Authorization: Digest username="alice".*nonce="n1"'), reply(200, tag="", contact=False)),
        ),
    ),
}
UAS: dict[str, tuple[Requirement, ...]] = {
    "invite_comes_twice": (("3261", "17.2.1", "MUST", "a repeated INVITE gets the last response again, one call"),),
    "number_goes_backwards": (("3261", "12.2.2", "MUST", "a lower CSeq in a dialog gets 500, the call goes on"),),
    "reinvite_before_the_last_is_answered": (("3261", "14.2", "MUST", "an overlapping re-INVITE: 500, Retry-After"),),
    "both_change_at_once": (("3261", "14.2", "MUST", "a re-INVITE that crosses ours gets 491"),),
    "options_between": (("3261", "11.2", "MUST", "OPTIONS in an early dialog is answered, the call rings on"),),
    "offer_in_prack": (("3262", "5", "MUST", "an offer in the PRACK is answered in its 200"),),
    "reliable_183_and_cancel": (("3261", "9.2", "SHOULD", "CANCEL while a reliable 183 waits for its PRACK"),),
    "call_replaces_another": (
        ("3891", "3", "MUST", "an INVITE with Replaces takes over the call, the old one gets BYE"),
    ),
}
UAC: dict[str, tuple[Requirement, ...]] = {
    "two_forks_answer": (("3261", "13.2.2.4", "MUST", "the second fork's 2xx gets ACK and BYE"),),
    "answer_comes_twice": (("3261", "13.2.2.4", "MUST", "a repeated 2xx gets the ACK again"),),
    "refusal_comes_twice": (("3261", "17.1.1.2", "MUST", "a repeated refusal gets the ACK again"),),
    "nonce_changes_within_the_call": (("3261", "22.2", "SHOULD", "a challenge of our BYE by the trunk is answered"),),
}
WAYS = ("u1", "t1")


@pytest.mark.parametrize(("name", "transport"), [flow(name, way, UAS, "UAS") for name in THEY_CALL for way in WAYS])
async def test_call_to_us(name: str, transport: str) -> None:
    react, steps = THEY_CALL[name]
    port = free_port(tcp=True)
    async with station(port) as us:
        us.on_event = lambda event: react(us, event)
        async with sipp(
            caller(*steps), f"127.0.0.1:{port}", port=free_port(tcp=True), transport=transport, extra=("-nr",)
        ) as far_end:
            assert await far_end.finished() == 0, far_end.errors()
        async with asyncio.timeout(5):
            while us.engine.stats()["calls"]:
                await asyncio.sleep(0.01)
    taken = [event for event in us.events if isinstance(event, IncomingCall)]
    if name == "call_replaces_another":
        first, second = taken
        assert second.replaces == first.handle
    else:
        assert len(taken) == 1


@pytest.mark.parametrize(
    ("name", "transport"),
    # over a stream a refusal is not repeated, and an ACK of it neither (RFC 3261 §17.1.1.2: timer D is 0)
    [flow(name, way, UAC, "UAC") for name in WE_CALL for way in WAYS if (name, way) != ("refusal_comes_twice", "t1")],
)
async def test_call_from_us(name: str, transport: str) -> None:
    drive, steps = WE_CALL[name]
    port, parameter = free_port(tcp=True), ";transport=tcp" if transport == "t1" else ""
    trunk = TrunkAccount(
        "t", f"sip:127.0.0.1:{port}{parameter}", "alice", password="secret", domain="sip.test", register=False
    )
    async with (
        station(free_port(tcp=True), trunk) as us,
        sipp(callee(*steps), port=port, transport=transport, extra=("-nr",)) as far_end,
    ):
        handle = us.engine.place(PlaceCall("5551234", "t", SDP))
        await drive(us, handle)
        assert await far_end.finished() == 0, far_end.errors()
        await us.expect(Ended)
        assert sum(isinstance(event, Ended) for event in us.events) == 1
        assert us.engine.stats()["calls"] == 0
