"""PASSporTs (RFC 8225, RFC 8588) in SIP's Identity header (RFC 8224 §4): the text and what it says.

Identity: eyJhbGciOi….eyJhdHRlc3Qi….MEUCIQ…;info=<https://cert.example/a.pem>;alg=ES256;ppt=shaken
          JWS header  . claims      . signature     (the compact form leaves out the first two: "..MEUCIQ…")
"""

import base64
import re
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from sipagent.errors import ParseError
from sipagent.stir.telephone import Name

MAX_CHARACTERS: Final = 8_192  # of a header value; honest ones have a thousand
SHAKEN: Final = "shaken"
T = TypeVar("T")
_VALUE: Final = re.compile(r"\s*(?P<token>[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+)\s*(?P<parameters>(?:;.*)?)")
_PARAMETER: Final = re.compile(
    r"\s*;\s*(?P<name>[A-Za-z0-9-]+)\s*=\s*(?:<(?P<uri>[^<>\s]*)>|\"(?P<quoted>[^\"\\]*)\"|(?P<bare>[^\s;\"<>]*))\s*"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """One Identity header value: the token's three parts and the parameters that we know, "" when they are absent."""

    header: str
    claims: str
    signature: str
    info: str
    alg: str
    ppt: str

    @property
    def compact(self) -> bool:
        """Header and claims have to be made from the request (RFC 8225 §7)."""
        return not self.header and not self.claims


class Orig(msgspec.Struct, frozen=True):
    """Who calls: one of both."""

    tn: str = ""
    uri: str = ""


class Dest(msgspec.Struct, frozen=True):
    """Who is called: one of both holds names."""

    tn: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()


class Header(msgspec.Struct, frozen=True):
    """The JOSE header. `crit` names what a verifier must understand, and we understand nothing more."""

    alg: str
    x5u: str
    typ: str = ""
    ppt: str = ""
    crit: tuple[str, ...] | None = None


class Claims(msgspec.Struct, frozen=True):
    """The claims; `iat` in Unix seconds."""

    dest: Dest
    iat: int
    orig: Orig
    attest: str = ""
    origid: str = ""


def parse_identity(value: str) -> Identity:
    """Read a header value; raises ParseError."""
    match = _VALUE.fullmatch(value) if len(value) <= MAX_CHARACTERS else None
    if match is None:
        raise ParseError("a PASSporT")
    parameters: dict[str, str] = {}
    text, offset = match["parameters"], 0
    while offset < len(text):
        found = _PARAMETER.match(text, offset)
        if found is None:
            raise ParseError("a parameter of Identity", offset)
        named = found["uri"] if found["uri"] is not None else found["quoted"]
        parameters.setdefault(found["name"].lower(), found["bare"] if named is None else named)
        offset = found.end()
    header, claims, signature = match["token"].split(".")
    if bool(header) != bool(claims):
        raise ParseError("header and claims, or neither")
    return Identity(
        header,
        claims,
        signature,
        parameters.get("info", ""),
        parameters.get("alg", ""),
        parameters.get("ppt", "").lower(),
    )


def read_header(text: str) -> Header:
    """The JOSE header; raises ParseError."""
    return _read(text, Header, "a PASSporT's header")


def read_claims(text: str) -> Claims:
    """The claims; raises ParseError."""
    return _read(text, Claims, "a PASSporT's claims")


def write_header(x5u: str, ppt: str = "") -> str:
    """A JOSE header, encoded, keys in the order that RFC 8225 §9 gives them."""
    fields: dict[str, Any] = {"alg": "ES256", **({"ppt": ppt} if ppt else {}), "typ": "passport", "x5u": x5u}
    return encode(msgspec.json.encode(fields))


def write_claims(orig: Name, dest: Name, iat: int, attest: str = "", origid: str = "") -> str:
    """Claims, encoded, keys in order; `attest` and `origid` belong to SHAKEN."""
    fields: dict[str, Any] = {"attest": attest} if attest else {}
    fields |= {"dest": {dest.kind: [dest.value]}, "iat": iat, "orig": {orig.kind: orig.value}}
    if origid:
        fields["origid"] = origid
    return encode(msgspec.json.encode(fields))


def encode(data: bytes) -> str:
    """base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Bytes of base64url without padding; raises ParseError."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise ParseError("base64url") from error


def _read(text: str, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(decode(text), type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ParseError(what) from error
