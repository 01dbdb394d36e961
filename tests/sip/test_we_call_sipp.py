"""The engine calls sipp: one flow per scenario, each over UDP and TCP."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sipagent.sip.engine import (
    Answered,
    Ended,
    PlaceCall,
    Progress,
    Reoffer,
    ReofferAnswered,
    ReofferRefused,
    TransferProgress,
    TrunkAccount,
)
from tests.sip.support import SDP, Station, station
from tests.support.requirement import Requirement, flow
from tests.support.scenario import OFFER, OFFER2, TAG, Pause, Step, ack, bye, callee, recv, reinvite, reply
from tests.support.scenario import Request as Send
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers
Drive = Callable[[Station, str], Awaitable[None]]
ENGINE, SIPP = 25650, 25660
INVITED = (recv("INVITE"), reply(100, tag="", contact=False))
TAKEN = (*INVITED, reply(180), reply(200, body=OFFER), recv("ACK"))
OVER = (recv("BYE"), reply(200, tag="", contact=False))


async def talk_and_leave(us: Station, handle: str) -> None:
    await us.expect(Answered)
    us.engine.hangup(handle, (("Reason", "SIP;cause=200"),))


async def answered_then_ended_by_them(us: Station, handle: str) -> None:
    await us.expect(Answered)
    assert (await us.expect(Ended)).by == "remote"


async def give_up_ringing(us: Station, handle: str) -> None:
    await us.expect(Progress)
    us.engine.hangup(handle)
    assert (await us.expect(Ended)).by == "local"


async def give_up_at_once(us: Station, handle: str) -> None:
    us.engine.hangup(handle)
    assert (await us.expect(Ended)).by == "local"


async def early_media(us: Station, handle: str) -> None:
    progress = await us.expect(Progress)
    assert progress.status == 183
    assert b"m=audio" in (progress.body or b"")
    await talk_and_leave(us, handle)


async def change_and_leave(us: Station, handle: str) -> None:
    await us.expect(Answered)
    us.engine.reoffer(handle, SDP + b"a=sendonly\r\n")
    assert b"m=audio" in ((await us.expect(ReofferAnswered)).body or b"")
    us.engine.hangup(handle)


async def change_refused(us: Station, handle: str) -> None:
    await us.expect(Answered)
    us.engine.reoffer(handle, SDP + b"a=sendonly\r\n")
    assert (await us.expect(ReofferRefused)).status == 488
    us.engine.hangup(handle)


async def accept_their_change(us: Station, handle: str) -> None:
    await us.expect(Reoffer)
    us.engine.accept_reoffer(handle, SDP)
    assert (await us.expect(Ended)).by == "remote"


async def transfer(us: Station, handle: str) -> None:
    await us.expect(Answered)
    us.engine.refer(handle, "sip:carol@127.0.0.1:9")
    assert (await us.expect(TransferProgress, where="done=True")).status == 200
    us.engine.hangup(handle)


async def transfer_refused(us: Station, handle: str) -> None:
    await us.expect(Answered)
    us.engine.refer(handle, "sip:carol@127.0.0.1:9")
    assert (await us.expect(TransferProgress, where="done=True")).status == 603
    us.engine.hangup(handle)


async def send_texts(us: Station, handle: str) -> None:
    await us.expect(Answered)
    us.engine.send_in_dialog(handle, "INFO", "application/dtmf-relay", b"Signal=1\r\nDuration=160\r\n")
    await asyncio.sleep(0.2)
    us.engine.send_in_dialog(handle, "MESSAGE", "text/plain", b"hello")
    await asyncio.sleep(0.2)
    us.engine.hangup(handle)


def refused(status: int) -> tuple[Drive, tuple[Step, ...]]:
    async def drive(us: Station, handle: str) -> None:
        ended = await us.expect(Ended)
        assert (ended.by, ended.status) == ("refused", status)

    headers = "Contact: <sip:other@127.0.0.1:9>\n" if status == 302 else "Retry-After: 5\n"
    return drive, (*INVITED, reply(status, headers=headers, contact=False), recv("ACK"))


CHALLENGE = 'WWW-Authenticate: Digest realm="sip.test",nonce="{nonce}",algorithm=MD5,qop="auth"{more}\n'
PROXY = 'Proxy-Authenticate: Digest realm="sip.test",nonce="n1",algorithm=SHA-256,qop="auth"\n'


async def believe_no_proof(us: Station, handle: str) -> None:
    await us.expect(Answered)
    assert us.engine.stats()["rspauth_wrong"] == 1
    us.engine.hangup(handle)


async def refused_after_one_try(us: Station, handle: str) -> None:
    ended = await us.expect(Ended)
    assert (ended.by, ended.status) == ("refused", 401)


SCENARIOS: dict[str, tuple[Drive, tuple[Step, ...]]] = {
    "we_hang_up": (talk_and_leave, (*TAKEN, recv("BYE", has="Reason: SIP;cause=200"), OVER[1])),
    "they_hang_up": (answered_then_ended_by_them, (*TAKEN, bye(1), recv(200))),
    "answer_without_ringing": (talk_and_leave, (*INVITED, reply(200, body=OFFER), recv("ACK"), *OVER)),
    "early_183": (early_media, (*INVITED, reply(183, body=OFFER), reply(200, body=OFFER), recv("ACK"), *OVER)),
    "provisional_without_tag": (
        talk_and_leave,
        (*INVITED, reply(183, tag="", contact=False), reply(200, body=OFFER), recv("ACK"), *OVER),
    ),
    "reliable_180": (
        talk_and_leave,
        (
            *(recv("INVITE", has="Supported: .*100rel"), reply(180, headers="Require: 100rel\nRSeq: 7\n")),
            *(recv("PRACK", has="RAck: 7 "), reply(200, tag="", contact=False)),
            f"<send><![CDATA[\nSIP/2.0 200 OK\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag={TAG}\nCall-ID: [call_id]\n"
            "CSeq:[$seq]\nContact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>\n"
            f"Content-Type: application/sdp\nContent-Length: [len]\n\n{OFFER}]]></send>",
            *(recv("ACK"), *OVER),
        ),
    ),
    "forked_ringing": (
        talk_and_leave,
        (*INVITED, reply(180, tag="one"), reply(180, tag="two"), reply(200, body=OFFER, tag="two"), recv("ACK"), *OVER),
    ),
    "late_answer": (talk_and_leave, (*INVITED, reply(180), Pause(1200), reply(200, body=OFFER), recv("ACK"), *OVER)),
    "cancel": (
        give_up_ringing,
        (
            *(*INVITED, reply(180), recv("CANCEL"), reply(200, contact=False)),
            f"<send><![CDATA[\nSIP/2.0 487 Gone\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag={TAG}\nCall-ID: [call_id]\n"
            "CSeq:[$seq]\nContent-Length: 0\n\n]]></send>",
            recv("ACK"),
        ),
    ),
    "cancel_before_anything": (
        give_up_at_once,
        (
            *(*INVITED, recv("CANCEL"), reply(200, contact=False)),
            f"<send><![CDATA[\nSIP/2.0 487 Gone\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag={TAG}\nCall-ID: [call_id]\n"
            "CSeq:[$seq]\nContent-Length: 0\n\n]]></send>",
            recv("ACK"),
        ),
    ),
    "cancel_crosses_answer": (
        give_up_ringing,
        (
            *(*INVITED, reply(180), recv("CANCEL"), reply(200, contact=False)),
            f"<send><![CDATA[\nSIP/2.0 200 OK\nVia:[$via]\nFrom:[$from]\nTo:[$to];tag={TAG}\nCall-ID: [call_id]\n"
            "CSeq:[$seq]\nContact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>\n"
            f"Content-Type: application/sdp\nContent-Length: [len]\n\n{OFFER}]]></send>",
            *(recv("ACK"), *OVER),
        ),
    ),
    "we_change": (
        change_and_leave,
        (*TAKEN, recv("INVITE", has="a=sendonly"), reply(200, tag="", body=OFFER2), recv("ACK"), *OVER),
    ),
    "our_change_refused": (change_refused, (*TAKEN, recv("INVITE"), reply(488, tag=""), recv("ACK"), *OVER)),
    "our_change_waits_out_491": (
        change_and_leave,
        (
            *(*TAKEN, recv("INVITE"), reply(491, tag=""), recv("ACK"), recv("INVITE")),
            *(reply(200, tag="", body=OFFER2), recv("ACK"), *OVER),
        ),
    ),
    "they_hold": (
        accept_their_change,
        (*TAKEN, reinvite(1), recv(100, optional=True), recv(200), ack(1), bye(2), recv(200)),
    ),
    "they_update": (accept_their_change, (*TAKEN, Send("UPDATE", 1, body=OFFER2), recv(200), bye(2), recv(200))),
    "transfer": (
        transfer,
        (
            *(*TAKEN, recv("REFER", has="Refer-To: &lt;sip:carol"), reply(202, tag="")),
            Send(
                "NOTIFY",
                1,
                headers="Event: refer\nSubscription-State: terminated;reason=noresource\n",
                body="SIP/2.0 200 OK\n",
                content_type="message/sipfrag",
            ),
            *(recv(200), *OVER),
        ),
    ),
    "transfer_refused": (transfer_refused, (*TAKEN, recv("REFER"), reply(603, tag=""), *OVER)),
    "info_and_message": (
        send_texts,
        (
            *(*TAKEN, recv("INFO", has="Signal=1"), reply(200, tag=""), recv("MESSAGE", has="hello")),
            *(reply(200, tag=""), *OVER),
        ),
    ),
    "challenged_401": (
        talk_and_leave,
        (
            *(recv("INVITE", lacks="Authorization"), reply(401, headers=CHALLENGE.format(nonce="n1", more=""))),
            *(recv("ACK"), recv("INVITE", has='Authorization: Digest username="alice".*nc=00000001')),
            *(reply(200, body=OFFER), recv("ACK"), *OVER),
        ),
    ),
    "next_nonce": (
        talk_and_leave,
        (
            *(recv("INVITE"), reply(401, headers=CHALLENGE.format(nonce="n1", more="")), recv("ACK"), recv("INVITE")),
            *(reply(200, body=OFFER, headers='Authentication-Info: nextnonce="n2"\n'), recv("ACK")),
            *(recv("BYE", has='nonce="n2".*nc=00000001'), OVER[1]),
        ),
    ),
    "callee_without_our_password": (
        believe_no_proof,
        (
            *(recv("INVITE"), reply(401, headers=CHALLENGE.format(nonce="n1", more="")), recv("ACK")),
            '<recv request="INVITE"><action><ereg regexp="cnonce=.([0-9a-f]*)" search_in="msg" '
            'assign_to="whole,cnonce"/></action></recv><Reference variables="whole"/>',
            reply(
                200,
                body=OFFER,
                headers=f'Authentication-Info: rspauth="{"0" * 32}",cnonce="[$cnonce]",nc=00000001,qop=auth,'
                'nextnonce="n2"\n',
            ),
            *(recv("ACK"), recv("BYE", has='nonce="n1"'), OVER[1]),
        ),
    ),
    "challenged_407_sha256": (
        talk_and_leave,
        (
            *(recv("INVITE"), reply(407, headers=PROXY), recv("ACK")),
            *(recv("INVITE", has="Proxy-Authorization: .*algorithm=SHA-256"), reply(200, body=OFFER), recv("ACK")),
            *OVER,
        ),
    ),
    "stale_nonce_is_tried_again": (
        talk_and_leave,
        (
            *(recv("INVITE"), reply(401, headers=CHALLENGE.format(nonce="n1", more="")), recv("ACK")),
            *(recv("INVITE"), reply(401, headers=CHALLENGE.format(nonce="n2", more=",stale=true")), recv("ACK")),
            *(recv("INVITE", has='nonce="n2"'), reply(200, body=OFFER), recv("ACK"), *OVER),
        ),
    ),
    "wrong_password_is_not_tried_twice": (
        refused_after_one_try,
        (
            *(recv("INVITE"), reply(401, headers=CHALLENGE.format(nonce="n1", more="")), recv("ACK")),
            *(recv("INVITE"), reply(401, headers=CHALLENGE.format(nonce="n2", more="")), recv("ACK")),
        ),
    ),
    "interval_too_small": (
        talk_and_leave,
        (
            *(recv("INVITE"), reply(422, headers="Min-SE: 3600\n"), recv("ACK")),
            *(recv("INVITE", has="Session-Expires: 3600"), reply(200, body=OFFER), recv("ACK"), *OVER),
        ),
    ),
    **{f"refused_{status}": refused(status) for status in (302, 403, 404, 480, 486, 488, 500, 503, 600, 603)},
}


REQUIREMENTS: dict[str, tuple[Requirement, ...]] = {
    "we_hang_up": (("3326", "2", "SHOULD", "BYE carries a Reason"),),
    "they_hang_up": (("3261", "15.1.2", "MUST", "BYE from the callee gets 200"),),
    "answer_without_ringing": (("3261", "13.2.2.4", "MUST", "a 2xx without any provisional response is taken"),),
    "early_183": (("3261", "13.2.1", "MUST", "early media of a 183 reaches the user"),),
    "provisional_without_tag": (("3261", "12.1", "MUST", "a provisional response without To tag makes no dialog"),),
    "reliable_180": (("3262", "4", "MUST", "a reliable 180 gets PRACK with its RAck"),),
    "forked_ringing": (("3261", "13.2.2.1", "MAY", "several early dialogs of one INVITE; one answers"),),
    "late_answer": (("3261", "13.2.2.1", "MUST", "after a provisional response the answer may be late"),),
    "cancel": (("3261", "9.1", "SHOULD", "CANCEL of a ringing call; its 487 gets ACK"),),
    "cancel_before_anything": (("3261", "9.1", "MUST", "CANCEL waits for a provisional response"),),
    "cancel_crosses_answer": (("3261", "15", "SHOULD", "a 2xx after our CANCEL gets ACK and BYE"),),
    "we_change": (("3264", "8", "MUST", "our re-INVITE changes the session"),),
    "our_change_refused": (("3261", "14.1", "MUST", "488 to our re-INVITE leaves the session"),),
    "our_change_waits_out_491": (("3261", "14.1", "SHOULD", "491: tried again after the random wait"),),
    "they_hold": (("3264", "8.4", "MUST", "the callee holds us"),),
    "they_update": (("3311", "5.2", "MUST", "UPDATE from the callee is answered"),),
    "transfer": (("3515", "2.4.4", "MUST", "our REFER: 202, NOTIFY read to its end"),),
    "transfer_refused": (("3515", "2.4.2", "MUST", "a refused REFER is told"),),
    "info_and_message": (("6086", "4.1", "MUST", "INFO and MESSAGE leave within the dialog"),),
    "challenged_401": (("3261", "22.2", "SHOULD", "401 is answered with nc=00000001 and the next CSeq"),),
    "next_nonce": (("7616", "3.5", "SHOULD", "nextnonce is used for the next request"),),
    "callee_without_our_password": (("3261", "22.4", "SHOULD", "a wrong rspauth is told, and nothing of it used"),),
    "challenged_407_sha256": (("8760", "2.4", "SHOULD", "407 with SHA-256 is answered"),),
    "stale_nonce_is_tried_again": (("7616", "3.3", "SHOULD", "stale=true is answered with the new nonce"),),
    "wrong_password_is_not_tried_twice": (("3261", "22.1", "SHOULD", "a second challenge ends the attempt"),),
    "interval_too_small": (("4028", "7.3", "SHOULD", "422: asked again with Min-SE"),),
    "refused_302": (("3261", "8.1.3.4", "MAY", "3xx is not followed blindly: its Contacts are told"),),
    "refused_486": (("3261", "13.2.2.3", "MUST", "486 and other refusals get ACK and end the call"),),
    "refused_503": (("3263", "4.3", "SHOULD", "503 of the last target ends the call"),),
    "refused_603": (("3261", "13.2.2.3", "MUST", "6xx ends the call"),),
}
# over TCP a call that is given up at once never leaves: the connection is not there yet
FLOWS = [
    flow(name, way, REQUIREMENTS, "UAC")
    for name in SCENARIOS
    for way in ("u1", "t1")
    if (name, way) != ("cancel_before_anything", "t1")
]


@pytest.mark.parametrize(("name", "transport"), FLOWS)
async def test_flow(name: str, transport: str) -> None:
    drive, steps = SCENARIOS[name]
    parameter = ";transport=tcp" if transport == "t1" else ""
    trunk = TrunkAccount("t", f"sip:127.0.0.1:{SIPP}{parameter}", "alice", password="secret", register=False)
    async with (
        station(ENGINE, trunk) as us,
        sipp(callee(*steps), port=SIPP, transport=transport) as far_end,
    ):
        handle = us.engine.place(PlaceCall("5551234", "t", SDP))
        try:
            await drive(us, handle)
            assert await far_end.finished() == 0, far_end.errors()
        except TimeoutError as error:
            raise AssertionError(f"{us.events}\n{far_end.errors()}") from error
        await us.expect(Ended)
        await asyncio.sleep(0.05)
        assert sum(isinstance(event, Ended) for event in us.events) == 1
        assert us.engine.stats()["calls"] == 0
