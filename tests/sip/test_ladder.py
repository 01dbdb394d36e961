"""The ladder of a call: who sent what when, without secrets, also when the call is over."""

import pytest

from sipagent.sip import ladder
from sipagent.sip.engine import IncomingCall
from sipagent.sip.ladder import Message
from tests.sip.test_call_flows import assert_nothing_left, established, hangup, pair


def test_ladder_tells_the_call_from_invite_to_bye() -> None:
    net, a, b = pair()
    handle, _ = established(net, a, b)
    hangup(a, handle)
    assert_nothing_left(net, a, b)
    drawn = ladder.draw(a.agent.ladders.read(handle))
    rungs = [line.split(maxsplit=1)[1].split("  (")[0] for line in drawn.partition("\n\n")[0].split("\n")]
    assert rungs == [
        "-->  INVITE sip:bob@10.0.0.2", "<--  100 Trying", "<--  180 Ringing", "<--  200 OK",
        f"-->  ACK {b.of(IncomingCall)[0].request_uri.replace('10.0.0.2', '10.0.0.2:5060')}",
        f"-->  BYE {b.of(IncomingCall)[0].request_uri.replace('10.0.0.2', '10.0.0.2:5060')}", "<--  200 OK",
    ]  # fmt: skip
    assert "Content-Type: application/sdp" in drawn
    assert ladder.draw(ladder.unpack(ladder.pack(a.agent.ladders.read(handle)))) == drawn


SECRETS = (
    b'INFO sip:a@b SIP/2.0\r\nAuthorization: Digest username="u",\r\n  response="r"\r\n'
    b"proxy-authorization : Digest x\r\n"
    b"CSeq: 7 INFO\r\nContent-Type: application/dtmf-relay\r\n\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0|2^20;inline:b3RoZXI=|2:4\r\nk=base64:a2V5\r\n"
    b"Signal= 4\r\nDuration=160\r\n"
)
KEY_ALONE = b"INFO sip:a@b SIP/2.0\r\nc: application/dtmf\r\nCSeq: 8 INFO\r\n\r\n5\r\n"


@pytest.mark.parametrize("seen", ["text", "octets", "repr"])
def test_secrets_are_masked_wherever_they_stand(seen: str) -> None:
    one, other = Message(1.0, "in", SECRETS), Message(1.1, "in", KEY_ALONE)
    shown, key = {
        "text": (ladder.draw([one]), ladder.draw([other])),
        "octets": (one.octets.decode(), other.octets.decode()),
        "repr": (repr(one), repr(other)),
    }[seen]
    for secret in ("response", "Digest", "c2VjcmV0", "b3RoZXI", "a2V5", "Signal= 4"):
        assert secret not in shown
    assert "Duration=160" in shown and "AES_CM_128_HMAC_SHA1_80 inline:" in shown and "7 INFO" in shown
    assert key.rstrip("\r\n')\\nr").endswith("*")


def test_a_mask_for_programs_keeps_the_length_of_the_body() -> None:
    assert len(Message(1.0, "in", SECRETS).octets) == len(SECRETS)


def test_what_is_kept_of_a_call_that_is_over_is_bounded() -> None:
    long = [
        Message(float(number), "in", b"MESSAGE sip:a@b SIP/2.0\r\nCSeq: %d MESSAGE\r\n\r\n" % number + b"x" * 4000)
        for number in range(200)
    ]
    kept = ladder.unpack(ladder.pack(long))
    assert [message.cseq for message in kept] == [f"{number} MESSAGE" for number in range(200)]
    assert sum(len(message.data) for message in kept) < 90_000


def test_nothing_is_drawn_of_a_call_that_nobody_knows() -> None:
    assert ladder.draw(ladder.unpack(ladder.pack(()))) == ladder.draw(()) == ""


def test_flight_logs_of_calls_that_are_over_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "ENDED_BYTES_KEPT", 10_000)
    kept = ladder.Ladders()
    for number in range(6):
        kept.open(f"h{number}", f"c{number}")
        for _ in range(4):
            kept.note(f"c{number}", ladder.Message(0.0, "in", b"x" * 1000))
    assert all(len(kept.read(f"h{number}")) == 4 for number in range(6)), "calls that are alive are kept whole"
    for number in range(6):
        kept.close(f"h{number}")
    assert [number for number in range(6) if kept.read(f"h{number}")] == [4, 5]
    kept.open("h5", "c5")
    assert kept.read("h5"), "a call that comes back is not forgotten"
    assert kept._idle_bytes == 4000
    for _ in range(9):
        kept.note("stranger", ladder.Message(0.0, "in", b"INVITE " + b"x" * 993))
    assert kept._idle_bytes == 13_000
