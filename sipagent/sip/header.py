"""Header values: the few places where the wire is more liberal than the grammar that the library holds to.

Every function takes the text of one header field value and returns data, or raises `ParseError`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import TypeVar

from sipmessage import URI

from sipagent.errors import ParseError

REMEMBERED_LENGTH = 256  # characters; honest values are shorter
T = TypeVar("T")

_VIA = re.compile(
    r"SIP\s*/\s*(?P<version>[\d.]+)\s*/\s*(?P<protocol>[A-Za-z0-9.+_-]+)\s+"
    r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)\s*(?::\s*(?P<port>\d{1,5}))?\s*"
)
MAX_PORT = 65_535
_PARAMETER = re.compile(r"\s*;\s*(?P<name>[^\s;=,\"<>]+)(?:\s*=\s*(?P<value>\"(?:[^\"\\]|\\.)*\"|[^\s;,\"<>]*))?\s*")
_CSEQ = re.compile(r"(\d+)\s+(\S+)")
_URI_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BLANK = re.compile(r"\s")
_NUMERIC_HOST = re.compile(r"[0-9.]+|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True, slots=True)
class Address:
    """name-addr or addr-spec with its parameters (RFC 3261 §20.10); `uri` is the text as written."""

    uri: str
    name: str
    parameters: Mapping[str, str]

    @property
    def tag(self) -> str:
        """The tag parameter, "" when there is none."""
        return self.parameters.get("tag", "")


@dataclass(frozen=True, slots=True)
class Via:
    """One hop of a Via header (RFC 3261 §20.42)."""

    protocol: str
    host: str
    port: int | None
    parameters: Mapping[str, str]

    @property
    def branch(self) -> str:
        """The transaction's name."""
        return self.parameters.get("branch", "")

    @property
    def sent_by(self) -> str:
        """Host and port, lower case, as far as they are written."""
        return f"{self.host}:{self.port}".lower() if self.port else self.host.lower()


def split_list(value: str) -> list[str]:
    """The comma-separated parts of a value; commas in quotes and angle brackets do not count."""
    if "," not in value:
        return [value.strip()] if value.strip() else []
    parts, start, quoted, bracket, escaped = [], 0, False, False, False
    for i, c in enumerate(value):
        if escaped:
            escaped = False
        elif quoted:
            escaped = c == "\\"
            quoted = c != '"'
        elif c == '"':
            quoted = True
        elif c == "<":
            bracket = True
        elif c == ">":
            bracket = False
        elif c == "," and not bracket:
            parts.append(value[start:i].strip())
            start = i + 1
    parts.append(value[start:].strip())
    return [part for part in parts if part]


def parse_parameters(text: str) -> dict[str, str]:
    """`;name=value` pairs with lower-case names; the whole text has to be parameters."""
    found: dict[str, str] = {}
    offset = 0
    while offset < len(text):
        match = _PARAMETER.match(text, offset)
        if match is None:
            if not text[offset:].strip():
                break
            raise ParseError("a parameter", offset)
        found.setdefault(match["name"].lower(), _unquote(match["value"] or ""))
        offset = match.end()
    return found


def _remembered(size: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """`lru_cache` for the texts that honest far ends send: a stranger's long ones shall not fill the memory."""

    def decorate(parse: Callable[[str], T]) -> Callable[[str], T]:
        remembered = lru_cache(maxsize=size)(parse)

        @wraps(parse)
        def read(text: str) -> T:
            return remembered(text) if len(text) <= REMEMBERED_LENGTH else parse(text)

        return read

    return decorate


@_remembered(512)  # the same text is read several times while its message is handled
def parse_via(value: str) -> Via:
    """One Via value."""
    match = _VIA.match(value)
    if match is None:
        raise ParseError("a Via")
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > MAX_PORT:
        raise ParseError("a port")
    return Via(match["protocol"].upper(), match["host"], port, parse_parameters(value[match.end() :]))


@_remembered(512)
def parse_address(value: str) -> Address:
    """A From, To, Contact, Route … value; the display name may be anything that balances its quotes."""
    quoted_end = 0
    text = value.strip()
    if text.startswith('"'):
        quoted_end = _closing_quote(text) + 1
    opening = text.find("<", quoted_end)
    if opening < 0:
        # RFC 3261 §20.10: without angle brackets, all parameters belong to the header, and "?" and "," may not appear.
        uri, _, rest = text.partition(";")
        uri = uri.strip()
        if quoted_end or "?" in uri or "," in uri:
            raise ParseError("an address in angle brackets")
        return Address(_check_uri(uri), "", parse_parameters(";" + rest if rest else ""))
    closing = text.find(">", opening)
    if closing < 0:
        raise ParseError("'>'", len(text))
    name = text[:opening].strip()
    if not quoted_end and '"' in name:
        raise ParseError("a display name", 0)
    return Address(
        _check_uri(text[opening + 1 : closing].strip()), _unquote(name), parse_parameters(text[closing + 1 :])
    )


@_remembered(512)
def parse_uri(text: str) -> URI:
    """A sip, sips or tel URI by the library's grammar."""
    try:
        parsed = URI.parse(_without_headers(text))
    except (ValueError, TypeError) as error:
        raise ParseError("a SIP URI") from error
    if parsed.port is not None and not 0 < parsed.port <= MAX_PORT:
        raise ParseError("a port")
    labels = parsed.host.removesuffix(".").split(".") if parsed.host and parsed.host[0] != "[" else ()
    if not all(0 < len(label) < 64 for label in labels):  # RFC 1035 §2.3.4
        raise ParseError("a host")
    return parsed


def parse_cseq(value: str) -> tuple[int, str]:
    """Sequence number and method; RFC 3261 §8.1.1.5: the number is below 2**31."""
    match = _CSEQ.fullmatch(value.strip())
    if match is None or len(match[1]) > 10 or int(match[1]) >= 2**31:
        raise ParseError("a CSeq")
    return int(match[1]), match[2]


def parse_integer(value: str, limit: int = 2**32 - 1) -> int:
    """A decimal number; larger ones are the limit (RFC 3261 §20.19 asks that of Expires)."""
    text = value.strip()
    if not text.isascii() or not text.isdigit():
        raise ParseError("a number")
    return limit if len(text) > 10 else min(int(text), limit)


def uri_parameter(uri: str, name: str) -> str | None:
    """A parameter of a URI's text, None when it is not there."""
    _, _, rest = uri.partition(";")
    for part in rest.partition("?")[0].split(";"):
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip()
    return None


def host_port(uri: str) -> tuple[str, int | None]:
    """Host (no brackets) and port of a URI's text."""
    parsed = parse_uri(uri)
    return parsed.host.strip("[]"), parsed.port


def is_numeric(host: str) -> bool:
    """Whether a host is an address rather than a name."""
    return _NUMERIC_HOST.fullmatch(host) is not None or ":" in host


def bracketed(host: str) -> str:
    """A host as it stands in a URI or a Via: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def quote(text: str) -> str:
    """A quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _closing_quote(text: str) -> int:
    i = 1
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == '"':
            return i
        i += 1
    raise ParseError("a closing quote", len(text))


def _check_uri(uri: str) -> str:
    if not _URI_SCHEME.match(uri) or _BLANK.search(uri):
        raise ParseError("a URI")
    return uri


def _without_headers(uri: str) -> str:
    """Headers of a URI (?Replaces=…) mean nothing to routing; a user part may hold a question mark of its own."""
    user, at, rest = uri.rpartition("@")
    return user + at + rest.partition("?")[0]


def has_scheme(uri: str) -> bool:
    """Whether a text begins as a URI does, of whatever scheme."""
    return _URI_SCHEME.match(uri) is not None


def has_headers(uri: str) -> bool:
    """Whether a URI carries headers, which RFC 3261 §19.1.5 forbids in a Request-URI."""
    return "?" in uri.rpartition("@")[2]
