"""SRTP keys in the description (RFC 4568) and the policy off, optional, required."""

import base64
from dataclasses import replace

import pytest

from sipagent.sdp.crypto import SUITES, Crypto, parse_crypto, secret_size
from sipagent.sdp.description import parse, serialize
from sipagent.sdp.negotiated import Direction, MediaPolicy, NoCommonCodec, Srtp
from sipagent.sdp.offer_answer import accept_answer, answer, make_offer

KEY = base64.b64encode(bytes(range(30))).decode()
KEY_80 = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"
US = ("192.0.2.10", 16000)
OFF = MediaPolicy()
OPTIONAL = MediaPolicy(srtp=Srtp.OPTIONAL)
REQUIRED = MediaPolicy(srtp=Srtp.REQUIRED)
SECRET = bytes(range(200, 256)) * 4


def sdp(*lines: str):
    head = "v=0\r\no=- 7 7 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
    return parse((head + "".join(f"{line}\r\n" for line in lines)).encode())


def answered(policy, *lines, **options):
    return answer(sdp(*lines), policy, *US, session_id=1, srtp_secret=SECRET, **options)


def protocols(description) -> list[tuple[str, int]]:
    return [(media.protocol, media.port) for media in description.media]


# ---- the line


@pytest.mark.rfc("4568", "9.1", "MUST", role="both", text="the RFC's example is read: lifetime and MKI too")
def test_the_line_of_rfc_4568_section_9_1_is_read():
    crypto = parse_crypto("1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20")
    assert (crypto.tag, crypto.suite, crypto.lifetime_packets) == (1, "AES_CM_128_HMAC_SHA1_80", 1 << 20)
    assert crypto.key == b"YS___semctl () {\t220;}\n}\nunles"


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_needs_its_own_key_length(suite):
    text = base64.b64encode(b"k" * SUITES[suite]).decode()
    assert parse_crypto(f"1 {suite} inline:{text}").key == b"k" * SUITES[suite]
    longer = base64.b64encode(b"k" * (SUITES[suite] + 1)).decode()
    assert parse_crypto(f"1 {suite} inline:{longer}") is None


@pytest.mark.rfc("4568", "6.3", "MUST", role="both", text="NULL ciphers and UNENCRYPTED_* are never taken")
@pytest.mark.parametrize(
    "value",
    [
        "",
        f"x AES_CM_128_HMAC_SHA1_80 inline:{KEY}",
        f"1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}",
        f"1 NULL_HMAC_SHA1_80 inline:{KEY}",
        f"1 AES_CM_128_NULL_AUTH inline:{KEY}",
        f"1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}",
        "1 AES_CM_128_HMAC_SHA1_80 inline:!!!!",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:1",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:1",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^99",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|0",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTCP",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=1",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} SOMETHING",
    ],
)
def test_a_line_that_is_broken_weak_or_beyond_us_is_passed_over(value):
    assert parse_crypto(value) is None


@pytest.mark.parametrize("suite", ["AES_256_CM_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"])
def test_the_padding_of_a_key_may_be_left_out(suite):
    key = bytes(range(SUITES[suite]))
    text = base64.b64encode(key).decode()
    assert text.endswith("=")
    assert parse_crypto(f"1 {suite} inline:{text.rstrip('=')}|2^31") == Crypto(1, suite, key, 1 << 31)


@pytest.mark.parametrize("extra", ["|2^31", "|1048576", " WSH=128", " -HINT=1"])
def test_harmless_parameters_are_accepted(extra):
    assert parse_crypto(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{extra}") is not None


@pytest.mark.rfc("4568", "7.1", "SHOULD", role="both", text="keys do not show in logs")
def test_keys_do_not_show_in_a_repr():
    result = answered(REQUIRED, "m=audio 4000 RTP/SAVP 0", KEY_80)
    assert "key" not in repr(parse_crypto(KEY_80[9:])).replace("Crypto", "")
    assert repr(bytes(range(30)))[2:-1] not in repr(result.negotiated)


# ---- answering


@pytest.mark.rfc("4568", "5.1.2", "MUST", role="answerer", text="the answer repeats the tag with a key of its own")
def test_a_secure_offer_is_answered_with_a_key_of_our_own_under_its_tag():
    result = answered(OPTIONAL, "m=audio 4000 RTP/SAVP 0", KEY_80.replace("crypto:1", "crypto:7"))
    keys = result.negotiated.srtp
    assert (keys.profile, keys.remote, keys.local) == ("AES_CM_128_HMAC_SHA1_80", bytes(range(30)), SECRET[:30])
    ours = base64.b64encode(SECRET[:30]).decode()
    assert f"a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{ours}\r\n" in serialize(result.description).decode()
    assert protocols(result.description) == [("RTP/SAVP", 16000)]


def test_the_first_offered_suite_that_we_allow_is_taken():
    key = base64.b64encode(bytes(44)).decode()
    lines = ("m=audio 4000 RTP/SAVPF 0", "a=crypto:1 AES_192_CM_HMAC_SHA1_80 inline:xx",
             f"a=crypto:2 AEAD_AES_256_GCM inline:{key}", KEY_80.replace("crypto:1", "crypto:3"))  # fmt: skip
    assert answered(REQUIRED, *lines).negotiated.srtp.profile == "AEAD_AES_256_GCM"
    only_cm = replace(REQUIRED, srtp_suites=("AES_CM_128_HMAC_SHA1_80",))
    assert answered(only_cm, *lines).negotiated.srtp.profile == "AES_CM_128_HMAC_SHA1_80"


@pytest.mark.rfc("3711", "9", "MUST", role="answerer", text="off, optional, required: required means required")
@pytest.mark.parametrize(
    ("policy", "lines", "encrypted"),
    [
        (OFF, ("m=audio 4000 RTP/AVP 0",), False),
        (OFF, ("m=audio 4000 RTP/AVP 0", KEY_80), False),
        (OFF, ("m=audio 4000 RTP/SAVP 0", KEY_80), None),
        (OPTIONAL, ("m=audio 4000 RTP/AVP 0",), False),
        (OPTIONAL, ("m=audio 4000 RTP/AVP 0", KEY_80), True),
        (OPTIONAL, ("m=audio 4000 RTP/SAVP 0", KEY_80), True),
        (OPTIONAL, ("m=audio 4000 RTP/SAVP 0",), None),
        (REQUIRED, ("m=audio 4000 RTP/AVP 0",), None),
        (REQUIRED, ("m=audio 4000 RTP/AVP 0", KEY_80), True),
        (REQUIRED, ("m=audio 4000 RTP/SAVP 0", KEY_80), True),
    ],
)
def test_the_policy_decides_what_an_offer_becomes(policy, lines, encrypted):
    if encrypted is None:
        with pytest.raises(NoCommonCodec):
            answered(policy, *lines)
    else:
        result = answered(policy, *lines)
        assert (result.negotiated.srtp is not None) is encrypted
        assert (b"a=crypto" in serialize(result.description)) is encrypted


def test_of_two_audio_lines_the_encrypted_one_is_taken_when_we_can():
    lines = ("m=audio 4000 RTP/AVP 0", "m=audio 4002 RTP/SAVP 0", KEY_80)
    assert protocols(answered(OPTIONAL, *lines).description) == [("RTP/AVP", 0), ("RTP/SAVP", 16000)]
    assert protocols(answered(OFF, *lines).description) == [("RTP/AVP", 16000), ("RTP/SAVP", 0)]


@pytest.mark.rfc("4568", "7.1.4", "MUST", role="answerer", text="no downgrade by a later offer: 488")
def test_an_encrypted_stream_is_never_taken_back_to_plain():
    for profile, options in (("RTP/SAVP", {}), ("RTP/AVP", {"encrypted": True})):
        first = answered(OPTIONAL, f"m=audio 4000 {profile} 0", KEY_80)
        with pytest.raises(NoCommonCodec, match="required"):
            answered(OPTIONAL, "m=audio 4000 RTP/AVP 0", previous=first.description, **options)


def test_a_stream_for_which_keys_were_offered_in_vain_may_go_on_plain():
    offer = make_offer(OPTIONAL, *US, session_id=1, srtp_secret=SECRET)
    assert accept_answer(offer, sdp("m=audio 4000 RTP/AVP 0"), OPTIONAL).srtp is None
    assert answered(OPTIONAL, "m=audio 4000 RTP/AVP 0", "a=sendonly", previous=offer).negotiated.held


@pytest.mark.rfc("4568", "7.1.4", "SHOULD", role="both", text="the key stays through hold, so that the stream goes on")
def test_our_key_stays_through_hold_so_that_the_stream_goes_on():
    first = answered(OPTIONAL, "m=audio 4000 RTP/SAVP 0", KEY_80)
    held = answer(
        sdp("m=audio 4000 RTP/SAVP 0", KEY_80, "a=sendonly"), OPTIONAL, *US, session_id=1,
        previous=first.description, srtp_secret=bytes(46),
    )  # fmt: skip
    assert held.negotiated.srtp == first.negotiated.srtp


def test_a_far_end_with_another_key_gets_another_one_from_us_and_one_with_the_same_key_does_not():
    first = answered(OPTIONAL, "m=audio 4000 RTP/SAVP 0", KEY_80)
    keys = first.negotiated.srtp
    again = {"previous": first.description, "their_key": keys.remote, "session_id": 1, "srtp_secret": bytes(46)}
    same = answer(sdp("m=audio 4002 RTP/SAVP 0", KEY_80), OPTIONAL, *US, **again)
    assert same.negotiated.srtp == keys
    key = base64.b64encode(bytes(range(100, 130))).decode()
    other = answer(sdp("m=audio 4002 RTP/SAVP 0", KEY_80.replace(KEY, key)), OPTIONAL, *US, **again)
    assert other.negotiated.srtp == replace(keys, remote=bytes(range(100, 130)), local=bytes(30))


def test_too_few_random_bytes_are_refused():
    with pytest.raises(ValueError, match="too few"):
        answer(sdp("m=audio 4000 RTP/SAVP 0", KEY_80), REQUIRED, *US, session_id=1, srtp_secret=b"short")
    with pytest.raises(ValueError, match="too few"):
        make_offer(OPTIONAL, *US, session_id=1)


# ---- offering


@pytest.mark.rfc("4568", "5.1.1", "MUST", role="offerer", text="every crypto line of an offer has a key of its own")
@pytest.mark.parametrize(("policy", "protocol"), [(OPTIONAL, "RTP/AVP"), (REQUIRED, "RTP/SAVP")])
def test_an_offer_has_a_key_of_its_own_for_every_suite(policy, protocol):
    offer = make_offer(policy, *US, session_id=1, srtp_secret=SECRET)
    assert offer.media[0].protocol == protocol
    keys = [parse_crypto(a.value) for a in offer.media[0].attributes if a.name == "crypto"]
    assert [key.suite for key in keys] == list(policy.srtp_suites)
    assert b"".join(key.key for key in keys) == SECRET[: secret_size(policy.srtp_suites)]
    assert [key.tag for key in keys] == [1, 2, 3, 4]


@pytest.mark.parametrize("policy", [OPTIONAL, REQUIRED])
def test_offer_and_answer_agree_on_keys(policy):
    offer = make_offer(policy, *US, session_id=1, srtp_secret=SECRET)
    result = answer(offer, policy, "192.0.2.20", 18000, session_id=2, srtp_secret=bytes(46))
    caller, callee = accept_answer(offer, result.description, policy).srtp, result.negotiated.srtp
    assert caller.profile == callee.profile == "AES_CM_128_HMAC_SHA1_80"
    assert (caller.local, caller.remote) == (callee.remote, callee.local)


def test_an_optional_offer_may_be_answered_plain_a_required_or_encrypted_one_may_not():
    plain = sdp("m=audio 4000 RTP/AVP 0")
    offer = make_offer(OPTIONAL, *US, session_id=1, srtp_secret=SECRET)
    assert accept_answer(offer, plain, OPTIONAL).srtp is None
    with pytest.raises(NoCommonCodec):
        accept_answer(offer, plain, OPTIONAL, encrypted=True)
    with pytest.raises(NoCommonCodec):
        accept_answer(make_offer(REQUIRED, *US, session_id=1, srtp_secret=SECRET), plain, REQUIRED)


@pytest.mark.rfc("4568", "5.1.3", "MUST", role="offerer", text="an answer with a tag that was not offered is refused")
def test_an_answer_with_a_tag_or_suite_that_was_not_offered_is_refused():
    offer = make_offer(REQUIRED, *US, session_id=1, srtp_secret=SECRET)
    for line in (KEY_80.replace("crypto:1", "crypto:9"), KEY_80.replace("_80", "_32")):
        with pytest.raises(NoCommonCodec, match="not offered"):
            accept_answer(offer, sdp("m=audio 4000 RTP/SAVP 0", line), REQUIRED)


def test_a_later_offer_keeps_keys_and_profile_even_when_the_policy_was_switched_off():
    offer = make_offer(REQUIRED, *US, session_id=1, srtp_secret=SECRET)
    held = make_offer(OFF, *US, session_id=1, previous=offer, direction=Direction.SENDONLY)
    assert held.media[0].protocol == "RTP/SAVP"
    keys = [[a for a in d.media[0].attributes if a.name == "crypto"] for d in (offer, held)]
    assert keys[0] == keys[1]
