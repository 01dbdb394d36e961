"""Session descriptions: what is read, what is refused, and that nothing gets lost on the way through."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.errors import ParseError
from sipagent.sdp.description import (
    Attribute,
    Connection,
    MediaDescription,
    Origin,
    SessionDescription,
    connection_of,
    inherited,
    parse,
    serialize,
)

HEAD = b"v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


@pytest.mark.rfc("8866", "5", "MUST", role="both", text="a description is read with all of its lines")
def test_a_description_of_rfc_4317_is_read_whole():
    data = (
        b"v=0\r\no=alice 2890844526 2890844527 IN IP4 host.atlanta.example.com\r\ns= \r\n"
        b"c=IN IP4 host.atlanta.example.com\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0 8 97\r\na=rtpmap:0 PCMU/8000\r\n"
        b"a=rtpmap:97 iLBC/8000\r\na=sendrecv\r\nm=video 51372 RTP/AVP 31 32\r\na=rtpmap:31 H261/90000\r\n"
    )
    description = parse(data)
    assert description.origin == Origin(
        2890844526, 2890844527, Connection("host.atlanta.example.com"), username="alice"
    )
    audio, video = description.media
    assert (audio.media, audio.port, audio.protocol, audio.formats) == ("audio", 49170, "RTP/AVP", ("0", "8", "97"))
    assert audio.attributes[-1] == Attribute("sendrecv")
    assert video.port == 51372
    assert connection_of(description, audio) == Connection("host.atlanta.example.com")
    assert serialize(description) == data


@pytest.mark.rfc("8866", "5.7", "MUST", role="both", text="c= and a= of the session hold where the stream has none")
def test_media_level_overrides_what_the_session_says():
    description = parse(
        HEAD
        + b"a=ptime:30\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\nm=audio 4002 RTP/AVP 0\r\na=ptime:10\r\n"
    )
    first, second = description.media
    assert connection_of(description, first) == Connection("2001:db8::1", "IP6")
    assert connection_of(description, second) == Connection("192.0.2.1")
    assert [inherited(description, media, "ptime") for media in (first, second)] == ["30", "10"]


@pytest.mark.rfc("8866", "5", "SHOULD", role="both", text="bare line feeds and missing lines are tolerated")
def test_bare_line_feeds_missing_lines_and_disorder_are_tolerated():
    description = parse(b"v=0\nb=AS:64\no=- 1 1 IN IP4 192.0.2.1\ni=hello\n\nm=audio 4000 RTP/AVP 0\n")
    assert description.name == "-"
    assert description.lines == (("i", "hello"), ("b", "AS:64"))
    assert parse(serialize(description)) == description


@pytest.mark.rfc("8866", "5.13", "MUST", role="both", text="unknown attributes are passed over")
def test_what_is_not_utf_8_and_what_is_unknown_does_not_hurt():
    description = parse(HEAD + b"x=what\r\na=tool:\xff\xfe\r\n")
    assert description.attributes == (Attribute("tool", "\N{REPLACEMENT CHARACTER}" * 2),)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", 0),
        (b"o=- 1 1 IN IP4 192.0.2.1\r\n", 0),
        (b"v=1\r\no=- 1 1 IN IP4 192.0.2.1\r\n", 0),
        (b"v=0\r\ns=-\r\n", 0),
        (b"v=0\r\no=- x 1 IN IP4 192.0.2.1\r\n", 1),
        (b"v=0\r\no=- -1 1 IN IP4 192.0.2.1\r\n", 1),
        (b"v=0\r\no=- 18446744073709551616 1 IN IP4 192.0.2.1\r\n", 1),
        (b"v=0\r\no=- 1 1 IN IP5 192.0.2.1\r\n", 1),
        (b"v=0\r\no=- 1 1 IN IP4\r\n", 1),
        (HEAD + b"c=IN\r\n" + b"m=audio 1 RTP/AVP 0\r\nc=IN IP4\r\n", 7),
        (HEAD + b"m=audio 17000 RTP/AVP 4294967296\r\n", 5),  # killed a well-known stack once
        (HEAD + b"m=audio 65536 RTP/AVP 0\r\n", 5),
        (HEAD + b"m=audio -1 RTP/AVP 0\r\n", 5),
        (HEAD + b"m=audio 1_0 RTP/AVP 0\r\n", 5),
        (HEAD + "m=audio ٣ RTP/AVP 0\r\n".encode(), 5),
        (HEAD + b"m=audio 4000/x RTP/AVP 0\r\n", 5),
        (HEAD + b"m=audio 4000 RTP/AVP\r\n", 5),
        (HEAD + b"m=audio 4000 RTP/AVP PCMU\r\n", 5),
        (HEAD + b"a=\r\n", 5),
        (HEAD + b"hello\r\n", 5),
        (HEAD + b"a=x\0y\r\n", 5),
        (HEAD + b"a=x\ry\r\n", 5),
    ],
)
def test_a_broken_line_is_refused_by_its_number(data, line):
    with pytest.raises(ParseError) as caught:
        parse(data)
    assert caught.value.offset == line


@pytest.mark.rfc(
    "8866", "7", "SHOULD", role="both", text="lines, streams, formats and line lengths are limited before they are read"
)
@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        (HEAD + b"a=" + b"x" * 998, HEAD + b"a=" + b"x" * 999),
        (HEAD + b"a=x\r\n" * 507, HEAD + b"a=x\r\n" * 508),
        (HEAD + b"m=audio 1 RTP/AVP 0\r\n" * 32, HEAD + b"m=audio 1 RTP/AVP 0\r\n" * 33),
        (HEAD + b"m=audio 1 RTP/AVP" + b" 0" * 64, HEAD + b"m=audio 1 RTP/AVP" + b" 0" * 65),
    ],
)
def test_limits_hold_to_the_unit(fits, too_much):
    parse(fits)
    with pytest.raises(ParseError):
        parse(too_much)


@pytest.mark.rfc("8866", "7", "SHOULD", role="both", text="more than 64 kB are refused unread")
def test_more_than_64_kilobytes_are_refused_before_they_are_read():
    line = b"a=" + b"x" * 190 + b"\r\n"
    body = HEAD + line * 337
    assert len(body) < 65_536 < len(body + line)
    parse(body)
    with pytest.raises(ParseError, match="65536 bytes"):
        parse(body + line)


# ---- hypothesis

TOKEN = st.text("abcXYZ019-+.", min_size=1, max_size=12)
WORD = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=20)
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0"), max_size=40)
FILLED = TEXT.filter(bool)
CONNECTIONS = st.builds(Connection, WORD, st.sampled_from(["IP4", "IP6"]))
ATTRIBUTES = st.lists(st.builds(Attribute, TOKEN, st.none() | TEXT), max_size=6).map(tuple)


def carried(before: str, after: str):
    def lines(letters: str):
        return st.lists(st.tuples(st.sampled_from(letters), TEXT), max_size=3)

    return st.tuples(lines(before), lines(after)).map(lambda pair: (*pair[0], *pair[1]))


@st.composite
def media_descriptions(draw):
    protocol = draw(st.sampled_from(["RTP/AVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "udptl", "TCP/MSRP"]))
    kind = st.integers(0, 127).map(str) if "RTP" in protocol else TOKEN
    return MediaDescription(
        media=draw(TOKEN),
        port=draw(st.integers(0, 65535)),
        protocol=protocol,
        formats=tuple(draw(st.lists(kind, min_size=1, max_size=8))),
        port_count=draw(st.integers(0, 65535)),
        connection=draw(st.none() | CONNECTIONS),
        attributes=draw(ATTRIBUTES),
        lines=draw(carried("i", "bk")),
    )


DESCRIPTIONS = st.builds(
    SessionDescription,
    origin=st.builds(Origin, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), CONNECTIONS, WORD),
    media=st.lists(media_descriptions(), max_size=4).map(tuple),
    connection=st.none() | CONNECTIONS,
    name=FILLED,
    attributes=ATTRIBUTES,
    lines=carried("iuep", "btrzk"),
)


@given(DESCRIPTIONS)
@settings(max_examples=200, deadline=None)
def test_what_is_serialized_parses_to_itself(description):
    assert parse(serialize(description)) == description


@pytest.mark.rfc("8866", "7", "MUST", role="both", text="any bytes are read or refused, never more")
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: HEAD + tail))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused_with_parse_error_only(data):
    try:
        description = parse(data)
    except ParseError:
        return
    assert parse(serialize(description)) == description
