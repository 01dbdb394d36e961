"""SIP messages: bytes to the library's Request and Response and back (RFC 3261 §7).

`parse_message` is liberal in what can be understood and exact in what must be refused: it gives the message together
with the fault that a request has to be answered with, or raises `ParseError` when nobody could be answered.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sipmessage import URI, Headers, Request, Response
from sipmessage.message import COMPACT_FORMS

from sipagent.errors import LocalError, ParseError, RemoteError
from sipagent.sip import header
from sipagent.sip.readable import readable_text
from sipagent.sip.status import reason_phrase

MAX_HEADER_BYTES = 32_768
MAX_HEADER_FIELDS = 400
MAX_BODY_BYTES = 65_536
_REQUEST_LINE = re.compile(r"(?P<method>[^\s]+) (?P<uri>.*) SIP/(?P<version>\d+\.\d+)(?P<rest>\s*)")
_STATUS_LINE = re.compile(r"SIP/(?P<version>\d+\.\d+) (?P<code>\d{3})(?: (?P<phrase>.*))?")
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_SINGLE = ("Call-ID", "CSeq", "From", "To", "Max-Forwards", "Content-Length", "Content-Type")
_BLANK = re.compile(r"\s")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# One spelling per header, so that look-ups and output do not depend on the sender's case.
_SPELLING = {name.lower(): name for name in (*COMPACT_FORMS.values(), *_SINGLE, "CSeq", "Route", "Record-Route")}


@dataclass(frozen=True)
class Target(URI):
    """A Request-URI that is written as it was read: equal escapes are not equal to every proxy."""

    text: str = ""

    def __str__(self) -> str:
        return self.text


def target(text: str) -> Target:
    """A Request-URI from text; what is no SIP URI keeps its scheme and has no host."""
    try:
        uri = header.parse_uri(text)
    except ParseError:
        return Target(scheme=text.partition(":")[0].lower(), host="", text=text)
    return Target(uri.scheme, uri.host, uri.user, uri.password, uri.port, uri.parameters, text)


def parse_message(data: bytes, datagram: bool = True) -> tuple[Request | Response, RemoteError | None]:
    """A message and its fault (None = sound). ParseError: not SIP, or a response that no one can use."""
    data = data.lstrip(b"\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    if len(head) > MAX_HEADER_BYTES:
        raise ParseError("a shorter header section", MAX_HEADER_BYTES)
    first, *lines = _unfold(head.decode("utf-8", "surrogateescape"))
    if first.startswith("SIP/"):
        return _parse_response(first, lines, body, datagram), None
    match = _REQUEST_LINE.fullmatch(first)
    if match is None or not _TOKEN.fullmatch(match["method"]):
        raise ParseError("a request line")
    request = Request(match["method"], target(match["uri"]), body)
    sound_lines = _add_headers(request.headers, lines)
    if not values(request, "Via"):
        raise ParseError("a Via")
    if match["version"] != "2.0":
        return request, RemoteError(505, reason_phrase(505))
    try:
        if not sound_lines:
            raise ParseError("a header field")
        length = request.headers.get("Content-Length") or ""
        if length.strip().isdigit() and header.parse_integer(length) > MAX_BODY_BYTES and not datagram:
            return request, RemoteError(513, reason_phrase(513))
        _check_request(request, datagram)
        if match["rest"] or not _sound_uri(match["uri"], request.uri):
            raise ParseError("a Request-URI")
    except ParseError as error:
        return request, RemoteError(400, f"Bad Request ({error.expected} expected)")
    if request.uri.scheme not in ("sip", "sips", "tel"):
        return request, RemoteError(416, reason_phrase(416))
    return request, None


def serialize(message: Request | Response) -> bytes:
    """The bytes of a message; Content-Length is set to what the body is."""
    message.headers.set("Content-Length", str(len(message.body)))
    if isinstance(message, Request):
        start = f"{message.method} {message.uri} SIP/2.0"
    else:
        start = f"SIP/2.0 {message.code} {message.phrase}"
    lines = [start]
    for name, found in _fields(message.headers):
        lines.extend([f"{name}: {value}" for value in found])
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + message.body


def make_response(request: Request, status: int, reason: str = "", to_tag: str = "") -> Response:
    """A response with the headers that RFC 3261 §8.2.6.2 copies; 100 gets no tag."""
    response = Response(status, reason or reason_phrase(status))
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        for value in request.headers.getlist(name):
            response.headers.add(name, value)
    to_value = request.headers.get("To")
    if to_tag and status > 100 and to_value is not None and ";tag=" not in to_value.replace(" ", "").lower():
        response.headers.set("To", f"{to_value};tag={to_tag}")
    return response


def add_headers(message: Request | Response, headers: Iterable[tuple[str, str]]) -> None:
    """Add headers that a user gave; LocalError when one could break out of its line."""
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or _FORBIDDEN.search(value):
            raise LocalError(f"header {name!r} holds a character that SIP does not allow")
        message.headers.add(name, value)


def is_token(text: str) -> bool:
    """Whether a text is a token (RFC 3261 §25.1)."""
    return _TOKEN.fullmatch(text) is not None


def clean(text: str) -> str:
    """A user's text, refused when it holds control characters (header injection)."""
    if _FORBIDDEN.search(text) or "\x09" in text:
        raise LocalError("control character in a SIP address")
    return text


def header_list(message: Request | Response) -> tuple[tuple[str, str], ...]:
    """All headers in order."""
    return tuple((name, value) for name, found in _fields(message.headers) for value in found)


def tokens(message: Request | Response, name: str) -> tuple[str, ...]:
    """The option tags or methods of a list header, as written."""
    return tuple(token for value in message.headers.getlist(name) for token in header.split_list(value))


def values(message: Request | Response, name: str) -> tuple[str, ...]:
    """The values of a header, one for each element however they were folded together."""
    return tuple(part for value in message.headers.getlist(name) for part in header.split_list(value))


def top_via(message: Request | Response) -> header.Via:
    """The first Via."""
    found = values(message, "Via")
    if not found:
        raise ParseError("a Via")
    return header.parse_via(found[0])


def set_top_via(message: Request, text: str) -> None:
    """Write the first Via anew, the rest as they are."""
    message.headers.setlist("Via", [text, *values(message, "Via")[1:]])


def address(message: Request | Response, name: str) -> header.Address:
    """The one address of From, To, Refer-To …"""
    value = message.headers.get(name)
    if value is None:
        raise ParseError(name)
    return header.parse_address(value)


def contact_uri(message: Request | Response) -> str | None:
    """The URI of the first Contact, None without one."""
    found = values(message, "Contact")
    return header.parse_address(found[0]).uri if found else None


def cseq(message: Request | Response) -> tuple[int, str]:
    """Sequence number and method."""
    value = message.headers.get("CSeq")
    if value is None:
        raise ParseError("a CSeq")
    return header.parse_cseq(value)


def call_id(message: Request | Response) -> str:
    """The Call-ID, "" without one."""
    return message.headers.get("Call-ID") or ""


def integer(message: Request | Response, name: str) -> int | None:
    """A number before any parameter or comment; None when the header is absent or no number."""
    value = message.headers.get(name)
    match = re.match(r"\s*(\d+)", value or "")
    return header.parse_integer(match[1]) if match else None


def _unfold(text: str) -> list[str]:
    """Lines with their continuations (RFC 3261 §7.3.1: folding equals one space)."""
    lines: list[str] = []
    for line in text.split("\r\n"):
        if line[:1] in (" ", "\t") and lines:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return lines


def _add_headers(headers: Headers, lines: list[str]) -> bool:
    """Collect header fields; False when a line is none."""
    if len(lines) > MAX_HEADER_FIELDS:
        raise ParseError("fewer header fields", MAX_HEADER_FIELDS)
    sound = True
    collected: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not name or not _TOKEN.fullmatch(name):
            sound = sound and not line.strip("\r\n")
            continue
        lower = name.lower()
        name = COMPACT_FORMS.get(lower) or _SPELLING.get(lower, name)
        collected.setdefault(name.lower(), [name]).append(value.strip(" \t"))
    _fields(headers).extend((name, found) for name, *found in collected.values())
    return sound


def _fields(headers: Headers) -> list[tuple[str, list[str]]]:
    """The library's own list: its look-ups by name search it from the start each time, too slow for whole messages."""
    return headers._list


def _parse_response(first: str, lines: list[str], body: bytes, datagram: bool) -> Response:
    match = _STATUS_LINE.fullmatch(first)
    if match is None or match["version"] != "2.0" or not 100 <= int(match["code"]) <= 699:
        raise ParseError("a status line")
    response = Response(int(match["code"]), readable_text(match["phrase"] or ""), body)
    _add_headers(response.headers, lines)
    top_via(response)
    cseq(response)
    if response.headers.get("Call-ID") is None:
        raise ParseError("a Call-ID")
    address(response, "From")
    address(response, "To")
    _cut_body(response, datagram)
    return response


def _check_request(request: Request, datagram: bool) -> None:
    """RFC 3261 §8.1.1 and §16.3 item 1: what every request must hold."""
    headers = request.headers
    for name in _SINGLE:
        if len(set(headers.getlist(name))) > 1:
            raise ParseError(f"one {name}")
    for name in ("Call-ID", "CSeq", "From", "To"):
        if not headers.get(name):
            raise ParseError(name)
    for value in values(request, "Via"):
        header.parse_via(value)
    _check_top_via(headers.getlist("Via"))
    if cseq(request)[1] != request.method:
        raise ParseError("the method in CSeq")
    address(request, "From")
    address(request, "To")
    for value in values(request, "Contact"):
        if value != "*":
            header.parse_address(value)
    for name in ("Route", "Record-Route"):
        for value in values(request, name):
            header.parse_address(value)
    max_forwards = headers.get("Max-Forwards")
    if max_forwards is not None and header.parse_integer(max_forwards) > 255:
        raise ParseError("Max-Forwards up to 255")
    _cut_body(request, datagram)


def _check_top_via(found: list[str]) -> None:
    """A Via with nothing between two commas is damage, not an empty list element (RFC 4475 §3.1.2.1)."""
    for value in found:
        if re.search(r",\s*(,|$)|^\s*,", value) and '"' not in value:
            raise ParseError("a Via")


def _cut_body(message: Request | Response, datagram: bool) -> None:
    """RFC 3261 §18.3: bytes past Content-Length go, a datagram that is shorter is an error."""
    value = message.headers.get("Content-Length")
    if value is None:
        if not datagram and message.headers.get("Content-Type") is not None:
            raise ParseError("Content-Length")
        return
    length = header.parse_integer(value)
    if length > len(message.body):
        raise ParseError("the whole body", len(message.body))
    message.body = message.body[:length]


def _sound_uri(text: str, uri: URI) -> bool:
    """Whether a Request-URI is one, of whatever scheme; what is to be a SIP URI must also follow its grammar."""
    if uri.scheme not in ("sip", "sips"):
        return header.has_scheme(text)
    return bool(uri.host) and not header.has_headers(text) and not _BLANK.search(text)
