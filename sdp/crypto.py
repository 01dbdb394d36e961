"""a=crypto lines: SRTP keys in the session description (SDES, RFC 4568; suites of RFC 6188 and RFC 7714)."""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from .description import Attribute, values

# Master key and salt in bytes, together. There is no NULL cipher here, and never will be.
SUITES: Final = {
    "AES_CM_128_HMAC_SHA1_80": 16 + 14,
    "AES_CM_128_HMAC_SHA1_32": 16 + 14,
    "AES_256_CM_HMAC_SHA1_80": 32 + 14,
    "AES_256_CM_HMAC_SHA1_32": 32 + 14,
    "AEAD_AES_128_GCM": 16 + 12,
    "AEAD_AES_256_GCM": 32 + 12,
}
DEFAULT_SUITES: Final = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM", "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_32")

_MAX_LINES: Final = 32
_MAX_LIFETIME_BITS: Final = 48  # RFC 3711 §9.2: 2^48 SRTP packets


@dataclass(frozen=True, slots=True)
class Crypto:
    """One usable a=crypto line. `key` is master key and salt; `lifetime_packets` 0 means the suite's own limit."""

    tag: int
    suite: str
    key: bytes = field(repr=False)
    lifetime_packets: int = 0


def parse_crypto(value: str) -> Crypto | None:
    """Read one line; None for a line that we must pass over: unknown suite, MKI, several keys, weakened, malformed.

    RFC 4568 §6.1: a line with an unknown suite or session parameter is ignored, not an error. A parameter with a
    leading "-" may itself be ignored (§6.3.7). libsrtp, as we use it, knows no MKI and no key derivation rate.
    """
    fields = value.split()
    if len(fields) < 3 or not (fields[0].isascii() and fields[0].isdigit() and len(fields[0]) <= 9):
        return None
    suite = fields[1]
    if suite not in SUITES or not all(_harmless(parameter) for parameter in fields[3:]):
        return None
    method, _, info = fields[2].partition(":")
    if method.lower() != "inline" or ";" in info:
        return None
    text, *rest = info.split("|")
    try:
        # RFC 4568 §6.1 discards the padding, and some far ends do so before they send.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(key) != SUITES[suite] or len(rest) > 1 or any(":" in part for part in rest):
        return None
    lifetime_packets = _lifetime(rest[0]) if rest else 0
    return None if lifetime_packets is None else Crypto(int(fields[0]), suite, key, lifetime_packets)


def _harmless(parameter: str) -> bool:
    # KDR, UNENCRYPTED_SRTP, UNENCRYPTED_SRTCP, UNAUTHENTICATED_SRTP, FEC_ORDER, FEC_KEY change the transform.
    return parameter.startswith(("-", "WSH="))


def _lifetime(text: str) -> int | None:
    power = text.removeprefix("2^")
    if not (power.isascii() and power.isdigit() and len(power) <= 15):
        return None
    if power != text:
        return 1 << int(power) if int(power) <= _MAX_LIFETIME_BITS else None
    return int(power) if 0 < int(power) <= 1 << _MAX_LIFETIME_BITS else None


def usable(attributes: Iterable[Attribute]) -> Iterator[Crypto]:
    """The lines of one m= block that we can use, in the sender's order of preference."""
    for index, value in enumerate(values(attributes, "crypto")):
        if index < _MAX_LINES and (crypto := parse_crypto(value)) is not None:
            yield crypto


def crypto_attribute(crypto: Crypto) -> Attribute:
    """The line for our own key. No lifetime: RFC 3711's 2^48 packets outlive every call."""
    return Attribute("crypto", f"{crypto.tag} {crypto.suite} inline:{base64.b64encode(crypto.key).decode()}")


def secret_size(suites: Iterable[str]) -> int:
    """Random bytes that an offer of these suites consumes: each line has a key of its own."""
    return sum(SUITES[suite] for suite in suites)


def own_lines(suites: Iterable[str], secret: bytes) -> tuple[Crypto, ...]:
    """Lines of an offer, tags from 1; raises ValueError when `secret` has fewer than `secret_size` bytes."""
    lines = []
    for tag, suite in enumerate(suites, 1):
        key, secret = secret[: SUITES[suite]], secret[SUITES[suite] :]
        if len(key) != SUITES[suite]:
            raise ValueError("too few random bytes for the SRTP keys")
        lines.append(Crypto(tag, suite, key))
    return tuple(lines)
