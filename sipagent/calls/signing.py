"""Our own Identity header on calls by trunks that have a key (RFC 8224 §6.1, RFC 8588)."""

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from sipagent.errors import ConfigError
from sipagent.service.config.tree import Trunk
from sipagent.sip.engine import HeaderList

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

log = structlog.get_logger(__name__)


class Signing:
    """Signs calls. A call that cannot be signed is placed without: the far end decides what that is worth."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, int], EllipticCurvePrivateKey] = {}  # by path and time of change
        self.signed: dict[str, int] = {}  # calls by attestation; "unsigned" where that was not possible

    def headers(self, trunk: Trunk | None, caller: str, called: str, foreign: bool = False) -> HeaderList:
        """Date and Identity of a call that is about to be placed; () without a key.

        `caller` is the number that is shown, `foreign` says that it is one of those who called us.
        """
        if trunk is None or not trunk.stir_key:
            return ()
        from sipagent.stir.sign import SigningKey, sign_call  # with a key only: it takes time to load

        attest = attestation(trunk, caller, foreign)
        headers: HeaderList = ()
        try:
            signing = SigningKey(self._key(trunk.stir_key), trunk.stir_x5u, origin(trunk))
            headers = sign_call(signing, caller, called, attest, int(time.time()))
        except ConfigError as problem:
            log.error("call is not signed", trunk=trunk.name, field=problem.field, problem=problem.problem)
        label = attest if headers else "unsigned"
        self.signed[label] = self.signed.get(label, 0) + 1
        return headers

    def _key(self, path: str) -> "EllipticCurvePrivateKey":
        from sipagent.stir.sign import load_key

        try:
            name = (path, Path(path).stat().st_mtime_ns)
        except OSError:
            name = (path, 0)
        if name not in self._keys:
            self._keys = {kept: key for kept, key in self._keys.items() if kept[0] != path}
            self._keys[name] = load_key(path, "trunk.stir_key")
        return self._keys[name]


def attestation(trunk: Trunk, number: str, foreign: bool) -> str:
    """What we may say of a number that we show (RFC 8588 §4): as configured of the trunk's own numbers, at most B of
    others that our user asked for, C of a caller's whom we pass on.
    """
    own = {_digits(text) for text in (trunk.caller_id, trunk.username) if text}
    if _digits(number) in own:
        return trunk.stir_attest
    return "C" if foreign else max("B", trunk.stir_attest)


def origin(trunk: Trunk) -> str:
    """The origid: the same for all calls of a trunk (RFC 8588 §5)."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{trunk.stir_x5u}#{trunk.name}"))


def _digits(number: str) -> str:
    return number.lstrip("+")
