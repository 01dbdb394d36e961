"""The session timer of one dialog (RFC 4028), in both roles.

    0 ───────────── half ─────────────────── SE − min(32 s, SE/3) ─── SE
    └ refresh agreed └ the refresher refreshes  └ nobody did: BYE

Requests of ours carry `request_headers`. `judge` says what to answer to an INVITE or UPDATE of the far end, `answered`
starts the timer with our 2xx; `accepted` starts it with theirs, `refused` says whether to ask again. At `deadline`
`on_deadline` gives what to do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sipagent.errors import ParseError
from sipagent.sip import header

HeaderList = tuple[tuple[str, str], ...]

LEAST_MIN_SE_S: Final = 90  # §4
_BYE_MARGIN_S: Final = 32.0  # §10
_LONGEST_S: Final = 86_400  # what a 422 may talk us up to
_SHORTEST_S: Final = 10  # a 2xx that names less than this, against §4, must not make us refresh all the time


class Refresher(Enum):
    """Who refreshes, as seen from one transaction: who sent its request, or who answered it."""

    UAC = "uac"
    UAS = "uas"


class TimerAction(Enum):
    """What a deadline wants."""

    REFRESH = "refresh"  # send UPDATE or re-INVITE with `request_headers`
    BYE = "bye"  # the session was not refreshed in time


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """A Session-Expires value; `refresher` None leaves the choice to the one who answers."""

    interval_s: int
    refresher: Refresher | None = None


@dataclass(frozen=True, slots=True)
class TimerPolicy:
    """What we want: `interval_s` 0 switches session timers off, unless the far end insists on one."""

    interval_s: int = 1800
    min_se_s: int = LEAST_MIN_SE_S


@dataclass(frozen=True, slots=True)
class Judgement:
    """`status` 422 refuses the request with `headers`; 200 lets it pass, `headers` then belong into the 2xx."""

    status: int
    headers: HeaderList


def parse_session_expires(value: str) -> SessionExpires:
    """Read Session-Expires (or `x`); raises ParseError."""
    number, _, rest = value.partition(";")
    parameters = header.parse_parameters(";" + rest if rest else "")
    refresher = parameters.get("refresher", "").lower()
    return SessionExpires(header.parse_integer(number), Refresher(refresher) if refresher in ("uac", "uas") else None)


class SessionTimer:
    """The machine. It is off (`deadline` None) until an exchange has agreed on an interval."""

    def __init__(self, policy: TimerPolicy) -> None:
        """Off until `answered` or `accepted`."""
        self.deadline: float | None = None
        self.interval_s = 0  # agreed; 0 = no timer
        self.refreshing = False  # whether we are the refresher
        self._policy = policy
        self._wanted_s = policy.interval_s
        self._min_se_s = policy.min_se_s
        self._bye_at = 0.0
        self._pending: SessionExpires | None = None

    # ---- requests of ours

    def request_headers(self) -> HeaderList:
        """Supported, and what we ask for: for every INVITE and UPDATE that we send, refreshes among them."""
        found: list[tuple[str, str]] = [("Supported", "timer")]
        interval_s = self.interval_s or self._wanted_s
        if interval_s:
            # §7.4: within a session the roles stay; the first time the far end may choose.
            role = "" if not self.interval_s else ";refresher=uac" if self.refreshing else ";refresher=uas"
            found.append(("Session-Expires", f"{max(interval_s, self._min_se_s)}{role}"))
        if self._min_se_s > LEAST_MIN_SE_S:
            found.append(("Min-SE", str(self._min_se_s)))
        return tuple(found)

    def accepted(self, headers: HeaderList, now: float) -> None:
        """A 2xx to such a request: the session is fresh, on the terms that it names (§7.2)."""
        terms = _session_expires(headers)
        if terms is None:
            self._stop()  # the far end knows no session timers
        else:
            self._run(terms.interval_s, terms.refresher is not Refresher.UAS, now)

    def refused(self, status: int, headers: HeaderList, now: float) -> bool:
        """A failure of such a request; True when it should be sent again at once with the new `request_headers`.

        A refresh that failed otherwise is tried again after half of what is left; 408 and 481 end the session (§10).
        """
        if status == 422:
            wanted_s = _number(headers, "min-se")
            if self._min_se_s < wanted_s <= _LONGEST_S:
                self._min_se_s = wanted_s
                self._wanted_s = max(self._wanted_s, wanted_s)
                self.interval_s = max(self.interval_s, wanted_s) if self.interval_s else 0
                return True
        if self.deadline is not None:
            if status in (408, 481):
                self.deadline = self._bye_at = now
            elif self.refreshing:
                self.deadline = min(self._bye_at, now + max(1.0, (self._bye_at - now) / 2))
        return False

    # ---- requests of theirs

    def judge(self, headers: HeaderList) -> Judgement:
        """What an INVITE or UPDATE of the far end gets; keeps the terms for `answered` (§9)."""
        terms = _session_expires(headers)
        supported = _has_token(headers, "supported", "timer") or _has_token(headers, "require", "timer")
        self._pending = None
        if terms is not None and terms.interval_s < self._policy.min_se_s and supported:
            return Judgement(422, (("Min-SE", str(self._policy.min_se_s)),))
        least_s = max(_number(headers, "min-se"), LEAST_MIN_SE_S, self._policy.min_se_s)
        own_s = self.interval_s or self._policy.interval_s
        if terms is None:
            if not supported or not own_s:
                return Judgement(200, ())
            terms = SessionExpires(max(own_s, least_s))
        elif own_s and own_s < terms.interval_s:
            terms = SessionExpires(max(own_s, least_s), terms.refresher)  # §9: it may be lowered, not below Min-SE
        # Table 2 of §9: a far end without timers cannot refresh; else its wish counts, and a caller who did not say
        # refreshes itself unless we have been doing it all along.
        refresher = terms.refresher
        if not supported:
            refresher = Refresher.UAS
        elif refresher is None:
            refresher = Refresher.UAS if self.interval_s and self.refreshing else Refresher.UAC
        self._pending = SessionExpires(terms.interval_s, refresher)
        found = [("Session-Expires", f"{terms.interval_s};refresher={refresher.value}")]
        if supported:
            found.insert(0, ("Require", "timer"))
        return Judgement(200, tuple(found))

    def answered(self, now: float) -> None:
        """Our 2xx to the judged request went out."""
        pending, self._pending = self._pending, None
        if pending is None:
            self._stop()
        else:
            self._run(pending.interval_s, pending.refresher is Refresher.UAS, now)

    # ---- time

    def on_deadline(self, now: float) -> TimerAction | None:
        """What is due: REFRESH once at half time, BYE when nothing came of it; None before the deadline."""
        if self.deadline is None or now < self.deadline:
            return None
        if now >= self._bye_at:
            self._stop()
            return TimerAction.BYE
        self.deadline = self._bye_at
        return TimerAction.REFRESH

    def _run(self, interval_s: int, refreshing: bool, now: float) -> None:
        self.interval_s, self.refreshing = max(interval_s, _SHORTEST_S), refreshing
        interval_s = self.interval_s
        self._bye_at = now + interval_s - min(_BYE_MARGIN_S, interval_s / 3)
        self.deadline = now + interval_s / 2 if refreshing else self._bye_at

    def _stop(self) -> None:
        self.interval_s, self.refreshing, self.deadline = 0, False, None


def _value(headers: Iterable[tuple[str, str]], *names: str) -> str | None:
    return next((value for name, value in headers if name.lower() in names), None)


def _session_expires(headers: HeaderList) -> SessionExpires | None:
    value = _value(headers, "session-expires", "x")
    if value is None:
        return None
    try:
        terms = parse_session_expires(value)
    except ParseError:
        return None
    return terms if terms.interval_s > 0 else None


def _number(headers: HeaderList, name: str) -> int:
    """A header's number before its parameters, 0 when it is absent or malformed."""
    try:
        return header.parse_integer((_value(headers, name) or "").partition(";")[0])
    except ParseError:
        return 0


def _has_token(headers: HeaderList, name: str, token: str) -> bool:
    names = (name, "k") if name == "supported" else (name,)
    return any(
        part.strip().lower() == token for key, value in headers if key.lower() in names for part in value.split(",")
    )
