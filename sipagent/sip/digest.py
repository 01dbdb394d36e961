"""Digest authentication (RFC 7616, RFC 8760, RFC 2617): challenges, credentials, and the side that asks for them.

client:  authentication.learn(…challenges…) → Verdict.RETRY → authentication.headers(method, uri, body)
server:  guardian.challenge(now) → 401/407;  guardian.check(authorization, method, now) → Check
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from sipagent.errors import ParseError

# Strongest first; each is also known with "-sess" (RFC 7616 §3.4.2).
ALGORITHMS: Final = ("SHA-512-256", "SHA-256", "MD5")
_HASHLIB: Final = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}

_MAX_HEADER: Final = 4_096
_MAX_PARAMETERS: Final = 64
_TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]+"
_PARAMETER: Final = re.compile(
    rf'\s*(?:(?P<scheme>{_TOKEN})\s+)?(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]*))\s*(?:,|$)'
)

HeaderList = tuple[tuple[str, str], ...]


# ---- the header values


def parse_parameters(value: str) -> list[tuple[str, dict[str, str]]]:
    """The (scheme, parameters) pairs of one header value; names and schemes in lower case. Raises ParseError."""
    if len(value) > _MAX_HEADER:
        raise ParseError(f"at most {_MAX_HEADER} characters")
    found: list[tuple[str, dict[str, str]]] = []
    offset = count = 0
    while offset < len(value):
        match = _PARAMETER.match(value, offset)
        count += 1
        if match is None or count > _MAX_PARAMETERS or (not found and not match["scheme"]):
            raise ParseError("an authentication parameter", offset)
        if match["scheme"]:
            found.append((match["scheme"].lower(), {}))
        text = match["bare"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
        found[-1][1].setdefault(match["name"].lower(), text)
        offset = match.end()
    return found


@dataclass(frozen=True, slots=True)
class Challenge:
    """One Digest challenge. `qop` () is the old form of RFC 2069; `algorithm` is spelt as in ALGORITHMS or "…-sess"."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False
    userhash: bool = False

    @property
    def strength(self) -> int:
        """Position in ALGORITHMS, 0 = strongest."""
        return ALGORITHMS.index(self.algorithm.removesuffix("-sess"))


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """The Digest challenges that we could answer, in the order of the headers; all others are passed over."""
    return tuple(_challenges(values))


def _challenges(values: Iterable[str]) -> Iterator[Challenge]:
    for value in values:
        try:
            pairs = parse_parameters(value)
        except ParseError:
            continue
        for scheme, parameters in pairs:
            algorithm = known_algorithm(parameters.get("algorithm", "MD5"))
            qop = tuple(text.strip().lower() for text in parameters.get("qop", "").split(",") if text.strip())
            # RFC 7616 §3.3: a challenge with an unknown algorithm or only unknown qop values is ignored.
            if scheme != "digest" or algorithm is None or (qop and not {"auth", "auth-int"} & set(qop)):
                continue
            if "realm" in parameters and "nonce" in parameters:
                yield Challenge(
                    realm=parameters["realm"],
                    nonce=parameters["nonce"],
                    algorithm=algorithm,
                    qop=qop,
                    opaque=parameters.get("opaque"),
                    stale=parameters.get("stale", "").lower() == "true",
                    userhash=parameters.get("userhash", "").lower() == "true",
                )


def known_algorithm(text: str) -> str | None:
    """The known spelling of an algorithm's name, None for one that we do not have."""
    name = text.upper()
    base = name.removesuffix("-SESS")
    if base not in ALGORITHMS:
        return None
    return base if base == name else f"{base}-sess"


def strongest(challenges: Iterable[Challenge], allowed: Iterable[str] = ALGORITHMS) -> Challenge | None:
    """The challenge to answer (RFC 8760 §2.4 lets the server order them; we do not let it order us down)."""
    bases = set(allowed)
    usable = [challenge for challenge in challenges if challenge.algorithm.removesuffix("-sess") in bases]
    return min(usable, key=lambda challenge: challenge.strength, default=None)


# ---- the computation


def _hash(algorithm: str, data: str | bytes) -> str:
    octets = data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape")
    return hashlib.new(_HASHLIB[algorithm.removesuffix("-sess")], octets, usedforsecurity=False).hexdigest()


def response(
    algorithm: str,
    username: str,
    realm: str,
    password: str,
    nonce: str,
    method: str,
    uri: str,
    *,
    qop: str = "",
    nc: str = "",
    cnonce: str = "",
    body: bytes = b"",
) -> str:
    """The response parameter (RFC 7616 §3.4.1), lower-case hex; `qop` "" is RFC 2069's form."""
    secret = _hash(algorithm, f"{username}:{realm}:{password}")
    if algorithm.endswith("-sess"):
        secret = _hash(algorithm, f"{secret}:{nonce}:{cnonce}")
    a2 = f"{method}:{uri}:{_hash(algorithm, body)}" if qop == "auth-int" else f"{method}:{uri}"
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return _hash(algorithm, f"{secret}:{middle}:{_hash(algorithm, a2)}")


def quoted(text: str) -> str:
    """A quoted-string (RFC 3261 §25.1)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def credentials(
    challenge: Challenge,
    username: str,
    password: str,
    method: str,
    uri: str,
    *,
    nc: int = 1,
    cnonce: str,
    body: bytes = b"",
) -> str:
    """The value of Authorization or Proxy-Authorization for `challenge`.

    `nc` counts the uses of the nonce from 1, `cnonce` is at least 64 random bits in hex. auth is preferred to auth-int,
    whose digest breaks when something on the path touches the body.
    """
    qop = "auth" if "auth" in challenge.qop else "auth-int" if challenge.qop else ""
    count = f"{nc:08x}"
    digest = response(
        challenge.algorithm, username, challenge.realm, password, challenge.nonce, method, uri,
        qop=qop, nc=count, cnonce=cnonce, body=body,
    )  # fmt: skip
    name = _hash(challenge.algorithm, f"{username}:{challenge.realm}") if challenge.userhash else username
    parts = [
        f"username={quoted(name)}",
        f"realm={quoted(challenge.realm)}",
        f"nonce={quoted(challenge.nonce)}",
        f"uri={quoted(uri)}",
        f'response="{digest}"',
        f"algorithm={challenge.algorithm}",
    ]
    if qop or challenge.algorithm.endswith("-sess"):
        parts.append(f"cnonce={quoted(cnonce)}")
    if qop:
        parts += [f"qop={qop}", f"nc={count}"]
    if challenge.opaque is not None:
        parts.append(f"opaque={quoted(challenge.opaque)}")
    if challenge.userhash:
        parts.append("userhash=true")
    return "Digest " + ", ".join(parts)


# ---- the side that is asked


@dataclass(frozen=True, slots=True)
class Account:
    """Whom we authenticate as. `realms` limits who may ask: () = any realm, else only these, compared exactly."""

    username: str
    password: str = field(repr=False)
    realms: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ALGORITHMS


class Verdict(Enum):
    """What a 401 or 407 means for the request that it answers."""

    RETRY = "retry"  # send it again with `headers`
    WRONG_PASSWORD = "wrong_password"  # our answer to this very challenge was refused
    UNSUPPORTED = "unsupported"  # nothing in it that we can or may answer
    NO_CREDENTIALS = "no_credentials"


@dataclass(slots=True)
class _Session:
    challenge: Challenge
    cnonce: str
    uses: int = 0
    stale_in_a_row: int = 0


class Authentication:
    """Credentials for one registration or dialog: every realm that has challenged us so far, with its nonce's count.

    Whether the challenger may be answered at all (its address, that it is not a stranger's reply to a BYE) is for the
    caller to decide before `learn`.
    """

    def __init__(
        self,
        account: Account,
        new_cnonce: Callable[[], str] = lambda: secrets.token_hex(12),
        on_unproven: Callable[[], None] = lambda: None,
    ) -> None:
        """`new_cnonce` gives a fresh client nonce of at least 64 random bits; `on_unproven`: see `accepted`."""
        self._account = account
        self._new_cnonce, self._on_unproven = new_cnonce, on_unproven
        self._sessions: dict[tuple[str, str], _Session] = {}  # by (header to send, realm)

    def learn(self, www_authenticate: Iterable[str] = (), proxy_authenticate: Iterable[str] = ()) -> Verdict:
        """Take the challenges of a response to a request that carried `headers`.

        A nonce that is refused at its first use means a wrong password, unless the server calls it stale (once); one
        that has served before has just run out, whether or not the server says so.
        """
        if not self._account.password:
            return Verdict.NO_CREDENTIALS
        verdict = Verdict.UNSUPPORTED
        for header, values in (("Authorization", www_authenticate), ("Proxy-Authorization", proxy_authenticate)):
            by_realm: dict[str, list[Challenge]] = {}
            for challenge in parse_challenges(values):
                if not self._account.realms or challenge.realm in self._account.realms:
                    by_realm.setdefault(challenge.realm, []).append(challenge)
            for realm, challenges in by_realm.items():
                chosen = strongest(challenges, self._account.algorithms)
                if chosen is None:
                    continue
                if self._refused((header, realm), chosen):
                    return Verdict.WRONG_PASSWORD
                verdict = Verdict.RETRY
        return verdict

    def _refused(self, key: tuple[str, str], chosen: Challenge) -> bool:
        session = self._sessions.get(key)
        stale_in_a_row = 0
        if session is not None and session.uses == 1:
            if not chosen.stale or session.stale_in_a_row:
                del self._sessions[key]  # the next request starts without it, and may learn of a new password's worth
                return True
            stale_in_a_row = 1
        self._sessions[key] = _Session(chosen, self._new_cnonce(), 0, stale_in_a_row)
        return False

    def headers(self, method: str, uri: str, body: bytes = b"") -> HeaderList:
        """The Authorization headers for the next request, () before any challenge; each call counts as one use."""
        found = []
        for (header, _), session in self._sessions.items():
            session.uses += 1
            value = credentials(
                session.challenge, self._account.username, self._account.password, method, uri,
                nc=session.uses, cnonce=session.cnonce, body=body,
            )  # fmt: skip
            found.append((header, value))
        return tuple(found)

    def accepted(self, authentication_info: str | None = None, uri: str = "", body: bytes = b"") -> bool:
        """The credentials of a request to `uri` were good; `body` is that of the response.

        `authentication_info` is that header's value. By its rspauth the server proves that it knows the password too
        (RFC 7616 §3.5): when that is wrong, nothing else in it is believed, `on_unproven` is called, and this is False.
        """
        for session in self._sessions.values():
            session.stale_in_a_row = 0
        if authentication_info is None or len(self._sessions) != 1:
            return True
        try:
            [(_, parameters)] = parse_parameters("Digest " + authentication_info)
        except ParseError:
            return True
        [(key, session)] = self._sessions.items()
        if not self._proves(session, parameters, uri, body):
            self._on_unproven()
            return False
        nonce = parameters.get("nextnonce")
        if nonce and nonce != session.challenge.nonce:  # a 2xx may come again
            challenge = session.challenge
            renewed = Challenge(
                challenge.realm, nonce, challenge.algorithm, challenge.qop, challenge.opaque, False, challenge.userhash
            )
            self._sessions[key] = _Session(renewed, self._new_cnonce())
        return True

    def _proves(self, session: _Session, parameters: dict[str, str], uri: str, body: bytes) -> bool:
        """RFC 7616 §3.5: the response's digest is that of a request without a method. True when there is none."""
        proof, qop = parameters.get("rspauth"), parameters.get("qop", "").lower()
        if proof is None or (qop and parameters.get("cnonce") != session.cnonce):
            return True  # of another nonce's time: it proves nothing, nor does it disprove
        challenge, account = session.challenge, self._account
        expected = response(
            challenge.algorithm, account.username, challenge.realm, account.password, challenge.nonce, "", uri,
            qop=qop, nc=parameters.get("nc", f"{session.uses:08x}"),
            cnonce=session.cnonce, body=body,
        )  # fmt: skip
        return secrets.compare_digest(proof.lower().encode(), expected.encode())
