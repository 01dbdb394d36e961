"""sipp calls the engine: one flow per scenario, each over UDP and TCP."""

import asyncio
from collections.abc import Callable

import pytest

from sipagent.sip.engine import (
    Cancelled,
    Confirmed,
    EarlySession,
    Ended,
    EngineEvent,
    HeaderList,
    IncomingCall,
    InDialogMessage,
    Reoffer,
    TransferRequested,
)
from tests.sip.support import SDP, Station, station
from tests.support.requirement import Requirement, flow
from tests.support.scenario import (
    OFFER,
    OFFER2,
    Request,
    Step,
    ack,
    bye,
    caller,
    cancel,
    invite,
    recv,
    reinvite,
    reply,
)
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers
React = Callable[[Station, EngineEvent], None]
ENGINE, SIPP = 25600, 25610
PROVISIONAL = (recv(100, optional=True), recv(180, optional=True), recv(183, optional=True))
ANSWERED = (*PROVISIONAL, recv(200))
END = (bye(9), recv(200))


def obliging(target: Station, event: EngineEvent) -> None:
    """Answers, accepts changes and transfers."""
    engine = target.engine
    if isinstance(event, IncomingCall):
        engine.ring(event.handle)
        engine.answer(event.handle, SDP)
    elif isinstance(event, Reoffer):
        engine.accept_reoffer(event.handle, SDP)
    elif isinstance(event, TransferRequested):
        engine.accept_refer(event.handle)
        asyncio.get_running_loop().call_later(0.15, engine.notify_refer, event.handle, 200, "OK", True)


def ringing(target: Station, event: EngineEvent) -> None:
    if isinstance(event, IncomingCall):
        target.engine.ring(event.handle)


def picky(target: Station, event: EngineEvent) -> None:
    """Finds no common codec, neither at first nor later."""
    if isinstance(event, IncomingCall) and b"RTP/AVP 0" not in (event.offer or b"RTP/AVP 0"):
        target.engine.reject(event.handle, 488)
    elif isinstance(event, Reoffer) and b"RTP/AVP 0" not in (event.offer or b""):
        target.engine.reject_reoffer(event.handle, 488)
    else:
        obliging(target, event)


def early(target: Station, event: EngineEvent) -> None:
    if isinstance(event, IncomingCall):
        target.engine.progress(event.handle, SDP)
        target.engine.answer(event.handle, SDP)
    else:
        obliging(target, event)


def announcing(status: int, headers: HeaderList = ()) -> React:
    """Is heard, and refuses the call after that."""

    def react(target: Station, event: EngineEvent) -> None:
        if isinstance(event, IncomingCall):
            target.engine.progress(event.handle, SDP)
        elif isinstance(event, EarlySession):
            target.engine.reject(event.handle, status, headers=headers)

    return react


def heard(target: Station, event: EngineEvent) -> None:
    """Is heard, and answers when the caller has told where it wants to hear it."""
    if isinstance(event, IncomingCall):
        target.engine.progress(event.handle, SDP)
    elif isinstance(event, EarlySession) and event.answer is not None:
        target.engine.answer(event.handle, SDP)


def leaving(target: Station, event: EngineEvent) -> None:
    obliging(target, event)
    if isinstance(event, Confirmed):
        target.engine.hangup(event.handle, (("Reason", 'Q.850;cause=16;text="done"'),))


def holding(target: Station, event: EngineEvent) -> None:
    obliging(target, event)
    if isinstance(event, Confirmed) and event.answer is None:
        target.engine.reoffer(event.handle, SDP + b"a=sendonly\r\n")


def transferring(target: Station, event: EngineEvent) -> None:
    obliging(target, event)
    if isinstance(event, Confirmed):
        target.engine.refer(event.handle, "sip:carol@127.0.0.1:9")


BAD_CODEC = OFFER.replace("RTP/AVP 0", "RTP/AVP 97").replace("rtpmap:0 PCMU", "rtpmap:97 AMR")
MULTIPART = (
    "--x\nContent-Type: text/plain\n\nhi\n--x\nContent-Type: application/sdp\n\n"
    + OFFER.replace("\n", "\n")
    + "--x--\n"
)
PRACK = Request("PRACK", 2, headers="RAck: [$rseq] 1 INVITE\n", contact=False)
RSEQ = (
    '<recv response="183" timeout="5000"><action><ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" '
    'assign_to="rseq" check_it="true"/></action></recv>'
)
KEEP_TAG = (
    '<recv response="{status}" timeout="5000"><action><ereg regexp="tag=([^;]*)" search_in="hdr" header="To:" '
    'assign_to="all,kept"/></action></recv>'
)
KEPT, KEPT_REFERENCE = ";tag=[$kept]", '<Reference variables="all,kept"/>'
SCENARIOS: dict[str, tuple[React, tuple[Step, ...]]] = {
    "short": (obliging, (invite(), *ANSWERED, ack(), *END)),
    "options": (
        obliging,
        (
            Request("OPTIONS", to_tag=""),
            recv(200, has="Allow: .*INVITE.*PRACK"),
        ),
    ),
    "options_in_call": (obliging, (invite(), *ANSWERED, ack(), Request("OPTIONS", 2), recv(200), *END)),
    "answer_names_us": (
        obliging,
        (invite(), *PROVISIONAL, recv(200, has="Contact: &lt;sip:agent@127.0.0.1:25600"), ack(), *END),
    ),
    "hold_and_back": (
        obliging,
        (invite(), *ANSWERED, ack(), reinvite(2), *ANSWERED, ack(2), reinvite(3, OFFER), *ANSWERED, ack(3), *END),
    ),
    "reinvite_without_offer": (
        obliging,
        (invite(), *ANSWERED, ack(), reinvite(2, ""), *PROVISIONAL, recv(200, has="m=audio"), ack(2, body=OFFER), *END),
    ),
    "delayed_offer": (obliging, (invite(body=""), *PROVISIONAL, recv(200, has="m=audio"), ack(body=OFFER), *END)),
    "no_common_codec": (picky, (invite(body=BAD_CODEC), *PROVISIONAL, recv(488), ack())),
    "reinvite_refused_call_stays": (
        picky,
        (invite(), *ANSWERED, ack(), reinvite(2, BAD_CODEC), recv(100, optional=True), recv(488), ack(2), *END),
    ),
    "cancel": (ringing, (invite(), recv(100), recv(180), cancel(), recv(200), recv(487), ack())),
    "cancel_of_nothing": (obliging, (Request("CANCEL", to_tag="", contact=False), recv(481))),
    "bye_while_ringing": (
        ringing,
        (invite(), recv(100), recv(180), bye(2), recv(200), recv(487), ack()),
    ),
    "we_hang_up": (
        leaving,
        (invite(), *ANSWERED, ack(), recv("BYE", has="Reason: Q.850;cause=16"), reply(200, tag="", contact=False)),
    ),
    "we_hold": (
        holding,
        (
            *(invite(), *ANSWERED, ack(), recv("INVITE", has="a=sendonly"), reply(200, tag="", body=OFFER2)),
            *(recv("ACK"), *END),
        ),
    ),
    "our_hold_refused": (
        holding,
        (invite(), *ANSWERED, ack(), recv("INVITE"), reply(488, tag=""), recv("ACK"), *END),
    ),
    "our_hold_pending_491": (
        holding,
        (
            *(invite(), *ANSWERED, ack(), recv("INVITE"), reply(491, tag=""), recv("ACK"), recv("INVITE")),
            *(reply(200, tag="", body=OFFER2), recv("ACK"), *END),
        ),
    ),
    "refer": (
        obliging,
        (
            *(invite(), *ANSWERED, ack(), Request("REFER", 2, headers="Refer-To: <sip:carol@127.0.0.1:9>\n")),
            *(recv(202), recv("NOTIFY", has="SIP/2.0 100 Trying"), reply(200, tag="", contact=False)),
            *(recv("NOTIFY", has="terminated"), reply(200, tag="", contact=False), *END),
        ),
    ),
    "refer_without_target": (obliging, (invite(), *ANSWERED, ack(), Request("REFER", 2), recv(400), *END)),
    "we_refer": (
        transferring,
        (
            *(invite(), *ANSWERED, ack(), recv("REFER", has="Refer-To: &lt;sip:carol@127.0.0.1:9&gt;")),
            *(reply(202, tag=""), bye(9), recv(200)),
        ),
    ),
    "info": (
        obliging,
        (
            *(invite(), *ANSWERED, ack()),
            Request("INFO", 2, body="Signal=5\nDuration=160\n", content_type="application/dtmf-relay"),
            *(recv(200), *END),
        ),
    ),
    "message_in_call": (
        obliging,
        (invite(), *ANSWERED, ack(), Request("MESSAGE", 2, body="hi\n", content_type="text/plain"), recv(200), *END),
    ),
    "message_outside": (
        obliging,
        (Request("MESSAGE", to_tag="", body="hi\n", content_type="text/plain"), recv(403)),
    ),
    "update_with_offer": (
        obliging,
        (invite(), *ANSWERED, ack(), Request("UPDATE", 2, body=OFFER2), recv(200, has="m=audio"), *END),
    ),
    "update_without_offer": (
        obliging,
        (invite(), *ANSWERED, ack(), Request("UPDATE", 2), recv(200, lacks="m=audio"), *END),
    ),
    "session_timer": (
        obliging,
        (
            invite(headers="Supported: timer\nSession-Expires: 600;refresher=uac\n"),
            *(*PROVISIONAL, recv(200, has="Session-Expires: 600;refresher=uac"), ack(), *END),
        ),
    ),
    "session_timer_too_small": (
        obliging,
        (invite(headers="Supported: timer\nSession-Expires: 60\n"), recv(422, has="Min-SE: 90"), ack()),
    ),
    "require_unknown": (
        obliging,
        (invite(headers="Require: telepathy\n"), recv(420, has="Unsupported: telepathy"), ack()),
    ),
    "unknown_method": (obliging, (Request("DANCE", to_tag=""), recv(405, has="Allow: "))),
    "unknown_method_in_call": (
        obliging,
        (invite(), *ANSWERED, ack(), Request("DANCE", 2), recv(405), *END),
    ),
    "subscribe": (obliging, (Request("SUBSCRIBE", to_tag="", headers="Event: presence\n"), recv(405))),
    "register_to_us": (obliging, (Request("REGISTER", to_tag=""), recv(405))),
    "unsolicited_notify": (
        obliging,
        (Request("NOTIFY", to_tag="", headers="Event: message-summary\n"), recv(200)),
    ),
    "notify_of_nothing": (obliging, (Request("NOTIFY", to_tag="", headers="Event: dialog\n"), recv(481))),
    "notify_with_wrong_event": (
        obliging,
        (invite(), *ANSWERED, ack(), Request("NOTIFY", 2, headers="Event: dialog\n"), recv(489), *END),
    ),
    "wrong_media_type": (
        obliging,
        (invite(content_type="text/plain"), recv(415, has="Accept: application/sdp"), ack()),
    ),
    "cannot_take_sdp": (obliging, (invite(headers="Accept: text/html\n"), recv(406), ack())),
    "unknown_scheme": (obliging, (Request("OPTIONS", to_tag="", uri="mailto:agent@127.0.0.1"), recv(416))),
    "tel_uri": (obliging, (invite(uri="tel:+15551234"), *ANSWERED, ack(), *END)),
    "bye_with_wrong_tag": (
        obliging,
        (
            *(invite(), *PROVISIONAL, KEEP_TAG.format(status=200), ack(to_tag=KEPT), bye(2, to_tag=";tag=nobody")),
            *(recv(481), bye(3, to_tag=KEPT), recv(200), KEPT_REFERENCE),
        ),
    ),
    "bye_twice": (obliging, (invite(), *ANSWERED, ack(), bye(2), recv(200), bye(3), recv(481))),
    "update_of_nothing": (obliging, (Request("UPDATE", to_tag=";tag=x"), recv(481))),
    "replaces_nothing": (
        obliging,
        (invite(headers="Require: replaces\nReplaces: no;to-tag=1;from-tag=2\n"), recv(481), ack()),
    ),
    "merged_request": (
        ringing,
        (
            *(invite(), recv(100), KEEP_TAG.format(status=180), invite(branch="z9hG4bKother[call_number]"), recv(482)),
            *(ack(branch="z9hG4bKother[call_number]"), bye(2, to_tag=KEPT), recv(200), KEPT_REFERENCE),
        ),
    ),
    "early_media": (
        early,
        (
            *(invite(), recv(100), recv(183, has="m=audio", lacks="RSeq"), recv(200, has="m=audio 27990")),
            *(ack(), *END),
        ),
    ),
    "early_media_refused": (announcing(404), (invite(), recv(100), recv(183, has="m=audio"), recv(404), ack())),
    "early_media_refused_after_prack": (
        announcing(404),
        (
            *(invite(headers="Supported: 100rel\n"), recv(100), RSEQ, PRACK, recv(200), recv(404), ack()),
            '<Reference variables="rseq"/>',
        ),
    ),
    "early_media_redirected": (
        announcing(302, (("Contact", "<sip:other@127.0.0.1:9>"),)),
        (invite(), recv(100), recv(183), recv(302, has="Contact: &lt;sip:other@127.0.0.1:9"), ack()),
    ),
    "early_media_cancelled": (
        heard,
        (invite(), recv(100), recv(183), cancel(), recv(200), recv(487), ack()),
    ),
    "early_media_of_a_delayed_offer": (
        heard,
        (
            *(invite(body="", headers="Supported: 100rel\n"), recv(100), RSEQ),
            Request("PRACK", 2, headers="RAck: [$rseq] 1 INVITE\n", contact=False, body=OFFER),
            *(recv(200), recv(200, lacks="m=audio"), ack(), *END, '<Reference variables="rseq"/>'),
        ),
    ),
    "early_media_reliable": (
        early,
        (
            *(invite(headers="Require: 100rel\n"), recv(100), RSEQ, PRACK, recv(200), recv(200, lacks="m=audio")),
            *(ack(), *END),
            '<Reference variables="rseq"/>',
        ),
    ),
    "prack_of_nothing": (
        early,
        (
            *(invite(headers="Supported: 100rel\n"), recv(100), RSEQ),
            Request("PRACK", 2, headers="RAck: 1 1 INVITE\n", contact=False),
            *(recv(481), Request("PRACK", 3, headers="RAck: [$rseq] 1 INVITE\n", contact=False), recv(200), recv(200)),
            *(ack(), *END, '<Reference variables="rseq"/>'),
        ),
    ),
    "multipart": (
        obliging,
        (invite(body=MULTIPART, content_type="multipart/mixed;boundary=x"), *ANSWERED, ack(), *END),
    ),
    "compact_and_odd_headers": (
        obliging,
        (invite(headers="k: timer,100rel\ns: hello\nX-Odd: ;;,,\n"), *ANSWERED, ack(), *END),
    ),
    "cancel_after_answer_changes_nothing": (
        obliging,
        (invite(), *ANSWERED, cancel(), recv(200), ack(), bye(2), recv(200)),
    ),
}


REQUIREMENTS: dict[str, tuple[Requirement, ...]] = {
    "options": (("3261", "11.2", "MUST", "OPTIONS outside of a call is answered with Allow, Accept, Supported"),),
    "options_in_call": (("3261", "11.2", "MUST", "OPTIONS within a call is answered"),),
    "answer_names_us": (("3261", "12.1.1", "MUST", "the answer carries Contact and a To tag"),),
    "hold_and_back": (("3264", "8.4", "MUST", "hold by sendonly and inactive, and back"),),
    "reinvite_without_offer": (("3261", "14.2", "MUST", "a re-INVITE without offer gets our offer in its 2xx"),),
    "delayed_offer": (("3264", "5", "MUST", "delayed offer: our offer in the 2xx, the answer in the ACK"),),
    "no_common_codec": (("3261", "13.3.1.3", "SHOULD", "no common codec: 488"),),
    "reinvite_refused_call_stays": (("3261", "14.2", "MUST", "a re-INVITE that does not suit gets 488, no more"),),
    "cancel": (("3261", "9.2", "SHOULD", "CANCEL while ringing: 200, and 487 for the INVITE"),),
    "cancel_of_nothing": (("3261", "9.2", "SHOULD", "CANCEL that matches nothing: 481"),),
    "bye_while_ringing": (("3261", "15.1.2", "MUST", "BYE in an early dialog: 200, and 487 for the INVITE"),),
    "we_hold": (("3264", "8.4", "MUST", "we hold the caller by re-INVITE"),),
    "our_hold_pending_491": (("3261", "14.1", "SHOULD", "after 491 our re-INVITE is tried again"),),
    "refer": (("3515", "2.4.2", "MUST", "REFER within a call gets 202, NOTIFY at once and at the end"),),
    "refer_without_target": (("3515", "2.4.2", "MUST", "REFER with no or two Refer-To gets 400"),),
    "we_refer": (("3515", "2.4.4", "MUST", "NOTIFY of our REFER is answered and read"),),
    "info": (("6086", "4.2", "MUST", "INFO (dtmf-relay) reaches the user"),),
    "update_with_offer": (("3311", "5.2", "MUST", "UPDATE with an offer is answered with an answer"),),
    "update_without_offer": (("3311", "5.2", "MUST", "UPDATE without an offer gets 200"),),
    "session_timer": (("4028", "9", "MUST", "Session-Expires is agreed in the 2xx"),),
    "session_timer_too_small": (("4028", "9", "MUST", "a small interval gets 422 with Min-SE"),),
    "require_unknown": (("3261", "8.2.2.3", "MUST", "an unknown Require gets 420 with Unsupported"),),
    "unknown_method": (("3261", "8.2.1", "MUST", "an unknown method gets 405 with Allow"),),
    "unknown_method_in_call": (("3261", "8.2.1", "MUST", "an unknown method in a call gets 405, it goes on"),),
    "subscribe": (("6665", "4.2.1.1", "MUST", "SUBSCRIBE is refused"),),
    "register_to_us": (("3261", "8.2.1", "MUST", "REGISTER to a user agent gets 405"),),
    "notify_of_nothing": (("6665", "4.1.3", "MUST", "NOTIFY of no subscription gets 481"),),
    "notify_with_wrong_event": (("6665", "7.2", "MUST", "NOTIFY of another event package gets 489"),),
    "wrong_media_type": (("3261", "8.2.3", "MUST", "a body of an unknown type gets 415 with Accept"),),
    "cannot_take_sdp": (("3261", "21.4.7", "SHOULD", "a caller that accepts no session description gets 406"),),
    "unknown_scheme": (("3261", "8.2.2.1", "SHOULD", "a Request-URI of an unknown scheme gets 416"),),
    "bye_with_wrong_tag": (("3261", "12.2.2", "SHOULD", "BYE with a wrong tag gets 481, the call goes on"),),
    "bye_twice": (("3261", "15.1.2", "MUST", "a second BYE gets 481"),),
    "update_of_nothing": (("3261", "12.2.2", "SHOULD", "a request of no dialog gets 481"),),
    "replaces_nothing": (("3891", "3", "MUST", "Replaces of no dialog gets 481"),),
    "merged_request": (("3261", "8.2.2.2", "SHOULD", "the same request by another path gets 482"),),
    "early_media": (("3261", "13.3.1.1", "MAY", "183 with SDP, not reliable when the caller cannot"),),
    "early_media_reliable": (("3262", "3", "MUST", "100rel required: 183 with RSeq, repeated until PRACK"),),
    "early_media_refused": (("3261", "13.3.1.3", "MAY", "a call is refused after its early media"),),
    "early_media_of_a_delayed_offer": (
        ("3262", "5", "MUST", "an offer in a reliable 183 is answered in its PRACK, and the 2xx holds none"),
    ),
    "prack_of_nothing": (("3262", "3", "MUST", "PRACK that matches nothing gets 481"),),
    "multipart": (("5621", "3.1", "MUST", "a session description within multipart/mixed is found"),),
    "compact_and_odd_headers": (("3261", "7.3.3", "MUST", "compact header names are understood"),),
    "cancel_after_answer_changes_nothing": (("3261", "9.2", "MUST", "CANCEL after the final answer changes nothing"),),
}
FLOWS = [flow(name, way, REQUIREMENTS, "UAS") for name in SCENARIOS for way in ("u1", "t1")]


@pytest.mark.parametrize(("name", "transport"), FLOWS)
async def test_flow(name: str, transport: str) -> None:
    react, steps = SCENARIOS[name]
    async with station(ENGINE) as target:
        target.on_event = lambda event: react(target, event)
        async with sipp(caller(*steps), f"127.0.0.1:{ENGINE}", port=SIPP, transport=transport) as far_end:
            assert await far_end.finished() == 0, far_end.errors()
        await asyncio.sleep(0.02)
        assert target.engine.stats()["calls"] == 0
        assert sum(isinstance(event, IncomingCall) for event in target.events) <= 1
        _check(name, target)


def _check(name: str, target: Station) -> None:
    """What our user must have seen."""
    of = {kind.__name__: [e for e in target.events if isinstance(e, kind)] for kind in (Cancelled, Ended, Confirmed)}
    if name in ("cancel", "bye_while_ringing"):
        assert of["Cancelled"]
    if name == "delayed_offer":
        confirmed = of["Confirmed"][0]
        assert isinstance(confirmed, Confirmed)
        assert b"m=audio" in (confirmed.answer or b"")
    if name == "info":
        message = next(event for event in target.events if isinstance(event, InDialogMessage))
        assert (message.method, message.content_type) == ("INFO", "application/dtmf-relay")
        assert message.body.startswith(b"Signal=5")
    if name == "multipart":
        call = next(event for event in target.events if isinstance(event, IncomingCall))
        assert (call.offer or b"").startswith(b"v=0")
