"""Numbers and URIs as PASSporTs name them (RFC 8224 §8.3, §8.5)."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

_SEPARATORS = re.compile(r"[-.() ]")
_NUMBER = re.compile(r"\+?[0-9*#]{1,32}")
_URI = re.compile(r"(?P<scheme>sips?|tel):(?P<rest>[^;?>\s]+)(?P<more>[^>\s]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Name:
    """Who is meant: `kind` is tn (a number, digits only) or uri."""

    kind: str
    value: str


def canonical_number(text: str) -> str:
    """A number without its plus and its visual separators; "" when it is none."""
    bare = _SEPARATORS.sub("", text)
    return bare.lstrip("+") if _NUMBER.fullmatch(bare) else ""


def name_of(uri: str) -> Name | None:
    """The name of a SIP or tel URI: its number when the user part is one, else the URI without port and parameters."""
    match = _URI.fullmatch(uri.strip())
    if match is None:
        return None
    scheme, rest = match["scheme"].lower(), match["rest"]
    user, at, host = rest.rpartition("@")
    user = unquote(user.partition(":")[0] if at else rest if scheme == "tel" else "")
    number = canonical_number(user)
    if number:
        return Name("tn", number)
    if scheme == "tel" or not user:
        return None
    host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return Name("uri", f"sip:{user}@{host.lower()}")
