"""The gate in front of PJSIP: alone, and with calls that PJSIP would answer 486 or die of."""

import asyncio

import pytest

from sipagent.sip.engine import EngineSettings, IncomingCall, TrunkAccount
from sipagent.sip.pjsua2.gate import DROP, PASS, Gate
from sipagent.sip.pjsua2.logged import LoggedMessage, read
from tests.pjsua2.support import pjsip
from tests.support.ports import free_port
from tests.support.scenario import ack, caller, invite, recv
from tests.support.sipp import sipp

TRUNK = TrunkAccount("t", "sip:192.0.2.1", password="secret")


def logged(first: str, source: str = "192.0.2.1", headers: str = "") -> LoggedMessage:
    text = f"{first}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{headers}\r\n"
    found = read(f"RX 9 bytes Request msg INVITE/cseq=1 (rdata0x1) from UDP {source}:5060:\n{text}\n--end msg--")
    assert found is not None
    return found


def gate(calls: int = 0, strangers: bool = False) -> Gate:
    made = Gate(EngineSettings((), trunks=(TRUNK,), accept_unknown_sources=strangers), 4, lambda: calls)
    made.set_trunks({"t": ()}, {"t": ("192.0.2.1",)})
    return made


INVITE = "INVITE sip:c@d SIP/2.0"


def test_log_entry_gives_message_source_and_tags() -> None:
    message = logged(INVITE)
    assert (message.method, message.peer, message.protocol) == ("INVITE", ("192.0.2.1", 5060), "UDP")
    assert (message.call_id, message.tags, message.complete) == ("x", ("1", ""), True)
    assert read("pjsua state changed") is None


def test_stranger_is_dropped_and_trunk_passes() -> None:
    assert gate().screen(logged(INVITE), 0.0) == PASS
    closed = gate()
    assert closed.screen(logged(INVITE, "198.51.100.7"), 0.0) == DROP
    assert closed.counters["guard_not_allowed"] == 1
    assert gate(strangers=True).screen(logged(INVITE, "198.51.100.7"), 0.0) == PASS


def test_call_beyond_the_limit_of_the_build_gets_503() -> None:
    assert gate(calls=3).admit(logged(INVITE), 0.0) == PASS
    full = gate(calls=4)
    assert full.admit(logged(INVITE), 0.0) == 503
    assert full.counters["over_limit"] == 1


def test_storm_of_calls_gets_503_and_passes_again_later() -> None:
    one = gate()
    verdicts = [one.admit(logged(INVITE), 100.0 + n / 50) for n in range(50)]
    assert verdicts.count(PASS) <= 8 + 8
    assert one.admit(logged(INVITE), 103.0) == PASS


def test_challenge_of_a_stranger_is_never_answered() -> None:
    assert gate().screen_response(logged("SIP/2.0 407 Please")) == PASS
    one = gate(strangers=True)
    assert one.screen_response(logged("SIP/2.0 407 Please", "198.51.100.7")) == DROP
    assert one.screen_response(logged("SIP/2.0 200 OK", "198.51.100.7")) == PASS


def test_what_pjsip_would_do_by_itself_or_not_at_all_gets_an_answer() -> None:
    assert gate().admit(logged(INVITE, headers="Replaces: a;to-tag=1;from-tag=2\r\n"), 0.0) == 501
    assert gate().admit(logged("DANCE sip:c@d SIP/2.0"), 0.0) == 405


@pytest.mark.peers
async def test_fifth_call_gets_503_while_four_go_on() -> None:
    async with pjsip() as us:
        us.answer_all()
        four = (invite(), recv(100, optional=True), recv(180, optional=True), recv(200), ack())
        fifth = (invite(), recv(100, optional=True), recv(503), ack())
        async with sipp(caller(*four), us.address, port=free_port(), calls=4, rate=5) as first:
            assert await first.finished() == 0, first.errors()
        await us.expect(IncomingCall, count=4)
        async with sipp(caller(*fifth), us.address, port=free_port()) as second:
            assert await second.finished() == 0, second.errors()
        assert us.engine.max_calls == 4
        assert len(us.engine.handles()) == 4


@pytest.mark.peers
async def test_storm_of_eighty_calls_a_second_does_not_abort_pjsip() -> None:
    async with pjsip() as us:
        us.answer_all()
        pid = us.engine.pid
        async with sipp("uac", us.address, port=free_port(), calls=240, rate=80) as storm:
            await storm.finished()  # most of its calls are refused
        await asyncio.sleep(1.1)
        assert us.engine.pid == pid
        counted = us.engine.stats()
        assert counted["restarts"] == 0
        assert counted.get("over_limit", 0) + counted.get("over_rate", 0) > 100
