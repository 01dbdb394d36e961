"""Certificates that sign for numbers (RFC 8226): chains up to a trust anchor, and the numbers that they are for."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from sipagent.errors import ConfigError, ParseError
from sipagent.stir.verdict import BAD_IDENTITY_INFO, UNSUPPORTED_CREDENTIAL, Rejected

MAX_CHAIN: Final = 8
TN_AUTH_LIST: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.26")
_SEQUENCE, _IA5, _INTEGER = 0x30, 0x16, 0x02
_PROVIDER, _RANGE, _ONE = 0xA0, 0xA1, 0xA2  # explicit tags of TNEntry

Store = verification.Store


@dataclass(frozen=True, slots=True)
class NumberRange:
    """`count` numbers from `start` on; they all have as many digits as `start`."""

    start: str
    count: int

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, str) or not number.isdecimal() or len(number) != len(self.start):
            return False
        return int(self.start) <= int(number) < int(self.start) + self.count


@dataclass(frozen=True, slots=True)
class TnAuthList:
    """The service providers and the numbers that a certificate is for."""

    providers: tuple[str, ...] = ()
    ranges: tuple[NumberRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate that a trust anchor stands behind; times in Unix seconds."""

    subject: str
    key: ec.EllipticCurvePublicKey
    valid_from: float
    valid_to: float
    numbers: TnAuthList | None  # None: it does not say

    def authority(self, number: str) -> str:
        """Whether the certificate is for this number: "listed", or why that was not checked; raises Rejected."""
        if self.numbers is None:
            return "not checked: the certificate has no TNAuthList"
        if any(number in one for one in self.numbers.ranges):
            return "listed"
        if self.numbers.providers:
            # Which numbers a provider holds stands in the country's number portability database, not here.
            return f"not checked: the certificate is for service provider {', '.join(self.numbers.providers)}"
        raise Rejected(UNSUPPORTED_CREDENTIAL, "the certificate is for other numbers")


def load_anchors(path: str) -> Store:
    """The trust anchors of a PEM file; raises ConfigError."""
    try:
        return Store(x509.load_pem_x509_certificates(Path(path).read_bytes()))
    except OSError as error:
        raise ConfigError(
            "sip.stir_trust_anchors", f"{path} cannot be read: {error.strerror}", "name a PEM file"
        ) from error
    except ValueError as error:
        raise ConfigError(
            "sip.stir_trust_anchors",
            f"{path} holds no certificates",
            "PEM files of the authorities, one behind another",
        ) from error


def read_chain(pem: bytes, anchors: Store, now: float) -> Signer:
    """The signer of a PEM file with its intermediates behind it; raises Rejected. `now` is Unix seconds."""
    try:
        leaf, *intermediates = x509.load_pem_x509_certificates(pem)
        found = leaf.extensions.get_extension_for_oid(TN_AUTH_LIST).value
    except x509.ExtensionNotFound:
        found = None
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise Rejected(BAD_IDENTITY_INFO, "there is no certificate at the URL") from error
    try:
        _check_chain(leaf, intermediates[: MAX_CHAIN - 1], anchors, now)
        key = leaf.public_key()
        numbers = read_tn_auth_list(found.value) if isinstance(found, x509.UnrecognizedExtension) else None
        subject = leaf.subject.rfc4514_string()
    except (verification.VerificationError, ValueError, UnsupportedAlgorithm, OverflowError) as error:
        raise Rejected(UNSUPPORTED_CREDENTIAL, "no trust anchor stands behind the certificate") from error
    except ParseError as error:
        raise Rejected(UNSUPPORTED_CREDENTIAL, "the certificate's TNAuthList cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Rejected(UNSUPPORTED_CREDENTIAL, "the certificate's key is not for ES256")
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return Signer(subject, key, begin, end, numbers)


def _check_chain(leaf: x509.Certificate, intermediates: list[x509.Certificate], anchors: Store, now: float) -> None:
    """RFC 5280 §6, without the rules that the web adds for names of servers: these certificates name numbers."""
    signs = verification.ExtensionPolicy.permit_all().may_be_present(
        x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign
    )
    policy = (
        verification.PolicyBuilder()
        .store(anchors)
        .time(datetime.datetime.fromtimestamp(now, datetime.UTC))
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(), ee_policy=signs)
    )
    policy.build_client_verifier().verify(leaf, intermediates)


def _may_sign(policy: verification.Policy, leaf: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.digital_signature:
        raise ValueError("the key is not for signatures")


# ---- TNAuthList (RFC 8226 §9), the little of DER that it takes


def read_tn_auth_list(der: bytes) -> TnAuthList:
    """The extension's value; raises ParseError."""
    providers: list[str] = []
    ranges: list[NumberRange] = []
    for tag, value in _elements(_only(der, _SEQUENCE)):
        if tag == _PROVIDER:
            providers.append(_text(_only(value, _IA5)))
        elif tag == _ONE:
            ranges.append(NumberRange(_digits(_only(value, _IA5)), 1))
        elif tag == _RANGE:
            (first, start), (second, count) = _pair(_only(value, _SEQUENCE))
            if (first, second) != (_IA5, _INTEGER) or not 0 < len(count) <= 8:
                raise ParseError("a telephone number range")
            ranges.append(NumberRange(_digits(start), max(0, int.from_bytes(count, "big", signed=True))))
        else:
            raise ParseError("an entry of TNAuthList")
    return TnAuthList(tuple(providers), tuple(ranges))


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each element."""
    offset = 0
    while offset < len(der):
        if offset + 2 > len(der):
            raise ParseError("a DER length", offset)
        tag, length = der[offset], der[offset + 1]
        offset += 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 3:
                raise ParseError("a DER length", offset)
            length = int.from_bytes(der[offset : offset + size], "big")
            offset += size
        if offset + length > len(der):
            raise ParseError("a whole DER element", offset)
        yield tag, der[offset : offset + length]
        offset += length


def _only(der: bytes, tag: int) -> bytes:
    found = list(_elements(der))
    if len(found) != 1 or found[0][0] != tag:
        raise ParseError(f"one DER element of tag {tag:#x}")
    return found[0][1]


def _pair(der: bytes) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    found = list(_elements(der))
    if len(found) != 2:
        raise ParseError("two DER elements")
    return found[0], found[1]


def _text(value: bytes) -> str:
    if not value.isascii():
        raise ParseError("ASCII")
    return value.decode("ascii")


def _digits(value: bytes) -> str:
    text = _text(value)
    if not 1 <= len(text) <= 15 or not text.isdecimal():
        raise ParseError("a telephone number")
    return text
