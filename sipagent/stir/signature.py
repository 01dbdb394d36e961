"""ES256 (RFC 7518 §3.4): the raw signatures of a JWS, which OpenSSL wants in DER."""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

_HALF: Final = 32  # bytes of r and of s
_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())


def holds(key: ec.EllipticCurvePublicKey, signed: bytes, signature: bytes) -> bool:
    """Whether this is the key's signature of those bytes."""
    if len(signature) != 2 * _HALF:
        return False
    r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, _ALGORITHM)
    except InvalidSignature:
        return False
    return True


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """64 bytes: r and s."""
    r, s = decode_dss_signature(key.sign(data, _ALGORITHM))
    return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")
