"""The life of a call, as far as both directions share it: admitted, offered to a worker, connected, ended.

Everything else in this folder reacts to one kind of event and moves calls by these steps.
"""

import asyncio
import fnmatch
import itertools
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from sipagent.calls.call import Call, CallInput, CallRegistry, CallState, Ending, Placement
from sipagent.calls.capture import Captures
from sipagent.calls.negotiation import MediaSession
from sipagent.calls.pacing import PacingGate
from sipagent.calls.recording import Recordings
from sipagent.calls.row_state import RowState
from sipagent.calls.rows import Row, RowPool
from sipagent.calls.trail import Trail
from sipagent.errors import ParseError, RemoteError
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.service.config.tree import Config, Route, Trunk
from sipagent.service.media_planes import MediaPlane
from sipagent.service.recordings import RecordingPaths
from sipagent.service.workers import Worker, WorkerPool
from sipagent.sip import engine as sip
from sipagent.sip import ladder
from sipagent.sip.outcome import Outcome

log = structlog.get_logger(__name__)

OFFER_S: Final = 10.0  # a worker that is still loading its models answers within this
MEDIA_WAIT_S: Final = 0.2  # after the ACK: the greeting starts with the first RTP packet, or then
FINISH_S: Final = 3.0  # for the last words of media plane and worker about an ended call
HANGUP_S: Final = 34.0  # 64 × T1 and a little: the far end never answered our BYE


class Live:
    """What call control holds of a call only while it lasts."""

    def __init__(self, row: Row, session: MediaSession, body: bytes) -> None:
        self.row: Row | None = row
        self.told = RowState()
        self.session = session
        self.body = body  # our description for the first exchange
        self.heard = False
        self.released = False
        self.finishing = False
        self.finished = False
        self.early_media = (
            False  # inbound: 183 was sent; outbound: the brain wants to hear what comes before the answer
        )
        self.apologising = False  # the caller hears that we lost the thread
        self.connect_after_prompt = False
        self.hang_up_after_prompt = False
        self.left = False  # the agent has left: the far end talks with somebody else
        self.silent_ms = self.silent_told_ms = 0  # without RTP, as last reported and as last told
        self.hold_wanted = False  # by us
        self.resumed_at = 0.0  # loop time at which the far end last put us on hold or took us back
        self.when_rung: Callable[[], None] = _nothing
        self.when_answered: Callable[[], None] = _nothing
        self.when_over: Callable[[], None] = _nothing
        self.when_orphaned: Callable[[], bool] = _no  # true: nobody is to take over from the worker that died
        self.when_digit: Callable[[media.Digit], bool] = _no  # true: the conversation is not to hear of it
        self.trail: Trail | None = None  # of a call that a 3xx has sent elsewhere
        self.timers: dict[str, asyncio.TimerHandle] = {}

    def forget_colleague(self) -> None:
        """Nobody else is on the line any more."""
        self.when_orphaned = self.when_digit = _no


class Records(Protocol):
    """Where calls are written down; see `sipagent.records.store`."""

    failures: int  # writes that did not succeed
    dropped_notes: int  # events that the disk was too slow for

    def begin(self, summary: Mapping[str, Any]) -> None:
        """A call has begun."""

    def note(self, call_id: str, event: Mapping[str, Any]) -> None:
        """Something happened in it."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """It is over."""


class Lifecycle:
    """All calls of the service and the steps of their lives."""

    def __init__(
        self,
        config: Config,
        engine: sip.SipEngine,
        planes: list[MediaPlane],
        workers: WorkerPool,
        paths: RecordingPaths,
        records: Records,
    ) -> None:
        self.config = config
        self.engine = engine
        self.planes = planes
        self.workers = workers
        self.paths = paths
        self.calls = CallRegistry()
        self.captures = Captures(engine, planes, self.calls, lambda: self.paths)
        self.recordings = Recordings(self.tell_row, lambda: self.paths)
        self.live: dict[str, Live] = {}
        self.rows = RowPool()
        self.pacing = PacingGate(planes)
        self.draining = False
        self.refused: dict[str, int] = {}
        self.outcomes: dict[str, int] = {}
        self.redirected: dict[str, int] = {}  # addresses of 3xx responses: followed, refused, loop
        self.orphans: dict[str, int] = {}  # what the sweep has found, by kind
        self.idle = asyncio.Event()  # set while there is no call at all
        self.idle.set()
        self.loop = asyncio.get_running_loop()
        self.records = records
        self._generations = itertools.count(1)

    def count(self) -> int:
        """Calls that are not ending yet; those that we placed to transfer others are not counted twice."""
        return len(self.calls.active(lambda call: call.alive and not call.companion_of))

    def full(self) -> bool:
        """True when `max_calls` is reached."""
        return self.count() >= self.config.limits.max_calls

    def take_row(self) -> Row | None:
        """A row for a new call, in a media plane that keeps time; None when there is none."""
        return self.rows.take(self.loop.time(), avoid=self.pacing.late(self.config.limits.max_pacing_ms))

    def lateness(self) -> str:
        """Why media is too late for a new call, "" when it is not."""
        return self.pacing.objection(self.config.limits.max_pacing_ms)

    def quality(self, call: Call) -> dict[str, float]:
        """The media plane's figures of a call: live, or its last ones."""
        if call.media.gauges or call.place is None or call.id not in self.live:
            return call.media.gauges
        return self.planes[call.place.plane].gauges(call.place.row)

    def route_for(self, number: str, trunk: str) -> Route | None:
        """The first route whose patterns match."""
        for route in self.config.route:
            if fnmatch.fnmatchcase(number, route.to) and fnmatch.fnmatchcase(trunk, route.trunk):
                return route
        return None

    def hang_up(self, call: Call, reason: str, outcome: Outcome | None = None, headers: sip.HeaderList = ()) -> None:
        """End a call now, whatever its state."""
        if not call.alive:
            return
        if call.ending is None and (outcome is not None or call.answered):
            call.ending = Ending(outcome or Outcome.ANSWERED, "local", 0, reason)
        call.move(CallInput.HANG_UP)
        self._release_media(call)
        if call.handle:
            self.timer(call, "finish", HANGUP_S, lambda: self.conclude(call))
            self.engine.hangup(call.handle, headers)  # may say Ended at once, and the call may be over with that
        else:
            call.ending = call.ending or Ending(Outcome.CANCELLED, "local", 0, reason)
            self.finish(call)

    def admit(self, call: Call, row: Row, session: MediaSession | None = None, body: bytes = b"") -> None:
        """Take a call in: row opened, record begun, brain asked, if it is to have one."""
        call.place = Placement(row.plane, row.number, next(self._generations) & 0xFFFFFFFF)
        session = session or self.session(call.trunk, row, "")
        self.live[call.id] = Live(row, session, body or session.offer())
        self.calls.add(call)
        self.idle.clear()
        log.info("call", call_id=call.id, direction=call.party.direction, from_number=call.party.from_number,
                 to_number=call.party.to_number, trunk=call.party.trunk, brain=call.route.brain)  # fmt: skip
        self.records.begin(call.summary())
        call.on_event = lambda event: self.records.note(call.id, event)
        self.tell_row(
            call,
            lambda number, generation: media.OpenRow(
                number,
                generation,
                rate_hz=session.row_rate_hz,
                reflex=call.route.reflex,
                listened=call.route.pipeline != messages.ECHO,
            ),
        )
        if call.route.capture:
            self.captures.start(call, session.address)
        if not call.companion_of:
            self.timer(call, "offer", OFFER_S, lambda: self._offer_late(call))
            self.offer(call, avoid=-1, resumed=False)

    def offer(self, call: Call, avoid: int, resumed: bool) -> None:
        """Ask a worker; without one, whoever comes up next is asked."""
        assert call.place is not None
        worker = self.workers.pick(avoid)
        if worker is None:
            call.place.worker = -1  # whoever comes up next takes it
            return
        call.place.worker = worker.index
        worker.calls.add(call.id)
        if not resumed:
            index = worker.index
            self.tell_row(call, lambda row, generation: media.AssignWorker(row, generation, index))
        route = call.route
        talk = messages.Talk(route.brain, route.brain_options, route.pipeline, route.options)
        worker.send(
            messages.Offer(
                call.id,
                call.place.plane,
                call.place.row,
                call.place.generation,
                call.party,
                talk,
                call.variables,
                resumed,
                tuple(call.lines[-200:]),
            )
        )

    def _offer_late(self, call: Call) -> None:
        """The worker is busy or gone: try another one once, then give up."""
        assert call.place is not None
        late = call.place.worker
        self.leave_worker(call)
        self.timer(call, "offer", OFFER_S, lambda: self.nobody(call))
        self.offer(call, avoid=late, resumed=False)

    def nobody(self, call: Call) -> None:
        """No worker took the call before it was answered."""
        self.refuse(call, 503, "No Worker", (("Retry-After", "5"),), Outcome.CONGESTED)

    def refuse(
        self,
        call: Call,
        status: int,
        reason: str,
        headers: sip.HeaderList = (),
        outcome: Outcome = Outcome.REJECTED,
    ) -> None:
        """End a call that is not answered yet; one that is not dialled yet has nobody to be told."""
        call.ending = Ending(outcome, "local", status, reason)
        if call.handle:
            self.engine.reject(call.handle, status, reason, headers)
        self.finish(call)

    def await_media(self, call: Call) -> None:
        """Connect with the first packet of the far end, or a moment after the ACK; the same before the answer."""
        if self.live[call.id].heard:
            self.connect(call)
        else:
            self.timer(call, "media", MEDIA_WAIT_S, lambda: self.connect(call))

    def connect(self, call: Call) -> None:
        """Both sides can talk: the conversation begins."""
        self.cancel_timer(call, "media")
        if call.state is CallState.EARLY:
            self.converse_early(call)
        if call.state is not CallState.ANSWERED:
            return
        call.move(CallInput.CONNECT)
        limit = self.config.limits.max_call_seconds
        self.timer(call, "length", limit, lambda: self.hang_up(call, "the longest call allowed"))
        self.recordings.start_by_route(call)
        if call.place is not None and call.place.worker >= 0:
            self.tell_worker(call, messages.Connected(call.id, self.live[call.id].session.row_rate_hz))

    def converse_early(self, call: Call) -> None:
        """Both sides can be heard before the answer: the recording begins, and the conversation if it wants to."""
        self.recordings.start_by_route(call)
        if self.live[call.id].early_media:
            rate_hz = self.live[call.id].session.row_rate_hz
            self.tell_worker(call, messages.Connected(call.id, rate_hz, answered=False))

    def accept_answer(self, call: Call, body: bytes) -> bool:
        """Settle our offer by its answer; False when the answer is of no use and the call was ended."""
        try:
            self.live[call.id].session.accept(body)
        except (ParseError, RemoteError) as problem:
            log.warning("unusable answer", call_id=call.id, problem=str(problem))
            self.hang_up(call, f"unusable answer: {problem}", outcome=Outcome.FAILED)
            return False
        self.apply(call)
        return True

    def apply(self, call: Call) -> None:
        """Tell the media plane what was negotiated, and the worker when we were put on hold or taken back."""
        session = self.live[call.id].session
        self.tell_row(call, session.stream)
        if session.held != call.held:
            call.held = session.held
            self.live[call.id].resumed_at = self.loop.time()
            call.note("hold", held=call.held)
            self.tell_worker(call, messages.HoldChanged(call.id, call.held))

    def _release_media(self, call: Call) -> None:
        live = self.live[call.id]
        if not live.released:
            live.released = True
            self.tell_row(call, media.CloseRow)

    def finish(self, call: Call) -> None:
        """The dialog is over: let media plane and worker say their last words, then conclude."""
        live = self.live.get(call.id)
        if live is None or live.finishing:
            return
        live.finishing = True
        for name in list(live.timers):
            self.cancel_timer(call, name)
        if call.alive:
            call.move(CallInput.HANG_UP)
        self._release_media(call)
        self.captures.stop(call)
        if call.place is not None and call.place.worker >= 0:
            self.tell_worker(call, messages.Ended(call.id, call.ending.reason if call.ending else ""))
        else:
            live.finished = True
        self.timer(call, "finish", FINISH_S, lambda: self.conclude(call))
        live.when_over()
        self.maybe_conclude(call)

    def leave(self, call: Call, reason: str) -> None:
        """The agent leaves a call that goes on without it: the conversation says its last words."""
        self.live[call.id].left = True
        self.tell_row(call, lambda row, generation: media.AssignWorker(row, generation, -1))
        self.tell_worker(call, messages.Ended(call.id, reason))

    def rejoin(self, call: Call) -> None:
        """The agent had left, and is wanted again: a worker takes the call over with its history."""
        live = self.live[call.id]
        live.left = live.finished = False
        self.timer(call, "offer", OFFER_S, lambda: self.hang_up(call, "no worker could take the call"))
        self.offer(call, avoid=-1, resumed=True)

    def maybe_conclude(self, call: Call) -> None:
        """Conclude when media plane and worker have said their last words."""
        live = self.live.get(call.id)
        if live is None or not live.finishing or not live.finished or live.row is not None:
            return
        if not self.recordings.is_open(call) and not self.captures.is_open(call):
            self.conclude(call)

    def conclude(self, call: Call) -> None:
        """The end: the record is complete, everything is given back."""
        live = self.live.pop(call.id, None)
        if live is None:
            return
        for timer in live.timers.values():
            timer.cancel()
        if live.row is not None:
            self.rows.give_back(live.row, self.loop.time())
        self.leave_worker(call)
        self.captures.stop(call)
        self.captures.forget(call)
        self.recordings.forget(call)
        call.ending = call.ending or Ending(Outcome.FAILED, "timeout", 0, "the far end did not answer our BYE")
        call.move(CallInput.END)
        call.ladder = ladder.pack(self.engine.ladder(call.handle))
        self.calls.retire(call)
        name = call.ending.outcome.value
        self.outcomes[name] = self.outcomes.get(name, 0) + 1
        log.info("call ended", call_id=call.id, outcome=name, by=call.ending.by, status=call.ending.status,
                 reason=call.ending.reason)  # fmt: skip
        self.records.finish(call.summary())
        if not self.live:
            self.idle.set()

    def session(self, trunk: Trunk | None, row: Row, handle: str) -> MediaSession:
        """The offer/answer state of a new call, with the address that the far end is told."""
        address = self.config.sip.public_address or self.config.media.address
        if address in ("0.0.0.0", "::") or address.startswith("stun:"):
            address = self.engine.local_address(handle, trunk.name if trunk else "")
        return MediaSession(trunk, address, row.port)

    def _worker_of(self, call: Call) -> Worker | None:
        if call.place is None or call.place.worker < 0:
            return None
        return self.workers.workers[call.place.worker]

    def leave_worker(self, call: Call) -> None:
        """The worker has nothing to do with this call any more."""
        for worker in self.workers.workers:
            worker.calls.discard(call.id)

    def tell_worker(self, call: Call, message: messages.ToWorker) -> None:
        """Send to the worker that talks this call, if there is one."""
        if worker := self._worker_of(call):
            worker.send(message)

    def tell_row(self, call: Call, make: Callable[[int, int], media.Command]) -> None:
        """Send a command for the row of this call, as long as it has one."""
        live = self.live.get(call.id)
        if call.place is not None and live is not None and live.row is not None:
            command = make(call.place.row, call.place.generation)
            live.told.note(command)
            self.planes[call.place.plane].send(command)

    def timer(self, call: Call, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` after `seconds`, in place of the timer of that name."""
        self.cancel_timer(call, name)
        self.live[call.id].timers[name] = self.loop.call_later(seconds, action)

    def cancel_timer(self, call: Call, name: str) -> None:
        """Forget a timer."""
        live = self.live.get(call.id)
        if live is not None and (timer := live.timers.pop(name, None)):
            timer.cancel()

    def find(self, handle: str) -> tuple[Call, Live] | None:
        """The call of a SIP handle with what is held of it, unless it is over."""
        call = self.calls.by_handle(handle)
        return (call, self.live[call.id]) if call is not None and call.id in self.live else None


def _nothing() -> None:
    pass


def _no(*arguments: object) -> bool:
    return False


def new_call_id() -> str:
    """A call id that nobody can guess."""
    return uuid.uuid4().hex[:16]
