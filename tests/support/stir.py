"""Authorities that certify who may sign for numbers (RFC 8226), made when a test needs them."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sipagent.stir.certificate import TN_AUTH_LIST
from sipagent.stir.sign import SigningKey, sign_call

URL = "https://cert.test/signer.pem"
ORIGID = "3a47ca23-d7ab-446b-821d-33d5deedbed4"
P256 = ec.SECP256R1()


def der(tag: int, value: bytes) -> bytes:
    """One element."""
    length = bytes([len(value)]) if len(value) < 128 else b"\x82" + len(value).to_bytes(2, "big")
    return bytes([tag]) + length + value


def tn_auth_list(
    providers: tuple[str, ...] = (), ranges: tuple[tuple[str, int], ...] = (), numbers: tuple[str, ...] = ()
) -> bytes:
    """The extension's value, as the tags of RFC 8226's appendix have it."""
    entries = [der(0xA0, der(0x16, text.encode())) for text in providers]
    for start, count in ranges:
        size = count.to_bytes(count.bit_length() // 8 + 1, "big")
        entries.append(der(0xA1, der(0x30, der(0x16, start.encode()) + der(0x02, size))))
    entries += [der(0xA2, der(0x16, text.encode())) for text in numbers]
    return der(0x30, b"".join(entries))


@dataclass(frozen=True)
class Signing:
    """A key with the chain of its certificate."""

    key: ec.EllipticCurvePrivateKey
    pem: bytes

    def headers(
        self, caller: str, called: str, now: float, attest: str = "A", url: str = URL
    ) -> tuple[tuple[str, str], ...]:
        """Date and Identity of a call."""
        return sign_call(SigningKey(self.key, url, ORIGID), caller, called, attest, int(now))

    def identity(self, caller: str, called: str, now: float, attest: str = "A", url: str = URL) -> str:
        return dict(self.headers(caller, called, now, attest, url))["Identity"]

    def save_key(self, path: Path) -> Path:
        path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    def save_chain(self, folder: Path, url: str = URL) -> None:
        """Where the service looks for the certificate of that URL."""
        folder.mkdir(exist_ok=True)
        (folder / quote(url, safe="")).write_bytes(self.pem)


class Authority:
    """A root and one intermediate authority; `now` is Unix seconds."""

    def __init__(self, now: float, name: str = "Test root") -> None:
        self.now = datetime.datetime.fromtimestamp(now, datetime.UTC)
        self.root_key, self._key = ec.generate_private_key(P256), ec.generate_private_key(P256)
        self.root = self._certificate(name, self.root_key, name, self.root_key, authority=True)
        self._intermediate = self._certificate(
            f"{name} intermediate", self._key, name, self.root_key, authority=True, issuer=self.root
        )

    @property
    def anchor(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    def issue(
        self,
        numbers: bytes | None = None,
        days: tuple[float, float] = (-1.0, 1.0),
        curve: ec.EllipticCurve = P256,
        authority: bool = False,
        whole: bool = True,
        signs: bool = True,
    ) -> Signing:
        """A certificate for a TNAuthList, valid from and to so many days from now; `whole` with its intermediate."""
        key = ec.generate_private_key(curve)
        made = self._certificate(
            "SHAKEN 1234",
            key,
            self._intermediate.subject.rfc4514_string().removeprefix("CN="),
            self._key,
            authority,
            self._intermediate,
            days,
            numbers,
            signs,
        )
        pem = made.public_bytes(Encoding.PEM)
        return Signing(key, pem + self._intermediate.public_bytes(Encoding.PEM) if whole else pem)

    def _certificate(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        issuer_name: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        authority: bool = False,
        issuer: x509.Certificate | None = None,
        days: tuple[float, float] = (-1.0, 2.0),
        numbers: bytes | None = None,
        signs: bool = True,
    ) -> x509.Certificate:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
             "encipher_only", "decipher_only"),
            False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + datetime.timedelta(days=days[0]))
            .not_valid_after(self.now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=signs and not authority, key_cert_sign=authority or not signs, **usage),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if numbers is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(TN_AUTH_LIST, numbers), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())
