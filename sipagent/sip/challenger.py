"""The side of digest authentication that asks: challenges for 401 and 407, and the judgement of what comes back.

challenger.challenge(now) → header values;   challenger.check(values of Authorization, method, now) → Check
"""

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sipagent.errors import ParseError
from sipagent.sip.digest import known_algorithm, parse_parameters, quoted, response

_NC: Final = re.compile(r"[0-9a-fA-F]{8}")


class Outcome(Enum):
    """What credentials are worth."""

    OK = "ok"
    MISSING = "missing"  # challenge
    STALE = "stale"  # the nonce ran out: challenge with stale=true
    REPLAYED = "replayed"  # this count of the nonce was used before
    WRONG = "wrong"
    MALFORMED = "malformed"  # answer 400


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome, and who it was when it is OK."""

    outcome: Outcome
    username: str = ""


class Challenger:
    """Asks for credentials and checks them. Nonces carry their time under a MAC, so that asking leaves no state.

    State begins with a correct password: the highest count seen per nonce, for the `max_nonces` latest ones.
    """

    def __init__(
        self,
        realm: str,
        password_of: Callable[[str], str | None],
        secret: bytes,
        *,
        algorithms: tuple[str, ...] = ("SHA-256", "MD5"),
        nonce_life_s: float = 300.0,
        max_nonces: int = 4096,
    ) -> None:
        """`password_of` gives a user's password or None; `secret` is at least 16 random bytes, known to us alone."""
        self._realm = realm
        self._password_of = password_of
        self._secret = secret
        self._algorithms = algorithms
        self._nonce_life_s = nonce_life_s
        self._max_nonces = max_nonces
        self._asked = 0
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._forgotten_until = -1.0  # nonces of that time and before count as used up

    def challenge(self, now: float, *, stale: bool = False) -> tuple[str, ...]:
        """Values for WWW-Authenticate or Proxy-Authenticate, one header each, the strongest first (RFC 8760 §2.3)."""
        self._asked += 1
        nonce = self._sign(f"{int(now * 1000):x}.{self._asked:x}")
        extra = ", stale=true" if stale else ""
        return tuple(
            f'Digest realm={quoted(self._realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{extra}'
            for algorithm in self._algorithms
        )

    def check(self, authorization: Iterable[str], method: str, now: float, body: bytes = b"") -> Check:
        """Judge the Authorization (or Proxy-Authorization) values of a request.

        The digest covers the uri parameter, which proxies may make differ from the Request-URI; what protects against
        use for another request is the nonce's count.
        """
        given = self._ours(authorization)
        if given is None:
            return Check(Outcome.MISSING)
        needed = ("username", "nonce", "uri", "response")
        algorithm = known_algorithm(given.get("algorithm", "MD5"))
        qop = given.get("qop", "").lower()
        if any(name not in given for name in needed) or (qop and not _NC.fullmatch(given.get("nc", ""))):
            return Check(Outcome.MALFORMED)
        if algorithm is None or algorithm.removesuffix("-sess") not in self._algorithms or qop not in ("", "auth"):
            return Check(Outcome.WRONG)
        issued = self._issued(given["nonce"])
        if issued is None:
            return Check(Outcome.STALE)  # not ours, or from before a restart: let it try again
        password = self._password_of(given["username"])
        expected = response(
            algorithm, given["username"], self._realm, password or "", given["nonce"], method, given["uri"],
            qop=qop, nc=given.get("nc", ""), cnonce=given.get("cnonce", ""), body=body,
        )  # fmt: skip
        same = hmac.compare_digest(expected.encode(), given["response"].lower().encode())
        if not same or password is None:
            return Check(Outcome.WRONG)
        if now - issued > self._nonce_life_s or issued <= self._forgotten_until:
            return Check(Outcome.STALE)
        if not self._count(given["nonce"], int(given["nc"], 16) if qop else 1):
            return Check(Outcome.REPLAYED)
        return Check(Outcome.OK, given["username"])

    def _ours(self, authorization: Iterable[str]) -> Mapping[str, str] | None:
        for value in authorization:
            try:
                pairs = parse_parameters(value)
            except ParseError:
                continue
            for scheme, parameters in pairs:
                if scheme == "digest" and parameters.get("realm") == self._realm:
                    return parameters
        return None

    def _sign(self, text: str) -> str:
        mac = hmac.new(self._secret, f"{self._realm}:{text}".encode(), "sha256").hexdigest()[:32]
        return f"{text}.{mac}"

    def _issued(self, nonce: str) -> float | None:
        """When we made this nonce, None when we did not."""
        text = nonce.rpartition(".")[0]
        if not text or not hmac.compare_digest(self._sign(text).encode(), nonce.encode("utf-8", "replace")):
            return None
        return int(text.partition(".")[0], 16) / 1000

    def _count(self, nonce: str, nc: int) -> bool:
        """Whether the count is higher than any before; remembers it."""
        if nc <= self._counts.get(nonce, 0):
            return False
        self._counts[nonce] = nc
        self._counts.move_to_end(nonce)
        if len(self._counts) > self._max_nonces:
            oldest, _ = self._counts.popitem(last=False)
            self._forgotten_until = max(self._forgotten_until, self._issued(oldest) or 0.0)
        return True
