"""Who vouches for a caller's number, asked before anybody else hears of the call (RFC 8224 §6.2)."""

import asyncio
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from sipagent.errors import ParseError
from sipagent.service.config.tree import Sip
from sipagent.sip import engine as sip
from sipagent.sip import header
from sipagent.stir.verdict import BAD_IDENTITY_INFO, PHRASES, Verdict

if TYPE_CHECKING:
    from sipagent.stir.verify import Claimed, Verifier

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 256  # for certificates, all callers together; each for three seconds at most
Then = Callable[[sip.IncomingCall, Verdict], None]


class Screening:
    """Judges each INVITE when trust anchors are configured. One whose certificate must be fetched waits here alone."""

    def __init__(self, settings: Sip) -> None:
        self._required = settings.stir == "require"
        self._verifier = _verifier(settings) if settings.stir_trust_anchors else None
        self._waiting: dict[str, asyncio.Task[Verdict]] = {}
        self.verdicts: dict[str, int] = {}  # by attestation, status, or "absent"

    @property
    def handles(self) -> frozenset[str]:
        """The dialogs that wait for a certificate: no call's yet, and no orphans."""
        return frozenset(self._waiting)

    def screen(self, event: sip.IncomingCall, then: Then) -> None:
        """Call `then` with the verdict, at once when that is possible; never after `forget`."""
        if self._verifier is None:
            then(event, Verdict())
            return
        claimed = claims_of(event)
        verdict = self._verifier.at_once(claimed, time.time())
        if verdict is None and len(self._waiting) >= MAX_WAITING:
            verdict = Verdict("failed", status=BAD_IDENTITY_INFO, reason="too many callers wait for certificates")
        if verdict is not None:
            self._tell(event, verdict, then)
            return
        task = asyncio.ensure_future(self._verifier.verify(claimed, time.time))
        self._waiting[event.handle] = task
        task.add_done_callback(partial(self._done, event, then))

    def forget(self, handle: str) -> None:
        """The caller gave up."""
        task = self._waiting.pop(handle, None)
        if task is not None:
            task.cancel()

    def refusal(self, verdict: Verdict) -> tuple[int, str] | None:
        """Status and phrase that the caller gets under `sip.stir = "require"`; None: let it pass."""
        if not self._required or not verdict.status:
            return None
        return verdict.status, PHRASES[verdict.status]

    async def close(self) -> None:
        """Give up what is being fetched."""
        for handle in list(self._waiting):
            self.forget(handle)
        if self._verifier is not None:
            await self._verifier.repository.close()

    def _done(self, event: sip.IncomingCall, then: Then, task: asyncio.Task[Verdict]) -> None:
        if self._waiting.get(event.handle) is not task:
            return
        del self._waiting[event.handle]
        error = task.exception()
        if error is None:
            self._tell(event, task.result(), then)
        else:
            log.error("the check of a caller's number failed", handle=event.handle, error=repr(error))
            self._tell(event, Verdict("failed", status=BAD_IDENTITY_INFO, reason="the check itself failed"), then)

    def _tell(self, event: sip.IncomingCall, verdict: Verdict, then: Then) -> None:
        self.verdicts[verdict.label] = self.verdicts.get(verdict.label, 0) + 1
        then(event, verdict)


def notice(verdict: Verdict) -> sip.HeaderList:
    """What the far end is told of a call that goes on although its Identity does not hold (RFC 9410 §4)."""
    if verdict.result != "failed":
        return ()
    return (("Reason", f'STIR ;cause={verdict.status} ;text="{PHRASES[verdict.status]}"'),)


def claims_of(event: sip.IncomingCall) -> "Claimed":
    """What an INVITE claims. Only a trunk's P-Asserted-Identity counts, and it comes before From."""
    from sipagent.stir.telephone import name_of  # with what is configured only: it takes time to load
    from sipagent.stir.verify import Claimed

    callers = (*(_asserted(event.headers) if event.trunk else ()), event.from_uri)
    return Claimed(
        tuple(_values(event.headers, "identity")),
        tuple(name for name in map(name_of, callers) if name is not None),
        tuple(name for name in (name_of(event.to_uri),) if name is not None),
        next(map(_unix_seconds, _values(event.headers, "date")), None),
    )


def _values(headers: sip.HeaderList, name: str) -> Iterator[str]:
    return (value for key, value in headers if key.lower() == name)


def _asserted(headers: sip.HeaderList) -> Iterator[str]:
    for value in _values(headers, "p-asserted-identity"):
        for part in header.split_list(value)[:2]:  # RFC 3325 §9.1: one sip URI, one tel URI
            try:
                yield header.parse_address(part).uri
            except ParseError:
                continue


def _unix_seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _verifier(settings: Sip) -> "Verifier":
    """Raises ConfigError."""
    from sipagent.stir.certificate import load_anchors
    from sipagent.stir.repository import Repository
    from sipagent.stir.verify import Verifier

    anchors = load_anchors(settings.stir_trust_anchors)
    return Verifier(Repository(anchors, settings.stir_certificates, settings.stir_hosts), settings.stir_max_age_seconds)
