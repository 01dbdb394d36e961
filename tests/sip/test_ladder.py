"""The ladder of a call: who sent what when, without secrets, also when the call is over."""

from sipagent.sip import ladder
from sipagent.sip.engine import IncomingCall
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
    assert ladder.unpack(ladder.pack(a.agent.ladders.read(handle))) == drawn


def test_secrets_are_masked_wherever_they_stand() -> None:
    text = (
        'INVITE sip:a@b SIP/2.0\nAuthorization: Digest username="u", response="r"\nproxy-authorization: Digest x\n\n'
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0|2^20\n"
    )
    drawn = ladder.draw([(1.0, "in", ladder.mask(text))])
    assert "response" not in drawn
    assert "Digest" not in drawn
    assert "c2VjcmV0" not in drawn
    assert "inline: ***" in drawn


def test_nothing_is_drawn_of_a_call_that_nobody_knows() -> None:
    assert ladder.unpack(ladder.pack(())) == ladder.draw(()) == ""
