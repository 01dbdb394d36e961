"""The authentication service (RFC 8224 §6.1): our own Identity header for calls that we place."""

from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sipagent.errors import ConfigError
from sipagent.stir import passport, signature
from sipagent.stir.telephone import Name, canonical_number, name_of


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and the URL at which others find its certificate; `origid` is a UUID that names us as the origin."""

    key: ec.EllipticCurvePrivateKey
    x5u: str
    origid: str


def load_key(path: str, field: str) -> ec.EllipticCurvePrivateKey:
    """The private key of a PEM file; raises ConfigError that names `field`."""
    try:
        key = load_pem_private_key(Path(path).read_bytes(), None)
    except OSError as error:
        raise ConfigError(field, f"{path} cannot be read: {error.strerror}", "name a PEM file") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(field, f"{path} holds no private key", "a PEM file without a passphrase") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(field, f"{path} is no key for ES256", "openssl ecparam -name prime256v1 -genkey")
    return key


def sign_call(signing: SigningKey, caller: str, called: str, attest: str, now: int) -> tuple[tuple[str, str], ...]:
    """Date and Identity of an INVITE; () when the caller is no number, of which SHAKEN does not speak.

    `caller` is the number that From shows, `called` a number or a URI, `now` Unix seconds.
    """
    number = canonical_number(caller)
    callee = canonical_number(called)
    dest = Name("tn", callee) if callee else name_of(called)
    if not number or dest is None:
        return ()
    header = passport.write_header(signing.x5u, passport.SHAKEN)
    claims = passport.write_claims(Name("tn", number), dest, now, attest, signing.origid)
    token = f"{header}.{claims}"
    signed = passport.encode(signature.sign(signing.key, token.encode()))
    value = f"{token}.{signed};info=<{signing.x5u}>;alg=ES256;ppt={passport.SHAKEN}"
    return (("Date", formatdate(now, usegmt=True)), ("Identity", value))
