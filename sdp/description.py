"""A session description (RFC 8866) as frozen data, its parser and its serializer.

The parser is strict about what can hurt (sizes, numbers, control characters) and lenient about what cannot: order of
lines, bare LF, a missing s= or t=, unknown attributes. A description that it returns serializes and parses to itself.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sipagent.errors import ParseError

MAX_BYTES: Final = 65_536
MAX_LINES: Final = 512
MAX_LINE_BYTES: Final = 1_000
MAX_MEDIA: Final = 32
MAX_FORMATS: Final = 64

_MAX_PAYLOAD_TYPE: Final = 127  # RFC 3550 §5.1: seven bits
_MAX_UINT64: Final = (1 << 64) - 1  # RFC 8866 §5.2: sess-id and sess-version are NTP-like
_BEFORE_CONNECTION: Final = "iuep"  # RFC 8866 §5, order of the lines that we carry but do not read
_AFTER_CONNECTION: Final = "btrzk"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One a= line; `value` is None for a property attribute (`a=sendrecv`)."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """c=, or the end of o=. `address` may be numeric, a name, or carry /ttl/count behind a multicast group."""

    address: str
    family: str = "IP4"  # IP4 or IP6


@dataclass(frozen=True, slots=True)
class Origin:
    """o= (RFC 8866 §5.2): `version` grows by one with every change that its owner makes."""

    session_id: int
    version: int
    address: Connection
    username: str = "-"


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """One m= line with what stands under it; `connection` None means the session's. Port 0: refused or ended."""

    media: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    port_count: int = 1
    connection: Connection | None = None
    attributes: tuple[Attribute, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()  # i=, b=, k=: carried, not read


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description; `lines` holds i= u= e= p= b= t= r= z= k=, which are carried and not read."""

    origin: Origin
    media: tuple[MediaDescription, ...] = ()
    connection: Connection | None = None
    name: str = "-"
    attributes: tuple[Attribute, ...] = ()
    lines: tuple[tuple[str, str], ...] = (("t", "0 0"),)


def connection_of(description: SessionDescription, media: MediaDescription) -> Connection | None:
    """The c= line that holds for `media`: its own, else the session's (RFC 8866 §5.7)."""
    return media.connection or description.connection


def values(attributes: Iterable[Attribute], name: str) -> Iterator[str]:
    """The values of all attributes called `name`, "" for property attributes."""
    return (attribute.value or "" for attribute in attributes if attribute.name == name)


def inherited(description: SessionDescription, media: MediaDescription, name: str) -> str | None:
    """First value of `name` on the media level, else on the session level, else None."""
    for level in (media.attributes, description.attributes):
        for value in values(level, name):
            return value
    return None


# ---- parsing


def parse(data: bytes) -> SessionDescription:
    """Read a description; raises only ParseError, whose `offset` is the line's number counted from 0."""
    lines = _split(data)
    if not lines or lines[0][1:] != ("v", "0"):
        raise ParseError("v=0", lines[0][0] if lines else 0)
    starts = [index for index, (_, kind, _) in enumerate(lines) if kind == "m"]
    if len(starts) > MAX_MEDIA:
        raise ParseError(f"at most {MAX_MEDIA} m= lines", lines[starts[MAX_MEDIA]][0])
    head = lines[1 : starts[0] if starts else len(lines)]
    return SessionDescription(
        origin=_origin(head),
        media=tuple(_media(lines[a:b]) for a, b in pairwise([*starts, len(lines)])),
        connection=_connection(head),
        name=next((value for _, kind, value in head if kind == "s"), "") or "-",
        attributes=_attributes(head),
        lines=_carried(head, "cosa"),
    )


_Lines = list[tuple[int, str, str]]  # (line number, type letter, value)


def _split(data: bytes) -> _Lines:
    if len(data) > MAX_BYTES:
        raise ParseError(f"at most {MAX_BYTES} bytes")
    raw = data.split(b"\n", MAX_LINES + 1)
    if len(raw) > MAX_LINES + 1 or (len(raw) > MAX_LINES and raw[-1]):
        raise ParseError(f"at most {MAX_LINES} lines", MAX_LINES)
    lines: _Lines = []
    for number, octets in enumerate(raw):
        octets = octets.removesuffix(b"\r")
        if not octets:
            continue
        if len(octets) > MAX_LINE_BYTES:
            raise ParseError(f"at most {MAX_LINE_BYTES} bytes in a line", number)
        if b"\r" in octets or b"\0" in octets:  # RFC 8866 §9, byte-string
            raise ParseError("no CR or NUL within a line", number)
        if octets[1:2] != b"=" or not octets[:1].isalpha():
            raise ParseError("<letter>=<value>", number)
        lines.append((number, chr(octets[0]), octets[2:].decode("utf-8", "replace")))
    return lines


def _origin(head: _Lines) -> Origin:
    for number, kind, value in head:
        if kind == "o":
            fields = value.split()
            if len(fields) != 6 or fields[3] != "IN":
                raise ParseError("o=<username> <sess-id> <sess-version> IN <addrtype> <address>", number)
            session_id, version = (_number(field, _MAX_UINT64, number) for field in fields[1:3])
            return Origin(session_id, version, Connection(fields[5], _family(fields[4], number)), fields[0])
    raise ParseError("an o= line")


def _connection(lines: _Lines) -> Connection | None:
    for number, kind, value in lines:
        if kind == "c":
            fields = value.split()
            if len(fields) != 3 or fields[0] != "IN":
                raise ParseError("c=IN <addrtype> <address>", number)
            return Connection(fields[2], _family(fields[1], number))
    return None


def _media(lines: _Lines) -> MediaDescription:
    number, _, value = lines[0]
    fields = value.split()
    if len(fields) < 4:
        raise ParseError("m=<media> <port> <proto> <fmt> ...", number)
    port, _, count = fields[1].partition("/")
    formats = tuple(fields[3:])
    if len(formats) > MAX_FORMATS:
        raise ParseError(f"at most {MAX_FORMATS} formats", number)
    if "RTP/" in fields[2].upper():
        formats = tuple(str(_number(text, _MAX_PAYLOAD_TYPE, number)) for text in formats)
    return MediaDescription(
        media=fields[0],
        port=_number(port, 65_535, number),
        protocol=fields[2],
        formats=formats,
        port_count=_number(count, 65_535, number) if "/" in fields[1] else 1,
        connection=_connection(lines[1:]),
        attributes=_attributes(lines[1:]),
        lines=_carried(lines[1:], "ca"),
    )


def _attributes(lines: _Lines) -> tuple[Attribute, ...]:
    attributes = []
    for number, kind, value in lines:
        if kind == "a":
            name, colon, rest = value.partition(":")
            if not name.strip():
                raise ParseError("a=<name>[:<value>]", number)
            attributes.append(Attribute(name.strip(), rest if colon else None))
    return tuple(attributes)


def _carried(lines: _Lines, known: str) -> tuple[tuple[str, str], ...]:
    """Lines that we only pass on, those that stand before c= first; letters that RFC 8866 does not know are dropped."""
    kept = [(kind, value) for _, kind, value in lines if kind not in known]
    first = [line for line in kept if line[0] in _BEFORE_CONNECTION]
    return (*first, *(line for line in kept if line[0] in _AFTER_CONNECTION))


def _family(text: str, number: int) -> str:
    if text not in ("IP4", "IP6"):
        raise ParseError("IP4 or IP6", number)
    return text


def _number(text: str, highest: int, line: int) -> int:
    # int() alone also takes "+1", "1_0" and digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) > highest:
        raise ParseError(f"a number from 0 to {highest}", line)
    return int(text)


# ---- serializing


def serialize(description: SessionDescription) -> bytes:
    """The description in the order of RFC 8866 §5, with CRLF ends."""
    origin = description.origin
    address = f"IN {origin.address.family} {origin.address.address}"
    lines = [
        "v=0",
        f"o={origin.username} {origin.session_id} {origin.version} {address}",
        f"s={description.name}",
        *_common(description.lines, description.connection, description.attributes),
    ]
    for media in description.media:
        count = f"/{media.port_count}" if media.port_count != 1 else ""
        lines.append(f"m={media.media} {media.port}{count} {media.protocol} {' '.join(media.formats)}")
        lines += _common(media.lines, media.connection, media.attributes)
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def _common(
    carried: tuple[tuple[str, str], ...], connection: Connection | None, attributes: tuple[Attribute, ...]
) -> Iterator[str]:
    yield from (f"{kind}={value}" for kind, value in carried if kind in _BEFORE_CONNECTION)
    if connection:
        yield f"c=IN {connection.family} {connection.address}"
    yield from (f"{kind}={value}" for kind, value in carried if kind in _AFTER_CONNECTION)
    yield from (f"a={a.name}" if a.value is None else f"a={a.name}:{a.value}" for a in attributes)
