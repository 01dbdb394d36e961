"""Offers as real programs wrote them, and trunks in their manner: each is answered with sound, keys and digits."""

import pytest

from sipagent.sdp.description import parse, serialize
from sipagent.sdp.negotiated import MediaPolicy, Srtp
from sipagent.sdp.offer_answer import accept_answer, answer, make_offer

BARESIP_1_0 = """\
v=0
o=- 292558737 18686492 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
a=tool:baresip 1.0.0
m=audio 28264 RTP/AVP 0 8 9 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:9 G722/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
a=label:1
a=rtcp-rsize
a=ssrc:2525191882 cname:sip:b@127.0.0.1:28110
a=rtcp-mux
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:5I2Zcf4Ll/p3xkw7Cc0TlZtwt2CT2uOI7OyVKil+
a=minptime:20
a=ptime:20
"""
PJSUA2_2_15 = """\
v=0
o=- 4004246748 4004246748 IN IP4 192.0.2.2
s=pjmedia
b=AS:84
t=0 0
a=X-nat:0
m=audio 4000 RTP/AVP 96 97 98 99 3 0 8 9 120 121 122
c=IN IP4 192.0.2.2
b=TIAS:64000
a=rtcp:4001 IN IP4 192.0.2.2
a=sendrecv
a=rtpmap:96 speex/16000
a=rtpmap:97 speex/8000
a=rtpmap:98 speex/32000
a=rtpmap:99 iLBC/8000
a=fmtp:99 mode=30
a=rtpmap:3 GSM/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:9 G722/8000
a=rtpmap:120 telephone-event/16000
a=fmtp:120 0-16
a=rtpmap:121 telephone-event/8000
a=fmtp:121 0-16
a=rtpmap:122 telephone-event/32000
a=fmtp:122 0-16
a=ssrc:835398506 cname:291306ae2fdc50b1
a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:Cx9vjEFfXkzLP8P/3/LBqIAU0N43dLD4bdkumhs6B3KzmJvTNMmKmAY/W4LcWQ==
a=crypto:2 AES_256_CM_HMAC_SHA1_32 inline:/87IUOs8jFFEW8j3hTDRUeMchQ2LMzTSKFKiJ783B4nE5tJzlvMz42up+Kdnsw==
a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:0VfAsnWDBCfQSDTOinYsCH1wL58Ya5rao7QZ1dpU
a=crypto:4 AES_CM_128_HMAC_SHA1_32 inline:S3nGAdDibG1q0RvebEF7LupUdrIdqKglEsSzLC2b
"""
GATEWAY_WITH_FAX = """\
v=0
o=CiscoSystemsSIP-GW-UserAgent 8374 1209 IN IP4 198.51.100.20
s=SIP Call
c=IN IP4 198.51.100.20
t=0 0
m=audio 16456 RTP/AVP 8 0 18 100 101
c=IN IP4 198.51.100.21
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:100 X-NSE/8000
a=fmtp:100 192-194
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
m=image 16458 udptl t38
c=IN IP4 198.51.100.21
a=T38FaxVersion:0
"""
VIDEO_PHONE = """\
v=0
o=- 3842 3842 IN IP6 2001:db8::20
s=conversation
c=IN IP6 2001:db8::20
b=CT:1000
t=0 0
a=sendrecv
m=video 50010 RTP/AVP 96
a=rtpmap:96 H264/90000
m=audio 50002 RTP/SAVP 102 0 103
a=rtpmap:102 opus/48000/2
a=rtpmap:103 telephone-event/8000
a=crypto:2 AEAD_AES_256_GCM inline:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM=|2^31
a=ptime:40
"""


@pytest.mark.rfc("3264", "6", "MUST", role="answerer", text="offers of real far ends are answered")
@pytest.mark.parametrize(
    ("offer", "local", "codec", "send_events", "suite", "ptime_ms"),
    [
        (BARESIP_1_0, "127.0.0.1", "PCMU", (101, 8000), "AES_CM_128_HMAC_SHA1_80", 20),
        (PJSUA2_2_15, "192.0.2.9", "PCMU", (121, 8000), "AES_CM_128_HMAC_SHA1_80", 20),
        (GATEWAY_WITH_FAX, "192.0.2.9", "PCMA", (101, 8000), None, 20),
        (VIDEO_PHONE, "2001:db8::9", "PCMU", (103, 8000), "AEAD_AES_256_GCM", 40),
    ],
)
def test_offers_of_the_field_are_answered(offer, local, codec, send_events, suite, ptime_ms):
    policy = MediaPolicy(("G722", "PCMU", "PCMA"), srtp=Srtp.OPTIONAL)
    remote = parse(offer.encode())
    assert parse(serialize(remote)) == remote
    result = answer(remote, policy, local, 16000, session_id=1, srtp_secret=bytes(range(46)))
    got = result.negotiated
    assert (got.send.name, got.ptime_ms) == (codec, ptime_ms)
    assert got.telephone_event[0] == send_events
    assert (got.srtp.profile if got.srtp else None) == suite
    assert len(result.description.media) == len(remote.media)
    # And the far end would understand us: its view of our answer is the mirror of ours.
    mirror = accept_answer(remote, parse(serialize(result.description)), policy)
    assert mirror is None or mirror.send == got.send
    assert (mirror.srtp.remote, mirror.srtp.local) == (got.srtp.local, got.srtp.remote) if suite and mirror else True


@pytest.mark.rfc("3264", "7", "MUST", role="offerer", text="a gateway's answer to our offer is taken")
def test_a_gateways_answer_to_our_offer_is_taken():
    policy = MediaPolicy(("G722", "PCMU", "PCMA"))
    offer = make_offer(policy, "192.0.2.9", 16000, session_id=1)
    reply = GATEWAY_WITH_FAX.replace("8 0 18 100 101", "8 101").partition("m=image")[0]
    got = accept_answer(offer, parse(reply.encode()), policy)
    assert (got.remote_address, got.send.name, got.telephone_event) == ("198.51.100.21", "PCMA", ((101, 8000),))
