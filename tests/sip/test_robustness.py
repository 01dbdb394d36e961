"""Whatever bytes come: no exception, no state that stays, and a password that no stranger can ask for."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.errors import ParseError
from sipagent.sip import header, message
from sipagent.sip.engine import Ended, EngineEvent, IncomingCall, PlaceCall, TrunkAccount
from sipagent.sip.framing import StreamFramer
from tests.support.mutation import MESSAGES, mutate
from tests.support.sipnet import SDP, Host, VirtualNetwork

A, B = "10.0.0.1", "10.0.0.2"


@pytest.mark.rfc("4475", "3", "MUST", role="both", text="any bytes are parsed or refused, never more")
@given(st.binary(max_size=600))
def test_any_bytes_parse_or_raise_parse_error(data: bytes) -> None:
    try:
        received, _ = message.parse_message(data)
    except ParseError:
        return
    message.serialize(received)


@given(st.text(max_size=80))
def test_any_header_value_parses_or_raises_parse_error(value: str) -> None:
    for parse in (header.parse_via, header.parse_address, header.parse_cseq, header.parse_uri, header.parse_parameters):
        try:
            parse(value)
        except ParseError:
            continue


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.lists(st.integers(1, 400), max_size=30))
def test_stream_gives_the_same_messages_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(parts)
    at_once = StreamFramer()
    expected = at_once.feed(whole)
    framer, found, rest = StreamFramer(), [], whole
    for cut in cuts:
        piece, rest = rest[:cut], rest[cut:]
        found += framer.feed(piece)
    found += framer.feed(rest)
    assert found == expected


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_thousands_of_damaged_messages_leave_no_trace(protocol: str) -> None:
    net = VirtualNetwork()
    host = net.host(B)
    host.protocol = protocol
    rng = random.Random(4475)

    def react(event: EngineEvent) -> None:
        if isinstance(event, IncomingCall):
            choice = rng.randrange(3)
            if choice == 0:
                host.agent.answer(event.handle, SDP, (), host.now)
            elif choice == 1:
                host.agent.reject(event.handle, 486, "", (), host.now)

    host.react = react
    for _ in range(3000):
        net.inject(A, B, mutate(rng.choice(MESSAGES), rng))
        net.run(0.01)
    for call in host.agent.calls():
        call.hangup((), host.now)
    net.run(300)
    stats = host.agent.stats()
    assert (stats["calls"], stats["dialogs"], stats["transactions"]) == (0, 0, 0)


@pytest.mark.rfc("4475", "3", "MUST", role="both", text="damaged messages within a call do not disturb it")
def test_damaged_messages_within_a_call_do_not_disturb_it() -> None:
    net = VirtualNetwork()
    a, b = net.host(A), net.host(B)
    _answering(b)
    handle = a.agent.place(PlaceCall(f"sip:bob@{B}", "", SDP), a.now)
    net.run(1)
    rng = random.Random(3261)
    own = [text.encode() for _, text in (*a.sent, *b.sent) if not text.startswith(("BYE", "CANCEL"))]
    for _ in range(3000):
        data = mutate(rng.choice(own), rng)
        if b"BYE" not in data and b"CANCEL" not in data:
            net.inject(*((A, B) if rng.random() < 0.5 else (B, A)), data)
            net.run(0.005)
    call = a.agent.call(handle)
    assert call is not None
    assert call.confirmed


@pytest.mark.rfc("3261", "7.3.1", "MUST", role="both", text="octets that are no UTF-8 go back as they came")
def test_octets_that_are_no_utf_8_are_answered_as_they_came_and_told_as_replacement_characters() -> None:
    net = VirtualNetwork()
    us = net.host(B)
    _answering(us)
    invite = (
        f"INVITE sip:x@{B} SIP/2.0\r\nVia: SIP/2.0/UDP {A};branch=z9hG4bKx\r\nMax-Forwards: 9\r\n"
        f'From: "Ad\udcffa" <sip:ada@{A}>;tag=1\r\nTo: <sip:x@{B}>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n'
        f"Contact: <sip:ada@{A}>\r\nSubject: \udc99 is no UTF-8, ü is\r\nContent-Length: 0\r\n\r\n"
    )
    answers: list[bytes] = []
    send = net._send
    net._send = lambda host, action: (answers.append(action.data), send(host, action))[1]  # type: ignore[method-assign]
    net.inject(A, B, invite.encode("utf-8", "surrogateescape"))
    net.run(0.1)
    (call,) = us.of(IncomingCall)
    assert call.from_name == "Ad\ufffda"
    assert ("Subject", "\ufffd is no UTF-8, ü is") in call.headers
    for event in us.of(object):
        msgspec.msgpack.encode(event)
    assert answers
    assert all(b'From: "Ad\xffa" <sip:ada@' in answer for answer in answers)


@pytest.mark.rfc("3261", "17", "MUST", role="both", text="no state is left by a storm of damaged messages")
@pytest.mark.parametrize("seed", range(4))
def test_calls_in_a_storm_of_damage_and_haste_leave_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)
    net = VirtualNetwork(seed=seed)
    hosts = net.host(A), net.host(B)
    for host in hosts:
        _answering(host)
    hosts[0].agent.place(PlaceCall(f"sip:bob@{B}", "", SDP), net.now)
    net.run(0.5)
    seeds = MESSAGES + [text.encode() for host in hosts for _, text in host.sent] * 5
    for _ in range(300):
        net.inject(*((A, B) if rng.random() < 0.5 else (B, A)), mutate(rng.choice(seeds), rng))
        net.run(rng.choice((0.001, 0.3, 3)))
        for call in [call for host in hosts for call in host.agent.calls() if rng.random() < 0.03]:
            rng.choice(
                (
                    lambda call=call: call.hangup((), net.now),
                    lambda call=call: call.reoffers.offer(SDP, net.now),
                    lambda call=call: call.reoffers.accept(SDP, net.now),
                    lambda call=call: call.transfers.refer("sip:x@y", "", net.now),
                    lambda call=call: call.transfers.accept(net.now),
                    lambda call=call: call.send_in_dialog("INFO", "a/b", b"x", net.now),
                )
            )()
    for host in hosts:
        for call in host.agent.calls():
            call.hangup((), net.now)
    net.run(200)
    for host in hosts:
        stats = host.agent.stats()
        assert (stats["calls"], stats["dialogs"], stats["transactions"]) == (0, 0, 0)


def _answering(host: Host) -> None:
    def react(event: EngineEvent) -> None:
        if isinstance(event, IncomingCall):
            host.agent.answer(event.handle, SDP, (), host.now)

    host.react = react


TRUNK = TrunkAccount("trunk", f"sip:{A}", "agent", password="secret", register=False)
CHALLENGE = 'Proxy-Authenticate: Digest realm="{realm}",nonce="evil",algorithm=MD5'


def challenge_every(net: VirtualNetwork, method: str, source: str, victim: str, realm: str) -> None:
    """The far end answers a method with 407."""

    def drop(sender: str, text: str) -> bool:
        if sender == victim and text.startswith(method) and "Proxy-Authorization" not in text:
            head = text.split("\r\n\r\n")[0].split("\r\n")[1:]
            kept = [line for line in head if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")]
            answer = "\r\n".join(
                ["SIP/2.0 407 Prove it", *kept, CHALLENGE.format(realm=realm), "Content-Length: 0", "", ""]
            )
            net.inject(source, victim, answer.encode())
            return True
        return False

    net.drop = drop


@pytest.mark.rfc(
    "3261", "22.1", "MUST", role="UAC", text="a peer's challenge of our BYE gets no credentials (digest leak)"
)
@pytest.mark.parametrize("realm", ["anything", A, "sip.test"])
def test_stranger_who_challenges_our_bye_learns_nothing(realm: str) -> None:
    net = VirtualNetwork()
    victim = net.host(B, TRUNK, trunk_of={A: "trunk"})
    attacker = net.host("10.0.0.66")
    _answering(victim)
    attacker.agent.place(PlaceCall(f"sip:agent@{B}", "", SDP), attacker.now)
    net.run(1)
    challenge_every(net, "BYE", "10.0.0.66", B, realm)
    call = victim.agent.calls()[0]
    call.hangup((), net.now)
    net.run(5)
    assert not [text for _, text in victim.sent if "uthorization" in text]
    assert victim.of(Ended)


@pytest.mark.rfc("3261", "22.1", "MUST", role="UAC", text="only a realm that the trunk has proved is answered")
def test_caller_behind_the_trunk_who_challenges_our_bye_learns_nothing_without_a_proved_realm() -> None:
    net = VirtualNetwork()
    victim = net.host(B, TRUNK, trunk_of={A: "trunk"})
    caller = net.host(A)
    _answering(victim)
    caller.agent.place(PlaceCall(f"sip:agent@{B}", "", SDP), caller.now)
    net.run(1)
    challenge_every(net, "BYE", A, B, "sip.test")
    victim.agent.calls()[0].hangup((), net.now)
    net.run(5)
    assert not [text for _, text in victim.sent if "uthorization" in text]


@pytest.mark.rfc("3261", "22.1", "MUST", role="UAC", text="credentials go to the trunk's own servers only")
def test_stranger_whom_we_call_with_a_trunks_identity_gets_no_password() -> None:
    net = VirtualNetwork()
    us = net.host(B, TRUNK, trunk_of={A: "trunk"})
    stranger = "10.0.0.66"
    challenge_every(net, "INVITE", stranger, B, "sip.test")
    us.agent.place(PlaceCall(f"sip:x@{stranger}", "trunk", SDP), us.now)
    net.run(1)
    assert us.of(Ended)[0].status == 407
    assert not [text for _, text in us.sent if "uthorization" in text]


@pytest.mark.rfc("3261", "22.2", "SHOULD", role="UAC", text="the trunk's challenge of our INVITE is answered")
def test_trunk_that_challenges_our_invite_is_answered() -> None:
    net = VirtualNetwork()
    us = net.host(B, TRUNK, trunk_of={A: "trunk"})
    server = net.host(A)
    _answering(server)
    challenge_every(net, "INVITE", A, B, "sip.test")
    us.agent.place(PlaceCall("5551234", "trunk", SDP), us.now)
    net.run(1)
    assert [text for text in us.requests("INVITE") if "Proxy-Authorization: Digest" in text]


@pytest.mark.rfc("5393", "1", "SHOULD", role="UAS", text="strangers get no answer when only trunks may call")
def test_strangers_get_no_sign_of_life_when_only_trunks_may_call() -> None:
    net = VirtualNetwork()
    us = net.host(B, TRUNK, trunk_of={A: "trunk"})
    us.agent.trunks.identify = lambda source: "trunk" if source == A else None
    stranger = "10.0.0.66"
    for data in MESSAGES:
        net.inject(stranger, B, data)
        net.run(0.01)
    net.run(40)
    assert us.sent == []
    assert us.agent.stats()["transactions"] == 0


@pytest.mark.rfc("3261", "18.1.2", "SHOULD", role="UAC", text="a response to no transaction of ours is dropped")
@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_response_to_nothing_is_counted_and_forgotten(seed: int) -> None:
    net = VirtualNetwork(seed=seed)
    us = net.host(B)
    net.inject(A, B, MESSAGES[-3] if MESSAGES[-3].startswith(b"SIP/2.0") else b"SIP/2.0 200 OK\r\n\r\n")
    net.run(1)
    assert us.sent == []
