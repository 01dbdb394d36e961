"""A call as the signalling plane knows it: its states, its events, its end."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from msgspec.structs import asdict

from sipagent.errors import LocalError
from sipagent.service.config.tree import Route, Trunk
from sipagent.service.messages import Party
from sipagent.sip.outcome import Outcome

MAX_EVENTS: Final = 5000  # per call; the oldest go first
EVENT_BYTES: Final = 500  # about what Python takes for one
HEADER_BYTES: Final = 200  # the same, beside its text
KEPT_BYTES: Final = 16 * 1024 * 1024  # of calls that are over: events, headers, ladders; the oldest go first


class CallState(Enum):
    """Where a call stands."""

    OFFERED = "offered"  # inbound: the brain is being asked; outbound: the brain is being readied
    DIALLING = "dialling"  # outbound: INVITE sent
    RINGING = "ringing"
    EARLY = "early"  # audio flows before the answer
    ANSWERED = "answered"  # 200 exchanged, media is being awaited
    CONNECTED = "connected"  # both sides can talk
    ENDING = "ending"
    ENDED = "ended"


class CallInput(Enum):
    """What moves a call."""

    DIAL = "dial"
    RING = "ring"
    HEAR = "hear"
    ANSWER = "answer"
    CONNECT = "connect"
    HANG_UP = "hang up"
    END = "end"


_ALIVE = (
    CallState.OFFERED,
    CallState.DIALLING,
    CallState.RINGING,
    CallState.EARLY,
    CallState.ANSWERED,
    CallState.CONNECTED,
)

TRANSITIONS: Final[dict[tuple[CallState, CallInput], CallState]] = {
    (CallState.OFFERED, CallInput.DIAL): CallState.DIALLING,
    (CallState.OFFERED, CallInput.RING): CallState.RINGING,
    (CallState.DIALLING, CallInput.RING): CallState.RINGING,
    (CallState.RINGING, CallInput.RING): CallState.RINGING,
    (CallState.RINGING, CallInput.HEAR): CallState.EARLY,
    (CallState.EARLY, CallInput.RING): CallState.EARLY,
    (CallState.EARLY, CallInput.HEAR): CallState.EARLY,
    (CallState.OFFERED, CallInput.ANSWER): CallState.ANSWERED,
    (CallState.DIALLING, CallInput.ANSWER): CallState.ANSWERED,
    (CallState.RINGING, CallInput.ANSWER): CallState.ANSWERED,
    (CallState.EARLY, CallInput.ANSWER): CallState.ANSWERED,
    (CallState.ANSWERED, CallInput.CONNECT): CallState.CONNECTED,
    **{(state, CallInput.HANG_UP): CallState.ENDING for state in _ALIVE},
    **{(state, CallInput.END): CallState.ENDED for state in (*_ALIVE, CallState.ENDING)},
}


@dataclass(slots=True)
class Placement:
    """Where a call lives: its row in a media plane and the worker that talks."""

    plane: int
    row: int
    generation: int
    worker: int = -1


@dataclass(slots=True)
class Ending:
    """Why and how a call ended; the raw values stand beside the named outcome."""

    outcome: Outcome = Outcome.FAILED
    by: str = ""
    status: int = 0
    reason: str = ""
    q850: int = 0


@dataclass(slots=True)
class Conversed:
    """What the conversation left behind."""

    transcript: tuple[dict[str, Any], ...] = ()
    collected_vars: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    disposition: str = ""


@dataclass(slots=True)
class MediaReport:
    """What the media plane left behind."""

    counters: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    recording: str = ""
    recording_problem: str = ""
    capture: str = ""  # path of the last one
    capture_problem: str = ""


class Call:
    """One call. Only `move` changes the state; every change and every event is kept for those who watch."""

    def __init__(
        self,
        call_id: str,
        party: Party,
        trunk: Trunk | None,
        route: Route,
        variables: dict[str, Any],
        companion_of: str = "",
    ) -> None:
        self.id = call_id
        self.party = party
        self.trunk = trunk
        self.route = route
        self.variables = variables
        self.companion_of = companion_of  # id of the call for whose far end this one was placed; it has no brain
        self.handle = ""  # the SIP engine's name of it; "" before an outbound call is dialled
        self.state = CallState.OFFERED
        self.place: Placement | None = None
        self.ending: Ending | None = None
        self.conversed = Conversed()
        self.media = MediaReport()
        self.started_at = time.time()
        self._began = time.monotonic()
        self.state_times: dict[str, float] = {CallState.OFFERED.value: self.started_at}
        self.lines: list[dict[str, Any]] = []  # transcript so far, for a worker that takes over
        self.takeovers = 0
        self.redirects: list[dict[str, Any]] = []  # addresses that 3xx responses have named, with what became of them
        self.held = False
        self.ladder = b""  # the SIP messages of a call that is over, packed
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None
        self._events: list[dict[str, Any]] = []
        self._dropped_events = 0
        self._more = asyncio.Event()

    @property
    def size_bytes(self) -> int:
        """About what it takes to remember it."""
        headers = sum(HEADER_BYTES + len(value) for _, value in self.party.headers)
        return len(self.ladder) + headers + EVENT_BYTES * (len(self._events) + len(self.lines))

    def move(self, by: CallInput) -> bool:
        """Change the state by TRANSITIONS; False when the call is ending or over, LocalError when it makes no sense."""
        target = TRANSITIONS.get((self.state, by))
        if target is None:
            if self.state in (CallState.ENDING, CallState.ENDED):
                return False
            raise LocalError(f"call {self.id} is {self.state.value}: cannot {by.value}")
        if target is not self.state:
            self.state = target
            self.state_times.setdefault(target.value, self._now())
            self.note("state", state=target.value, **self._outcome())
        return True

    def _now(self) -> float:
        """Unix seconds, by the clock as it stood when the call began: when it is set, no call lasts an hour less."""
        return self.started_at + time.monotonic() - self._began

    def _outcome(self) -> dict[str, Any]:
        if self.state is not CallState.ENDED or self.ending is None:
            return {}
        return {"outcome": self.ending.outcome.value, "status": self.ending.status, "reason": self.ending.reason}

    @property
    def alive(self) -> bool:
        """True until the call is ending."""
        return self.state in _ALIVE

    @property
    def answered(self) -> bool:
        """True once the far end and we have agreed to talk, whatever came after."""
        return CallState.ANSWERED.value in self.state_times

    def note(self, kind: str, **data: Any) -> None:
        """Keep an event and wake those who watch."""
        number = self._dropped_events + len(self._events) + 1
        event = {"id": number, "type": kind, "at": self._now(), **data}
        self._events.append(event)
        self.on_event(event)
        if len(self._events) > MAX_EVENTS:
            del self._events[: MAX_EVENTS // 10]
            self._dropped_events += MAX_EVENTS // 10
        self._more.set()
        self._more = asyncio.Event()

    def finish_watching(self) -> None:
        """Let those who watch an ended call go."""
        self._more.set()

    async def watch(self, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        """Events with an id above `after`: those kept, then live ones until the call has ended."""
        while True:
            more = self._more
            for event in self._events[max(0, after - self._dropped_events) :]:
                after = event["id"]
                yield event
            if self.state is CallState.ENDED and after >= self._dropped_events + len(self._events):
                return
            if more is self._more:
                await more.wait()

    def summary(self) -> dict[str, Any]:
        """What HTTP shows and the record keeps."""
        seconds = 0.0
        if connected := self.state_times.get(CallState.ANSWERED.value):
            seconds = self.state_times.get(CallState.ENDED.value, self._now()) - connected
        ending = self.ending
        return {
            "id": self.id,
            "state": self.state.value,
            "direction": self.party.direction,
            "from": self.party.from_number,
            "from_name": self.party.from_name,
            "to": self.party.to_number,
            "trunk": self.party.trunk,
            "stir": asdict(self.party.stir),
            "brain": self.route.brain,
            "started_at": self.started_at,
            "times": dict(self.state_times),
            "duration_seconds": round(seconds, 3),
            "held": self.held,
            "takeovers": self.takeovers,
            "redirects": self.redirects,
            "companion_of": self.companion_of,
            "outcome": ending.outcome.value if ending else None,
            "ended_by": ending.by if ending else "",
            "status": ending.status if ending else 0,
            "reason": ending.reason if ending else "",
            "q850": ending.q850 if ending else 0,
            "disposition": self.conversed.disposition,
            "collected_vars": self.conversed.collected_vars,
            "usage": self.conversed.usage,
            "transcript": list(self.conversed.transcript or self.lines),
            "recording": self.media.recording,
            "recording_problem": self.media.recording_problem,
            "capture": self.media.capture,
            "capture_problem": self.media.capture_problem,
            "counters": self.media.counters,
            "gauges": self.media.gauges,
        }


class CallRegistry:
    """Every call that is not forgotten yet, by id, by SIP handle and by row."""

    def __init__(self, keep_ended: int = 1000) -> None:
        self._calls: dict[str, Call] = {}
        self._by_handle: dict[str, Call] = {}
        self._by_generation: dict[int, Call] = {}
        self._ended: deque[tuple[str, int]] = deque()  # id and bytes, the oldest first
        self._ended_bytes = 0
        self._keep_ended = keep_ended

    def add(self, call: Call) -> None:
        """Take a new call in."""
        self._calls[call.id] = call
        self.bind(call)

    def bind(self, call: Call) -> None:
        """Index the call again after it got a handle or a row."""
        if call.handle:
            self._by_handle[call.handle] = call
        if call.place is not None:
            self._by_generation[call.place.generation] = call

    def rebind(self, call: Call, handle: str) -> None:
        """The call goes on in another dialog; events of the old one are nobody's."""
        self._by_handle.pop(call.handle, None)
        call.handle = handle
        self.bind(call)

    def retire(self, call: Call) -> None:
        """Forget handle and row of an ended call; its summary is kept for a while."""
        self._by_handle.pop(call.handle, None)
        if call.place is not None:
            self._by_generation.pop(call.place.generation, None)
        self._ended.append((call.id, call.size_bytes))
        self._ended_bytes += call.size_bytes
        while len(self._ended) > self._keep_ended or (self._ended_bytes > KEPT_BYTES and len(self._ended) > 1):
            oldest, size_bytes = self._ended.popleft()
            self._ended_bytes -= size_bytes
            self._calls.pop(oldest, None)

    def get(self, call_id: str) -> Call | None:
        """By id."""
        return self._calls.get(call_id)

    def by_handle(self, handle: str) -> Call | None:
        """By the SIP engine's handle."""
        return self._by_handle.get(handle)

    def by_generation(self, generation: int) -> Call | None:
        """By the generation of its row."""
        return self._by_generation.get(generation)

    def all(self) -> list[Call]:
        """Every call that is remembered, oldest first."""
        return list(self._calls.values())

    def active(self, where: Callable[[Call], bool] = lambda call: True) -> list[Call]:
        """Calls that hold resources: not ended yet."""
        return [call for call in self._by_generation.values() if call.state is not CallState.ENDED and where(call)]
