"""What the engine and the process that runs PJSIP say to each other."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sipagent.sip import engine
from sipagent.sip.engine import EngineEvent, HeaderList, PlaceCall, TrunkAccount
from sipagent.sip.readable import readable


class Do(msgspec.Struct, frozen=True, tag=True):
    """Base of the commands for one call."""

    handle: str


class Ring(Do, frozen=True, tag=True):
    """180."""

    headers: HeaderList = ()


class SendProgress(Do, frozen=True, tag=True):
    """183 with a session description."""

    body: bytes
    headers: HeaderList = ()


class Answer(Do, frozen=True, tag=True):
    """200."""

    body: bytes
    headers: HeaderList = ()


class Reject(Do, frozen=True, tag=True):
    """A final refusal."""

    status: int
    reason: str
    headers: HeaderList = ()


class Place(Do, frozen=True, tag=True):
    """INVITE, for a handle that the engine has made up."""

    call: PlaceCall


class Hangup(Do, frozen=True, tag=True):
    """BYE, CANCEL or 487."""

    headers: HeaderList = ()


class SendReoffer(Do, frozen=True, tag=True):
    """re-INVITE."""

    body: bytes


class AcceptReoffer(Do, frozen=True, tag=True):
    """200 to their re-INVITE or UPDATE."""

    body: bytes


class RejectReoffer(Do, frozen=True, tag=True):
    """Refusal of their re-INVITE or UPDATE."""

    status: int
    reason: str


class SendInDialog(Do, frozen=True, tag=True):
    """INFO or MESSAGE."""

    method: str
    content_type: str
    body: bytes


class Refer(Do, frozen=True, tag=True):
    """Our REFER."""

    refer_to: str
    replaces: str = ""


class AnswerRefer(Do, frozen=True, tag=True):
    """Our response to their REFER."""

    status: int


class NotifyRefer(Do, frozen=True, tag=True):
    """NOTIFY of how their transfer goes."""

    status: int
    reason: str
    done: bool


class UpdateTrunks(msgspec.Struct, frozen=True, tag=True):
    """The trunks as they are now, with the addresses of their servers."""

    trunks: tuple[TrunkAccount, ...]
    addresses: dict[str, tuple[str, ...]]


class Unregister(msgspec.Struct, frozen=True, tag=True):
    """Give up the registrations."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End everything, then the process."""


Command = (
    Ring
    | SendProgress
    | Answer
    | Reject
    | Place
    | Hangup
    | SendReoffer
    | AcceptReoffer
    | RejectReoffer
    | SendInDialog
    | Refer
    | AnswerRefer
    | NotifyRefer
    | UpdateTrunks
    | Unregister
    | Stop
)


class Ready(msgspec.Struct, frozen=True, tag=True):
    """PJSIP runs: its version, how many calls this build can hold, and the bound addresses."""

    version: str
    max_calls: int
    listening: tuple[str, ...]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """PJSIP could not be started; the process ends."""

    problem: str


class Alive(msgspec.Struct, frozen=True, tag=True):
    """Once a second: the loop turns; all counters."""

    counters: dict[str, int]


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A SIP message of a call, for its ladder."""

    call_id: str
    at: float
    direction: str
    text: bytes
    protocol: str = "UDP"
    peer: tuple[str, int] = ("", 0)


class Began(msgspec.Struct, frozen=True, tag=True):
    """A call has got its Call-ID."""

    handle: str
    call_id: str


class Complaint(msgspec.Struct, frozen=True, tag=True):
    """What PJSIP, or our code around it, could not do."""

    problem: str


class Reported(msgspec.Struct, frozen=True, tag=True):
    """An event of the engine; `kind` is the name of its class."""

    kind: str
    event: msgspec.Raw


Report = Ready | Failed | Alive | Logged | Began | Complaint | Reported

_KINDS: Final[Mapping[str, Any]] = {kind.__name__: kind for kind in engine.EngineEvent.__args__}


def reported(event: EngineEvent) -> Reported:
    """An event on its way to the engine."""
    return Reported(type(event).__name__, msgspec.Raw(msgspec.msgpack.encode(readable(event))))


def event_of(report: Reported) -> EngineEvent:
    """The event that was reported; msgspec.ValidationError when it is none."""
    event: EngineEvent = msgspec.msgpack.decode(report.event, type=_KINDS[report.kind])
    return event
