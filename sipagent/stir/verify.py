"""The verification service (RFC 8224 §6.2): is the caller whom the Identity header says, and who vouches for that?

    Claimed ──examine──► Token (fresh, for this call) ──its certificate──► Verdict

Everything that needs no certificate is checked first, so that nothing is fetched for a header that cannot hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sipagent.errors import ParseError
from sipagent.stir import passport, signature
from sipagent.stir.certificate import Signer
from sipagent.stir.passport import Claims, Identity
from sipagent.stir.repository import Repository
from sipagent.stir.telephone import Name, canonical_number, name_of
from sipagent.stir.verdict import (
    INVALID_IDENTITY_HEADER,
    STALE_DATE,
    UNSUPPORTED_CREDENTIAL,
    USE_IDENTITY_HEADER,
    Rejected,
    Verdict,
)

MAX_IDENTITIES: Final = 4  # in one request; the rest is not looked at
_ATTESTATIONS: Final = ("A", "B", "C")


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an INVITE says: its Identity values, who calls (a trunk's P-Asserted-Identity before From), whom, and when.

    `date` is Unix seconds, None without a Date header.
    """

    identities: tuple[str, ...]
    callers: tuple[Name, ...]
    called: tuple[Name, ...]
    date: float | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A PASSporT that fits its call; what is left to check is who signed it. `signed` holds who and the bytes."""

    url: str
    signature: bytes
    signed: tuple[tuple[Name, bytes], ...]
    attestation: str
    origid: str


class Verifier:
    """Judges calls by the certificates of a repository."""

    def __init__(self, repository: Repository, max_age_s: float) -> None:
        self.repository, self._max_age_s = repository, max_age_s

    def at_once(self, claimed: Claimed, now: float) -> Verdict | None:
        """The verdict, None when a certificate has to be fetched first. `now` is Unix seconds."""
        tokens, verdicts = self._examine(claimed, now)
        for token in tokens:
            try:
                signer = self.repository.at_once(token.url, now)
                if signer is None:
                    return None
                verdicts.append(conclude(token, signer, now))
            except Rejected as rejected:
                verdicts.append(_failed(rejected))
        return _best(verdicts)

    async def verify(self, claimed: Claimed, now: Callable[[], float]) -> Verdict:
        """The verdict, with the certificates that it takes."""
        tokens, verdicts = self._examine(claimed, now())
        for token in tokens:
            try:
                verdicts.append(conclude(token, await self.repository.get(token.url, now), now()))
            except Rejected as rejected:
                verdicts.append(_failed(rejected))
        return _best(verdicts)

    def _examine(self, claimed: Claimed, now: float) -> tuple[list[Token], list[Verdict]]:
        tokens, verdicts = [], []
        for value in claimed.identities[:MAX_IDENTITIES]:
            try:
                token = examine(value, claimed, self._max_age_s, now)
            except ParseError as error:
                verdicts.append(_failed(Rejected(INVALID_IDENTITY_HEADER, f"no {error.expected}")))
            except Rejected as rejected:
                verdicts.append(_failed(rejected))
            else:
                if token is not None:
                    tokens.append(token)
        return tokens, verdicts


def examine(value: str, claimed: Claimed, max_age_s: float, now: float) -> Token | None:
    """All that can be said of an Identity value without its certificate; None for an extension that we do not know.

    Raises ParseError and Rejected.
    """
    identity = passport.parse_identity(value)
    if identity.ppt not in ("", passport.SHAKEN):
        return None  # RFC 8224 §6.2: as if it were not there
    if identity.alg not in ("", "ES256"):
        raise Rejected(INVALID_IDENTITY_HEADER, f"the algorithm {identity.alg[:16]} is not known")
    signed = passport.decode(identity.signature)
    if identity.compact:
        return _examine_compact(identity, signed, claimed, max_age_s, now)
    header, claims = passport.read_header(identity.header), passport.read_claims(identity.claims)
    if header.crit is not None or header.alg != "ES256" or header.typ not in ("", "passport"):
        raise Rejected(INVALID_IDENTITY_HEADER, "the token's header asks for what we do not know")
    if header.ppt not in ("", passport.SHAKEN):
        return None
    if identity.ppt and identity.ppt != header.ppt:
        raise Rejected(INVALID_IDENTITY_HEADER, "ppt says one thing in the token and another beside it")
    if identity.info and identity.info != header.x5u:
        raise Rejected(INVALID_IDENTITY_HEADER, "info and x5u name different certificates")
    shaken = header.ppt == passport.SHAKEN
    if shaken and (claims.attest not in _ATTESTATIONS or not claims.origid):
        raise Rejected(INVALID_IDENTITY_HEADER, "a SHAKEN PASSporT needs attest and origid")  # RFC 8588 §4, §5
    _check_date(claims.iat, claimed.date, max_age_s, now)
    caller = _check_parties(claims, claimed)
    text = f"{identity.header}.{identity.claims}".encode()
    return Token(
        header.x5u, signed, ((caller, text),), claims.attest if shaken else "", claims.origid[:64] if shaken else ""
    )


def conclude(token: Token, signer: Signer, now: float) -> Verdict:
    """The verdict, now that the certificate is there; raises Rejected."""
    if not signer.valid_from <= now <= signer.valid_to:
        raise Rejected(UNSUPPORTED_CREDENTIAL, "the certificate is not valid now")
    for caller, signed in token.signed:
        if signature.holds(signer.key, signed, token.signature):
            is_number = caller.kind == "tn"
            authority = signer.authority(caller.value) if is_number else "not checked: the caller is no number"
            return Verdict("passed", token.attestation, caller.value, signer.subject, authority, token.origid[:64])
    raise Rejected(INVALID_IDENTITY_HEADER, "the signature does not hold")


def _examine_compact(identity: Identity, signed: bytes, claimed: Claimed, max_age_s: float, now: float) -> Token:
    """RFC 8225 §7: header and claims are made from the request, as the signer made them."""
    if identity.ppt:
        raise Rejected(INVALID_IDENTITY_HEADER, "a SHAKEN PASSporT must be whole")  # attest is in no other header
    if claimed.date is None or not identity.info:
        raise Rejected(INVALID_IDENTITY_HEADER, "the compact form needs Date and info")
    iat = int(claimed.date)
    _check_date(iat, None, max_age_s, now)
    header = passport.write_header(identity.info)
    alternatives = tuple(
        (caller, f"{header}.{passport.write_claims(caller, called, iat)}".encode())
        for caller in claimed.callers
        for called in claimed.called
    )
    return Token(identity.info, signed, alternatives, "", "")


def _check_date(iat: int, date: float | None, max_age_s: float, now: float) -> None:
    """RFC 8224 §6.2 step 4: a token that was heard elsewhere must not serve long."""
    if abs(now - iat) > max_age_s:
        raise Rejected(STALE_DATE, f"the token is not of the last {max_age_s:g} s")
    if date is not None and abs(date - iat) > max_age_s:
        raise Rejected(STALE_DATE, "Date and the token's iat differ")


def _check_parties(claims: Claims, claimed: Claimed) -> Name:
    """Who the token says is calling, and that it is for this call."""
    orig, dest = _named(claims.orig.tn, claims.orig.uri), claims.dest
    if orig is None or bool(claims.orig.tn) == bool(claims.orig.uri):
        raise Rejected(INVALID_IDENTITY_HEADER, "the token names no caller")
    if orig not in claimed.callers:
        raise Rejected(INVALID_IDENTITY_HEADER, "the token is for another caller")
    meant = [_named(tn, "") for tn in dest.tn] + [_named("", uri) for uri in dest.uri]
    if not any(one in claimed.called for one in meant if one is not None):
        raise Rejected(INVALID_IDENTITY_HEADER, "the token is for a call to somebody else")
    return orig


def _named(tn: str, uri: str) -> Name | None:
    if tn:
        number = canonical_number(tn)
        return Name("tn", number) if number else None
    return name_of(uri)


def _failed(rejected: Rejected) -> Verdict:
    return Verdict("failed", status=rejected.status, reason=rejected.reason)


def _best(verdicts: list[Verdict]) -> Verdict:
    """One token that holds is enough, a SHAKEN one before a plain one; without any the first failure counts."""
    if not verdicts:
        return Verdict("absent", status=USE_IDENTITY_HEADER, reason="no Identity that we can check")

    def rank(verdict: Verdict) -> tuple[bool, bool]:
        return verdict.result != "passed", not verdict.attestation

    return min(verdicts, key=rank)
