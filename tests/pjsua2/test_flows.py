"""The call flows of the native engine's tests, on PJSIP; what is not here, docs/pjsua2.md tells why."""

import asyncio

import pytest

from sipagent.sip.engine import Ended, IncomingCall, PlaceCall, TrunkAccount
from tests.pjsua2.support import pjsip
from tests.sip import test_sipp_calls_us as they_call
from tests.sip import test_we_call_sipp as we_call
from tests.support.ports import free_port
from tests.support.scenario import ack, callee, caller, invite, recv
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers
THEY_CALL = (
    "short", "hold_and_back", "reinvite_without_offer", "no_common_codec", "reinvite_refused_call_stays", "cancel",
    "cancel_of_nothing", "bye_while_ringing", "we_hang_up", "we_hold", "our_hold_refused", "our_hold_pending_491",
    "options_in_call", "refer", "refer_without_target", "we_refer", "info", "message_in_call", "update_with_offer",
    "update_without_offer", "session_timer", "session_timer_too_small", "require_unknown", "subscribe",
    "register_to_us", "early_media", "early_media_refused", "early_media_refused_after_prack", "early_media_redirected",
    "early_media_cancelled", "multipart", "early_media_reliable",
    "merged_request", "bye_with_wrong_tag", "compact_and_odd_headers", "tel_uri",
    "cancel_after_answer_changes_nothing", "notify_of_nothing",
)  # fmt: skip
WE_CALL = (
    "we_hang_up", "they_hang_up", "answer_without_ringing", "early_183", "provisional_without_tag", "reliable_180",
    "forked_ringing", "late_answer", "cancel", "cancel_before_anything", "cancel_crosses_answer", "we_change",
    "our_change_refused", "our_change_waits_out_491", "they_hold", "they_update", "transfer", "transfer_refused",
    "info_and_message", "challenged_401", "challenged_407_sha256", "interval_too_small", "refused_302", "refused_403",
    "refused_486", "refused_503", "refused_603",
)  # fmt: skip


@pytest.mark.parametrize("name", THEY_CALL)
async def test_call_to_us_goes_as_on_the_native_engine(name: str) -> None:
    react, steps = they_call.SCENARIOS[name]
    async with pjsip() as us:
        us.on_event = lambda event: react(us, event)
        async with sipp(caller(*steps), us.address, port=free_port()) as far_end:
            assert await far_end.finished() == 0, (us.events, far_end.errors())


@pytest.mark.parametrize("name", WE_CALL)
async def test_call_from_us_goes_as_on_the_native_engine(name: str) -> None:
    drive, steps = we_call.SCENARIOS[name]
    port = free_port()
    trunk = TrunkAccount("t", f"sip:127.0.0.1:{port}", "alice", password="secret", domain="sip.test", register=False)
    async with pjsip(trunk) as us, sipp(callee(*steps), port=port) as far_end:
        handle = us.engine.place(PlaceCall("5551234", "t", we_call.SDP))
        await drive(us, handle)
        assert await far_end.finished() == 0, (us.events, far_end.errors())
        await us.expect(Ended)
        await asyncio.sleep(0.05)
        assert sum(isinstance(event, Ended) for event in us.events) == 1
        assert us.engine.handles() == ()


@pytest.mark.parametrize("name", ["short", "cancel", "refer", "we_hold"])
async def test_call_to_us_goes_over_tcp(name: str) -> None:
    react, steps = they_call.SCENARIOS[name]
    async with pjsip() as us:
        us.on_event = lambda event: react(us, event)
        async with sipp(caller(*steps), us.address, port=free_port(tcp=True), transport="t1") as far_end:
            assert await far_end.finished() == 0, (us.events, far_end.errors())


async def test_answer_carries_our_port_and_codec_and_ladder_shows_it() -> None:
    port = free_port()
    async with pjsip() as us:
        us.answer_all()
        seen: list[str] = []
        us.engine.observe(lambda handle, call_id, message: seen.append(message.first_line))
        async with sipp("uac", us.address, port=port) as far_end:
            assert await far_end.finished() == 0, far_end.errors()
        handle = (await us.expect(IncomingCall)).handle
        await us.expect(Ended)
        assert seen == [message.first_line for message in us.engine.ladder(handle)]
        ends = {(message.local, message.remote, message.protocol) for message in us.engine.ladder(handle)}
        assert ends == {(("127.0.0.1", int(us.address.rpartition(":")[2])), ("127.0.0.1", port), "UDP")}
        answers = [each.text for each in us.engine.ladder(handle) if each.direction == "out" and "m=audio" in each.text]
        assert len(answers) == 1
        assert "m=audio 27990 RTP/AVP 0\r\n" in answers[0]


async def test_invite_without_an_offer_is_refused_not_answered_wrongly() -> None:
    async with pjsip() as us:
        steps = (invite(body=""), *they_call.PROVISIONAL, recv(488), ack())
        async with sipp(caller(*steps), us.address, port=free_port()) as far_end:
            assert await far_end.finished() == 0, far_end.errors()
        assert us.events == []


async def test_no_answer_ends_the_call_as_hung_up_by_us() -> None:
    port = free_port()
    trunk = TrunkAccount("t", f"sip:127.0.0.1:{port}", register=False)
    async with pjsip(trunk) as us:
        handle = us.engine.place(PlaceCall("5551234", "t", we_call.SDP))
        await asyncio.sleep(0.2)
        us.engine.hangup(handle)
        assert (await us.expect(Ended)).by == "local"
