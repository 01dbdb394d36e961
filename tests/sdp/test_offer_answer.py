"""Offer and answer (RFC 3264): codecs, payload types, directions, addresses, versions, RTCP."""

import ipaddress
from dataclasses import replace

import pytest

from sipagent.sdp.address import AddressPolicy
from sipagent.sdp.description import parse, serialize
from sipagent.sdp.negotiated import Direction, MediaPolicy, NegotiatedCodec, NoCommonCodec
from sipagent.sdp.offer_answer import accept_answer, answer, make_offer

US = ("192.0.2.10", 16000)
PCMU = NegotiatedCodec(0, "PCMU", 8000, 8000)
PCMA = NegotiatedCodec(8, "PCMA", 8000, 8000)
G722 = NegotiatedCodec(9, "G722", 8000, 16000)
ALL = MediaPolicy(codecs=("G722", "PCMU", "PCMA"))


def sdp(*lines: str, c: str = "IN IP4 198.51.100.7", o: str = "- 7 7 IN IP4 198.51.100.7"):
    text = "\r\n".join(["v=0", f"o={o}", "s=-", *([f"c={c}"] if c else []), "t=0 0", *lines, ""])
    return parse(text.encode())


def answered(*lines: str, policy: MediaPolicy = ALL, address: str = US[0], **options):
    c = options.pop("c", "IN IP4 198.51.100.7")
    return answer(sdp(*lines, c=c), policy, address, US[1], session_id=42, **options)


def text_of(description) -> list[str]:
    assert parse(serialize(description)) == description
    return serialize(description).decode().splitlines()


# ---- offering


@pytest.mark.rfc("3264", "5.1", "MUST", role="offerer", text="formats stand in order of preference")
@pytest.mark.rfc("4733", "2.4.1", "MUST", role="offerer", text="telephone-event is offered with its events")
def test_an_offer_lists_our_codecs_in_our_order_with_telephone_events():
    offer = make_offer(ALL, *US, session_id=42)
    assert text_of(offer) == [
        "v=0",
        "o=- 42 1 IN IP4 192.0.2.10",
        "s=-",
        "c=IN IP4 192.0.2.10",
        "t=0 0",
        "m=audio 16000 RTP/AVP 9 0 8 101",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=maxptime:60",
        "a=rtcp-mux",
        "a=sendrecv",
    ]


def test_comfort_noise_and_ipv6_are_offered_when_wanted():
    offer = make_offer(
        MediaPolicy(offer_comfort_noise=True, telephone_event=False, rtcp_mux=False), "2001:db8::1", 16000, session_id=1
    )
    assert offer.media[0].formats == ("0", "8", "13")
    assert "c=IN IP6 2001:db8::1" in text_of(offer)
    assert "a=rtcp-mux" not in text_of(offer)


def test_a_policy_with_an_unknown_codec_is_refused():
    with pytest.raises(ValueError, match="OPUS"):
        MediaPolicy(codecs=("OPUS",))
    with pytest.raises(ValueError, match="NULL"):
        MediaPolicy(srtp_suites=("NULL_HMAC_SHA1_80",))


# ---- answering: codecs and payload types


@pytest.mark.rfc("3264", "6.1", "SHOULD", role="answerer", text="the answer follows the offerer's order")
def test_the_offerers_order_decides_and_one_codec_is_answered():
    result = answered("m=audio 4000 RTP/AVP 18 8 0 9 101", "a=rtpmap:101 telephone-event/8000")
    assert result.negotiated.send == PCMA
    assert result.description.media[0].formats == ("8", "101")


def test_our_order_decides_when_we_say_so():
    result = answered("m=audio 4000 RTP/AVP 0 9", policy=replace(ALL, prefer_own_order=True))
    assert result.negotiated.send == G722
    assert result.negotiated.receive == (G722,)


def test_several_codecs_are_answered_when_the_policy_allows():
    result = answered("m=audio 4000 RTP/AVP 0 9 8", policy=replace(ALL, single_codec=False))
    assert result.description.media[0].formats == ("0", "9", "8")
    assert result.negotiated.receive == (PCMU, G722, PCMA)


def test_a_sibling_of_the_same_rate_may_arrive_although_one_codec_was_answered():
    result = answered("m=audio 4000 RTP/AVP 0 8 9")
    assert result.negotiated.receive == (PCMU, PCMA)


@pytest.mark.rfc("3264", "6.1", "SHOULD", role="answerer", text="dynamic payload types keep the offerer's numbers")
def test_dynamic_payload_types_keep_the_offerers_numbers():
    result = answered(
        "m=audio 4000 RTP/AVP 111 118",
        "a=rtpmap:111 pcma/8000/1",
        "a=rtpmap:118 Telephone-Event/8000",
        "a=fmtp:118 0-15",
    )
    assert result.negotiated.send == NegotiatedCodec(111, "PCMA", 8000, 8000)
    assert result.negotiated.telephone_event == ((118, 8000),)
    text = text_of(result.description)
    assert "m=audio 16000 RTP/AVP 111 118" in text
    assert "a=rtpmap:111 PCMA/8000" in text
    assert "a=fmtp:118 0-15" in text  # no more than was offered


@pytest.mark.rfc(
    "8866",
    "6.6",
    "MUST",
    role="both",
    text="an rtpmap overrides the static meaning; without one the static meaning holds",
)
def test_an_rtpmap_overrides_the_static_meaning_of_a_payload_type():
    result = answered("m=audio 4000 RTP/AVP 0 8", "a=rtpmap:0 opus/48000/2")
    assert result.negotiated.send == PCMA
    with pytest.raises(NoCommonCodec):
        answered("m=audio 4000 RTP/AVP 0", "a=rtpmap:0 PCMU/8000/2")
    with pytest.raises(NoCommonCodec):
        answered("m=audio 4000 RTP/AVP 96", "a=rtpmap:96 PCMU/16000")


@pytest.mark.rfc("3551", "4.5.2", "MUST", role="both", text="G.722 counts at 8 kHz")
def test_g722_samples_at_16_khz_and_counts_at_8_even_when_the_offer_says_otherwise():
    assert answered("m=audio 4000 RTP/AVP 9").negotiated.send == G722
    assert answered("m=audio 4000 RTP/AVP 9", "a=rtpmap:9 G722/16000").negotiated.send == G722


@pytest.mark.rfc("4733", "2.5.1.2", "SHOULD", role="answerer", text="a telephone-event for each clock rate is answered")
def test_every_clock_rate_of_telephone_event_is_answered_the_streams_own_first():
    result = answered(
        "m=audio 4000 RTP/AVP 0 96 97", "a=rtpmap:96 telephone-event/48000", "a=rtpmap:97 telephone-event/8000"
    )
    assert result.negotiated.telephone_event == ((97, 8000), (96, 48000))
    assert result.description.media[0].formats == ("0", "96", "97")


@pytest.mark.rfc("3389", "4", "SHOULD", role="answerer", text="comfort noise is accepted when offered")
def test_comfort_noise_is_accepted_when_offered():
    assert answered("m=audio 4000 RTP/AVP 0 13").negotiated.comfort_noise == 13
    assert answered("m=audio 4000 RTP/AVP 0").negotiated.comfort_noise == -1
    off = replace(ALL, comfort_noise=False, telephone_event=False)
    result = answered("m=audio 4000 RTP/AVP 0 13 101", "a=rtpmap:101 telephone-event/8000", policy=off)
    assert result.description.media[0].formats == ("0",)
    assert (result.negotiated.comfort_noise, result.negotiated.telephone_event) == (-1, ())


@pytest.mark.rfc("3261", "13.3.1.3", "SHOULD", role="answerer", text="an offer without anything for us gets 488")
@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("m=audio 4000 RTP/AVP 18 3",),
        ("m=audio 0 RTP/AVP 0",),
        ("m=image 4000 udptl t38",),
        ("m=audio 4000 UDP/TLS/RTP/SAVPF 0",),
        ("m=audio 4000 RTP/SAVP 0",),
        ("m=audio 4000 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"),
        ("m=audio 4000 RTP/AVP 96", "a=rtpmap:96"),
    ],
)
def test_an_offer_without_anything_for_us_is_answered_488(lines):
    with pytest.raises(NoCommonCodec) as caught:
        answered(*lines)
    assert caught.value.status == 488


# ---- several m= lines


@pytest.mark.rfc("3264", "6", "MUST", role="answerer", text="every m-line is answered, what we do not take with port 0")
def test_every_m_line_is_answered_and_what_we_do_not_take_gets_port_0():
    result = answered(
        "m=video 5000 RTP/AVP 31",
        "a=rtpmap:31 H261/90000",
        "m=audio 5002 RTP/AVP 18",
        "m=audio 5004 RTP/AVP 0",
        "m=audio 5006 RTP/AVP 8",
        "m=message 5008 TCP/MSRP *",
    )
    assert [line for line in text_of(result.description) if line.startswith("m=")] == [
        "m=video 0 RTP/AVP 31",
        "m=audio 0 RTP/AVP 18",
        "m=audio 16000 RTP/AVP 0",
        "m=audio 0 RTP/AVP 8",
        "m=message 0 TCP/MSRP *",
    ]
    assert (result.negotiated.media_index, result.negotiated.remote_port) == (2, 5004)


@pytest.mark.rfc("3264", "8", "MUST", role="offerer", text="a later offer never has fewer m-lines")
def test_a_later_offer_of_ours_keeps_every_m_line_and_every_payload_type():
    first = answered(
        "m=video 5000 RTP/AVP 31", "m=audio 5002 RTP/AVP 8 101 97", "a=rtpmap:101 G726-32/8000",
        "a=rtpmap:97 telephone-event/8000",
    )  # fmt: skip
    offer = make_offer(ALL, *US, session_id=42, previous=first.description, direction=Direction.SENDONLY)
    assert [line for line in text_of(offer) if line.startswith("m=")] == [
        "m=video 0 RTP/AVP 31",
        "m=audio 16000 RTP/AVP 8 9 0 97",
    ]
    assert "a=rtpmap:97 telephone-event/8000" in text_of(offer)
    assert offer.origin.version == first.description.origin.version + 1


@pytest.mark.rfc("3264", "8.3.2", "MUST", role="offerer", text="a payload type keeps its meaning for the whole session")
def test_a_payload_type_that_is_taken_is_not_given_another_meaning():
    first = answered("m=audio 5002 RTP/AVP 101", "a=rtpmap:101 PCMU/8000")
    offer = make_offer(MediaPolicy(), *US, session_id=42, previous=first.description)
    assert offer.media[0].formats == ("101", "8", "96")
    assert "a=rtpmap:96 telephone-event/8000" in text_of(offer)


# ---- direction and hold


@pytest.mark.rfc(
    "3264",
    "6.1",
    "MUST",
    role="answerer",
    text="sendonly is answered by recvonly or inactive, recvonly by sendonly or inactive, inactive by inactive",
)
@pytest.mark.parametrize(
    ("offered", "answer_line", "sending", "receiving", "held"),
    [
        ("sendrecv", "sendrecv", True, True, False),
        ("sendonly", "recvonly", False, True, True),
        ("recvonly", "sendonly", True, False, False),
        ("inactive", "inactive", False, False, True),
    ],
)
def test_the_answer_mirrors_the_direction(offered, answer_line, sending, receiving, held):
    result = answered("m=audio 4000 RTP/AVP 0", f"a={offered}")
    assert f"a={answer_line}" in text_of(result.description)
    got = result.negotiated
    assert (got.sending, got.receiving, got.held) == (sending, receiving, held)


@pytest.mark.rfc("3264", "6.1", "MUST", role="answerer", text="the direction never exceeds the offer")
def test_the_answer_never_exceeds_our_wish_or_the_offer():
    for offered in Direction:
        for wish in Direction:
            ours = offered.answer(wish)
            assert not ours.sending or (offered.receiving and wish.sending)
            assert not ours.receiving or (offered.sending and wish.receiving)
    assert Direction.SENDONLY.answer(Direction.SENDONLY) is Direction.INACTIVE


@pytest.mark.rfc("8866", "6.7", "MUST", role="both", text="a direction of the session holds where the stream has none")
def test_a_direction_of_the_session_holds_where_the_stream_has_none():
    assert answered("a=sendonly", "m=audio 4000 RTP/AVP 0").negotiated.held
    assert not answered("a=sendonly", "m=audio 4000 RTP/AVP 0", "a=sendrecv").negotiated.held


@pytest.mark.rfc("3264", "8.4", "MUST", role="answerer", text="hold by c=0.0.0.0 stops our sending")
def test_old_hold_by_0_0_0_0_stops_our_sending():
    result = answered("m=audio 4000 RTP/AVP 0", c="IN IP4 0.0.0.0")
    assert (result.negotiated.sending, result.negotiated.receiving, result.negotiated.held) == (False, True, True)
    assert "a=recvonly" in text_of(result.description)


@pytest.mark.rfc("3264", "8.4", "SHOULD", role="both", text="hold and resume end where they began")
def test_hold_and_resume_end_where_they_began():
    offer = sdp("m=audio 4000 RTP/AVP 0")
    before = answer(offer, ALL, *US, session_id=42)
    held = answer(sdp("m=audio 4000 RTP/AVP 0", "a=sendonly"), ALL, *US, session_id=42, previous=before.description)
    after = answer(offer, ALL, *US, session_id=42, previous=held.description)
    assert held.negotiated.held
    assert after.negotiated == before.negotiated
    versions = [result.description.origin.version for result in (before, held, after)]
    assert versions == [1, 2, 3]


# ---- o= version


@pytest.mark.rfc("3264", "8", "MUST", role="offerer", text="o= version: one more per change, the same when unchanged")
def test_an_unchanged_description_keeps_its_version_and_a_changed_one_gets_the_next():
    offer = make_offer(ALL, *US, session_id=42)
    assert make_offer(ALL, *US, session_id=99, previous=offer) == offer
    moved = make_offer(ALL, "192.0.2.11", 16000, session_id=99, previous=offer)
    assert (moved.origin.session_id, moved.origin.version) == (42, 2)
    first = answered("m=audio 4000 RTP/AVP 0")
    again = answered("m=audio 4000 RTP/AVP 0", previous=first.description)
    assert again == first


@pytest.mark.rfc("3264", "6", "MUST", role="answerer", text="t= of the answer equals the offer's")
def test_the_answer_repeats_the_offers_time_line():
    offer = parse(
        b"v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=5 9\r\nm=audio 4000 RTP/AVP 0\r\n"
    )
    assert "t=5 9" in text_of(answer(offer, ALL, *US, session_id=1).description)


# ---- ending a stream


@pytest.mark.rfc("3264", "8.2", "MUST", role="answerer", text="port 0 in a later offer ends the stream")
def test_port_0_in_a_later_offer_ends_the_stream_and_is_answered_with_port_0():
    first = answered("m=audio 4000 RTP/AVP 0")
    ended = answered("m=audio 0 RTP/AVP 0", previous=first.description)
    assert ended.negotiated is None
    assert ended.description.media[0].port == 0
    back = answered("m=audio 4000 RTP/AVP 0", previous=ended.description)
    assert back.negotiated.send == PCMU


@pytest.mark.rfc(
    "3264", "8", "MUST", role="answerer", text="a later offer that does not suit is refused; the session stays"
)
def test_a_later_offer_that_does_not_suit_is_refused_and_not_taken_for_an_end():
    first = answered("m=audio 4000 RTP/AVP 0")
    with pytest.raises(NoCommonCodec):
        answered("m=audio 4000 RTP/AVP 18", previous=first.description)


# ---- packet time


@pytest.mark.rfc("8866", "6.4", "SHOULD", role="both", text="ptime 10 to 60 is followed, maxptime kept")
@pytest.mark.parametrize(
    ("lines", "ptime_ms"),
    [
        ((), 20),
        (("a=ptime:10",), 10),
        (("a=ptime:30",), 30),
        (("a=ptime:60",), 60),
        (("a=ptime:200",), 60),
        (("a=ptime:5",), 10),
        (("a=ptime:25",), 20),
        (("a=ptime:20.0",), 20),
        (("a=ptime:0",), 20),
        (("a=ptime:99999999999999999999",), 20),
        (("a=ptime:-20",), 20),
        (("a=ptime:40", "a=maxptime:30"), 30),
        (("a=maxptime:10",), 10),
    ],
)
def test_the_packet_time_follows_the_far_end_within_bounds(lines, ptime_ms):
    result = answered("m=audio 4000 RTP/AVP 0", *lines)
    assert result.negotiated.ptime_ms == ptime_ms
    assert f"a=ptime:{ptime_ms}" in text_of(result.description)
    assert "a=maxptime:60" in text_of(result.description)  # longer ones would not be heard


# ---- RTCP


@pytest.mark.rfc("3605", "2.1", "MUST", role="both", text="a=rtcp names where RTCP goes")
@pytest.mark.parametrize(
    ("lines", "address", "port"),
    [
        ((), "198.51.100.7", 4001),
        (("a=rtcp:5005",), "198.51.100.7", 5005),
        (("a=rtcp:5005 IN IP4 198.51.100.8",), "198.51.100.8", 5005),
        (("a=rtcp:5005 IN IP4 224.0.0.1",), "198.51.100.7", 4001),
        (("a=rtcp:9",), "198.51.100.7", 4001),
        (("a=rtcp:99999999",), "198.51.100.7", 4001),
        (("a=rtcp:9", "a=rtcp-mux"), "198.51.100.7", 0),
    ],
)
def test_rtcp_goes_where_the_offer_says_unless_that_is_forbidden(lines, address, port):
    got = answered("m=audio 4000 RTP/AVP 0", *lines).negotiated
    assert (got.rtcp_address, got.rtcp_port) == (address, port)


@pytest.mark.rfc("5761", "5.1.1", "MUST", role="both", text="rtcp-mux holds when both sides say so")
def test_rtcp_mux_needs_both_sides():
    assert "a=rtcp-mux" not in text_of(answered("m=audio 4000 RTP/AVP 0").description)
    no_mux = replace(ALL, rtcp_mux=False)
    assert answered("m=audio 4000 RTP/AVP 0", "a=rtcp-mux", policy=no_mux).negotiated.rtcp_port == 4001
    offer = make_offer(ALL, *US, session_id=1)
    assert accept_answer(offer, sdp("m=audio 4000 RTP/AVP 0"), ALL).rtcp_port == 4001
    assert accept_answer(offer, sdp("m=audio 4000 RTP/AVP 0", "a=rtcp-mux"), ALL).rtcp_port == 0


# ---- addresses


@pytest.mark.rfc(
    "8866",
    "7",
    "SHOULD",
    role="both",
    text="never media to loopback, multicast, broadcast or metadata addresses (IPv4)",
)
@pytest.mark.parametrize(
    "c",
    [
        "IN IP4 224.2.1.1",
        "IN IP4 224.2.1.1/127",
        "IN IP4 255.255.255.255",
        "IN IP4 240.0.0.1",
        "IN IP4 0.1.2.3",
        "IN IP4 169.254.169.254",
        "IN IP4 127.0.0.1",
        "IN IP4 media.example.com",
        "IN IP4 999.1.1.1",
        "IN IP6 2001:db8::1",
        "",
    ],
)
def test_media_is_never_sent_to_a_forbidden_address(c):
    with pytest.raises(NoCommonCodec):
        answered("m=audio 4000 RTP/AVP 0", c=c)


@pytest.mark.rfc("8866", "7", "SHOULD", role="both", text="never media to forbidden addresses (IPv6)")
@pytest.mark.parametrize("c", ["::1", "ff02::1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "192.0.2.1"])
def test_media_is_never_sent_to_a_forbidden_ipv6_address(c):
    with pytest.raises(NoCommonCodec):
        answered("m=audio 4000 RTP/AVP 0", c=f"IN IP6 {c}", address="2001:db8::10")


@pytest.mark.rfc("8866", "7", "SHOULD", role="both", text="a port below 1024 is refused")
def test_a_port_below_1024_is_refused():
    with pytest.raises(NoCommonCodec, match="1024"):
        answered("m=audio 1023 RTP/AVP 0")
    with pytest.raises(NoCommonCodec, match="1024"):
        answered("m=audio 9 RTP/AVP 0", c="IN IP4 0.0.0.0")
    answered("m=audio 1024 RTP/AVP 0")


def test_a_stream_that_leads_back_to_our_own_port_is_refused():
    with pytest.raises(NoCommonCodec, match="own port"):
        answered("m=audio 16000 RTP/AVP 0", c="IN IP4 192.0.2.10")
    assert answered("m=audio 16002 RTP/AVP 0", c="IN IP4 192.0.2.10").negotiated
    with pytest.raises(NoCommonCodec, match="own port"):
        answered("m=audio 16000 RTP/AVP 0", c="IN IP6 2001:db8:0::10", address="2001:db8::10")
    offer = make_offer(ALL, "192.0.2.10", 16000, session_id=1)
    with pytest.raises(NoCommonCodec, match="own port"):
        accept_answer(offer, replace(offer), ALL)


def test_loopback_is_allowed_among_loopback_addresses():
    result = answered("m=audio 4000 RTP/AVP 0", c="IN IP4 127.0.0.2", address="127.0.0.1")
    assert result.negotiated.remote_address == "127.0.0.2"


def test_networks_can_be_allowed_and_denied_by_name():
    link_local = ipaddress.ip_network("169.254.7.0/24")
    allowing = replace(ALL, addresses=AddressPolicy(allow=(link_local,)))
    assert answered("m=audio 4000 RTP/AVP 0", c="IN IP4 169.254.7.1", policy=allowing).negotiated
    denying = replace(ALL, addresses=AddressPolicy(deny=(ipaddress.ip_network("198.51.100.0/24"),)))
    with pytest.raises(NoCommonCodec, match="denied"):
        answered("m=audio 4000 RTP/AVP 0", policy=denying)


@pytest.mark.rfc("8866", "5.7", "MUST", role="both", text="c=IN IP6 is negotiated")
def test_ipv6_streams_are_negotiated():
    result = answered("m=audio 4000 RTP/AVP 0", c="IN IP6 2001:db8::7", address="2001:db8::10")
    assert result.negotiated.remote_address == "2001:db8::7"
    assert "c=IN IP6 2001:db8::10" in text_of(result.description)


# ---- accepting an answer


@pytest.mark.rfc("3264", "7", "MUST", role="offerer", text="the answer's first format is sent, ours are received")
def test_an_answer_is_accepted_with_its_first_codec_and_our_payload_types_to_receive():
    offer = make_offer(ALL, *US, session_id=1)
    got = accept_answer(
        offer, sdp("m=audio 4000 RTP/AVP 8 0 99", "a=rtpmap:99 telephone-event/8000", "a=ptime:30"), ALL
    )
    assert got.send == PCMA
    assert got.receive == (PCMA, PCMU)
    assert got.telephone_event == ((99, 8000), (101, 8000))  # send with theirs, receive either
    assert (got.ptime_ms, got.sending, got.receiving, got.held) == (30, True, True, False)
    assert (got.remote_address, got.remote_port) == ("198.51.100.7", 4000)


@pytest.mark.rfc("3264", "5.1", "MUST", role="offerer", text="asymmetric payload types are kept apart")
def test_an_asymmetric_payload_type_is_sent_as_theirs_and_received_as_ours():
    offer = make_offer(MediaPolicy(codecs=("PCMA",)), *US, session_id=1)
    got = accept_answer(offer, sdp("m=audio 4000 RTP/AVP 97", "a=rtpmap:97 PCMA/8000"), ALL)
    assert (got.send.payload_type, [codec.payload_type for codec in got.receive]) == (97, [8])


def test_an_answer_without_rtpmap_means_what_we_offered():
    offer = make_offer(ALL, *US, session_id=1)
    assert accept_answer(offer, sdp("m=audio 4000 RTP/AVP 0 101"), ALL).telephone_event == ((101, 8000),)


@pytest.mark.parametrize(
    ("wish", "said", "sending", "receiving", "held"),
    [
        (Direction.SENDRECV, "sendrecv", True, True, False),
        (Direction.SENDRECV, "recvonly", True, False, False),
        (Direction.SENDRECV, "inactive", False, False, True),
        (Direction.SENDONLY, "recvonly", True, False, False),
        (Direction.SENDONLY, "sendrecv", True, False, False),  # a careless answer gives no more than was asked
        (Direction.INACTIVE, "inactive", False, False, False),
    ],
)
def test_the_direction_that_holds_is_what_both_said(wish, said, sending, receiving, held):
    offer = make_offer(ALL, *US, session_id=1, direction=wish)
    got = accept_answer(offer, sdp("m=audio 4000 RTP/AVP 0", f"a={said}"), ALL)
    assert (got.sending, got.receiving, got.held) == (sending, receiving, held)


@pytest.mark.rfc("3264", "6", "MUST", role="offerer", text="a stream answered with port 0 is no stream")
def test_a_stream_refused_by_port_0_is_no_stream():
    assert accept_answer(make_offer(ALL, *US, session_id=1), sdp("m=audio 0 RTP/AVP 0"), ALL) is None


@pytest.mark.rfc(
    "3264", "6", "MUST", role="offerer", text="an answer with another number of m-lines or media is refused"
)
@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("m=video 4000 RTP/AVP 31",),
        ("m=audio 4000 RTP/AVP 18",),
        ("m=audio 4000 RTP/SAVP 0",),
        ("m=audio 4000 RTP/AVP 9",),
        ("m=audio 22 RTP/AVP 0",),
    ],
)
def test_an_answer_that_does_not_fit_the_offer_is_refused(lines):
    offer = make_offer(MediaPolicy(), *US, session_id=1)
    with pytest.raises(NoCommonCodec):
        accept_answer(offer, sdp(*lines), ALL)


@pytest.mark.rfc("6337", "5", "SHOULD", role="both", text="what we offer and what we answer agree")
def test_our_offer_and_our_answer_agree_with_each_other():
    offer = make_offer(ALL, *US, session_id=1)
    result = answer(offer, ALL, "192.0.2.20", 18000, session_id=2)
    caller, callee = accept_answer(offer, result.description, ALL), result.negotiated
    assert caller.send == callee.send == G722
    assert (caller.remote_port, callee.remote_port) == (18000, 16000)
    assert caller.telephone_event == callee.telephone_event == ((101, 8000),)
    assert caller.rtcp_port == callee.rtcp_port == 0
