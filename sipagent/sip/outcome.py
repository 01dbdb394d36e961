"""What became of a call, in one small word: from its final status, Reason headers (RFC 3326) and Q.850 causes."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sipagent.errors import ParseError
from sipagent.sip import header


class Outcome(Enum):
    """How a call ended or why it did not come about."""

    ANSWERED = "answered"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"  # by the person called
    INVALID_NUMBER = "invalid_number"
    CONGESTED = "congested"  # try again later
    BLOCKED = "blocked"  # by a rule on the way: permission, screening, unwanted caller
    NOT_REACHABLE = "not_reachable"
    CANCELLED = "cancelled"
    FAILED = "failed"  # everything technical


@dataclass(frozen=True, slots=True)
class Reason:
    """One Reason value: `cause` is a SIP status or a Q.850 cause by `protocol` ("SIP", "Q.850"), 0 = not given."""

    protocol: str
    cause: int = 0
    text: str = ""


_O = Outcome
_BY_STATUS: Final = {
    402: _O.BLOCKED,
    403: _O.BLOCKED,
    404: _O.INVALID_NUMBER,
    408: _O.NO_ANSWER,
    410: _O.INVALID_NUMBER,
    414: _O.INVALID_NUMBER,
    416: _O.INVALID_NUMBER,
    428: _O.BLOCKED,  # RFC 8224: an Identity is wanted …
    430: _O.NOT_REACHABLE,  # RFC 5626: flow failed
    433: _O.BLOCKED,  # anonymity disallowed
    436: _O.BLOCKED,  # … or is not believed
    437: _O.BLOCKED,
    438: _O.BLOCKED,
    470: _O.BLOCKED,  # RFC 5360: consent needed
    480: _O.NO_ANSWER,
    484: _O.INVALID_NUMBER,
    485: _O.INVALID_NUMBER,
    486: _O.BUSY,
    487: _O.CANCELLED,
    502: _O.NOT_REACHABLE,
    503: _O.CONGESTED,
    504: _O.NOT_REACHABLE,
    600: _O.BUSY,
    603: _O.REJECTED,
    604: _O.INVALID_NUMBER,
    606: _O.FAILED,
    607: _O.BLOCKED,  # RFC 8197: unwanted
    608: _O.BLOCKED,  # RFC 8688: rejected by an analytics engine
}
_BY_CLASS: Final = {2: _O.ANSWERED, 3: _O.NOT_REACHABLE, 6: _O.REJECTED}

# ITU-T Q.850 table 1. Causes that say nothing (16 normal clearing, 31 unspecified, 127 interworking) leave it to SIP.
_BY_Q850: Final = {
    1: _O.INVALID_NUMBER,  # unallocated
    2: _O.NOT_REACHABLE,  # no route to the transit network
    3: _O.NOT_REACHABLE,  # no route to the destination
    5: _O.INVALID_NUMBER,  # misdialled trunk prefix
    17: _O.BUSY,
    18: _O.NO_ANSWER,  # no user responding
    19: _O.NO_ANSWER,  # alerted, no answer
    20: _O.NOT_REACHABLE,  # subscriber absent
    21: _O.REJECTED,
    22: _O.INVALID_NUMBER,  # number changed
    27: _O.NOT_REACHABLE,  # destination out of order
    28: _O.INVALID_NUMBER,  # invalid format
    34: _O.CONGESTED,  # no circuit
    38: _O.CONGESTED,  # network out of order
    41: _O.CONGESTED,  # temporary failure
    42: _O.CONGESTED,  # switching equipment congestion
    44: _O.CONGESTED,  # requested circuit not available
    47: _O.CONGESTED,  # resource unavailable
    52: _O.BLOCKED,  # outgoing calls barred
    53: _O.BLOCKED,
    54: _O.BLOCKED,  # incoming calls barred
    55: _O.BLOCKED,
    57: _O.BLOCKED,  # bearer capability not authorized
    58: _O.CONGESTED,
    65: _O.FAILED,
    79: _O.FAILED,
    87: _O.BLOCKED,  # not a member of the closed user group
    88: _O.FAILED,  # incompatible destination
    102: _O.NOT_REACHABLE,  # recovery on timer expiry
    111: _O.FAILED,
}


def reasons(headers: Iterable[tuple[str, str]]) -> tuple[Reason, ...]:
    """The Reason values of a message; malformed ones are passed over."""
    return tuple(_reasons(headers))


def _reasons(headers: Iterable[tuple[str, str]]) -> Iterator[Reason]:
    for name, value in headers:
        if name.lower() != "reason":
            continue
        for text in header.split_list(value):
            protocol, _, rest = text.partition(";")
            try:
                parameters = header.parse_parameters(";" + rest if rest else "")
            except ParseError:
                continue
            cause = parameters.get("cause", "")
            if protocol.strip():
                number = int(cause) if re.fullmatch(r"[0-9]{1,3}", cause) else 0
                yield Reason(protocol.strip().upper(), number, parameters.get("text", ""))


def outcome_of(status: int, headers: Iterable[tuple[str, str]] = (), *, rang: bool | None = None) -> Outcome:
    """The word for a final `status` (200–699) with the headers of its message; 0 stands for no status at all.

    A Q.850 cause that says something wins over the status, since gateways press many causes into few statuses; 2xx and
    487 mean what they say. A 408 for a call that is known not to have rung (`rang` False) is a far end out of reach.
    """
    if 200 <= status < 300 or status == 487:
        return _BY_STATUS.get(status, Outcome.ANSWERED)
    given = reasons(headers)
    for reason in given:
        if reason.protocol == "Q.850" and reason.cause in _BY_Q850:
            return _BY_Q850[reason.cause]
    if status == 0:
        status = next((reason.cause for reason in given if reason.protocol == "SIP"), 0)
    if status == 408 and rang is False:
        return Outcome.NOT_REACHABLE
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, Outcome.FAILED)


def reason_header(protocol: str, cause: int, text: str = "") -> tuple[str, str]:
    """A Reason header for our own BYE or CANCEL."""
    return "Reason", f"{protocol};cause={cause}" + (f";text={header.quote(text)}" if text else "")
