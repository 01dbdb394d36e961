"""Call control as the HTTP endpoint sees it: views instead of calls, refusals instead of None."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import asdict
from prometheus_client import Metric

from sipagent.calls.call import Call, CallState
from sipagent.calls.control import CallControl
from sipagent.http.control import CallEvent, CallRequest, CallView, Refusal, Refused, TransferWish
from sipagent.service import messages
from sipagent.service.config.tree import Route, Trunk
from sipagent.service.metrics import families, identity
from sipagent.sip import ladder, ladder_svg
from sipagent.sip.engine import RegistrationChanged, RegistrationState
from sipagent.sip.ladder import Message


def _distance(registration: RegistrationChanged | None) -> int:
    """How far a trunk is from taking a call: 0 = registered, or it need not be; 1 = about to; 2 = neither."""
    if registration is None or registration.state in (RegistrationState.REGISTERED, RegistrationState.DISABLED):
        return 0
    if registration.expires_s > 0:
        return 0  # its refresh failed, the binding still holds
    return 1 if registration.state is RegistrationState.REGISTERING else 2


class HttpControl:
    """Implements `sipagent.http.control.CallControl` over the real thing."""

    def __init__(self, control: CallControl, more_metrics: Callable[[], Iterable[Metric]] = tuple) -> None:
        self._control = control
        self._more_metrics = more_metrics
        self._life = control.life

    def place(self, request: CallRequest) -> CallView:
        """Begin an outbound call; raises Refused."""
        life = self._life
        retry = self._life.config.limits.retry_after_seconds
        if life.draining:
            raise Refused(Refusal.DRAINING, "the service is going down", retry)
        trunk = self._trunk(request.trunk)
        route = self._route(request, trunk)
        if life.full():
            raise Refused(Refusal.NO_CAPACITY, "max_calls is reached", retry)
        if lateness := life.lateness():
            raise Refused(Refusal.NO_CAPACITY, lateness, retry)
        call = self._control.outbound.place(request.to, request.from_number, trunk, route, request.variables)
        if call is None:
            raise Refused(Refusal.NO_CAPACITY, "no RTP port is free", retry)
        return self._view(call)

    def calls(self) -> Sequence[CallView]:
        """Calls in progress and those that ended a short while ago."""
        return [self._view(call) for call in self._life.calls.all()]

    def call(self, call_id: str) -> CallView:
        """One call; raises Refused."""
        return self._view(self._get(call_id))

    def ladder(self, call_id: str) -> str:
        """The call's SIP messages; raises Refused."""
        return ladder.draw(self._messages(call_id))

    def ladder_svg(self, call_id: str) -> str:
        """The same as a drawing; raises Refused."""
        return ladder_svg.draw(self._messages(call_id), f"call {call_id}")

    def _messages(self, call_id: str) -> tuple[Message, ...]:
        call = self._get(call_id)
        return self._life.engine.ladder(call.handle) or ladder.unpack(call.ladder)

    def capture(self, call_id: str, on: bool) -> None:
        """Begin or end a capture; raises Refused."""
        call, captures = self._get(call_id), self._life.captures
        live = self._life.live.get(call_id)
        if not on:
            if not captures.is_open(call):
                raise Refused(Refusal.WRONG_STATE, "the call is not being captured")
            captures.stop(call)
        elif live is None or live.row is None or not call.alive:
            raise Refused(Refusal.WRONG_STATE, f"the call is {call.state.value}")
        elif not captures.start(call, live.session.address):
            raise Refused(Refusal.WRONG_STATE, "the call is being captured already")

    def captured(self, call_id: str) -> Path:
        """The file of the last capture; raises Refused."""
        path = self._get(call_id).media.capture
        if not path:
            raise Refused(Refusal.NO_CAPTURE, "nobody has asked for one")
        return Path(path)

    def record(self, call_id: str, action: str, suffix: str = "") -> None:
        """Start, pause, resume or stop the recording; raises Refused."""
        problem = self._control.changes.record(self._get(call_id), action, suffix)
        if problem:
            raise Refused(Refusal.WRONG_STATE, problem)

    def recorded(self, call_id: str) -> Path:
        """The file of the last recording; raises Refused."""
        path = self._life.recordings.path(self._get(call_id))
        if not path:
            raise Refused(Refusal.NO_RECORDING, "nobody has asked for one")
        return Path(path)

    def hangup(self, call_id: str, reason: str) -> None:
        """End a call; raises Refused."""
        self._life.hang_up(self._get(call_id), reason)

    def answer(self, call_id: str) -> None:
        """Answer a caller in early media; raises Refused."""
        call = self._unanswered(call_id)
        if call.state is not CallState.EARLY:
            raise Refused(Refusal.WRONG_STATE, f"the call is {call.state.value}, not early: its brain answers it")
        self._control.early.answer(call)

    def reject(self, call_id: str, status: int, reason: str, contact: str, retry_after_seconds: int) -> None:
        """Refuse a caller who is not answered yet; raises Refused."""
        self._control.early.reject(self._unanswered(call_id), status, reason, contact, retry_after_seconds)

    def press_digits(self, call_id: str, digits: str) -> None:
        """Send DTMF; raises Refused."""
        self._control.changes.press_digits(self._connected(call_id), digits)

    def transfer(self, call_id: str, wish: TransferWish) -> None:
        """Transfer the far end; raises Refused."""
        call = self._connected(call_id)
        if self._control.transfers.under_way(call):
            raise Refused(Refusal.WRONG_STATE, "the call is being transferred")
        self._control.transfers.begin(call, messages.Transfer(call_id, **dataclasses.asdict(wish)))

    def whisper(self, call_id: str, text: str, to: str) -> None:
        """Say something to one of two who are joined; raises Refused."""
        self._life.tell_worker(self._attended(call_id), messages.Whisper(call_id, text, to))

    def step_in(self, call_id: str, heard: bool) -> None:
        """Let the agent take part in a talk that it listens to, or listen only; raises Refused."""
        self._life.tell_worker(self._attended(call_id), messages.StepIn(call_id, heard))

    def take_back(self, call_id: str) -> None:
        """Let the colleague go; raises Refused."""
        if not self._control.transfers.take_back(self._connected(call_id), "taken back"):
            raise Refused(Refusal.WRONG_STATE, "no colleague is on the line")

    def hold(self, call_id: str, held: bool) -> None:
        """Put the far end on hold, or take it back; raises Refused."""
        self._control.changes.hold(self._connected(call_id), held)

    def events(self, call_id: str, after: int = 0) -> AsyncIterator[CallEvent]:
        """Events of one call, kept ones first; raises Refused."""
        return self._events(self._get(call_id), after)

    async def _events(self, call: Call, after: int) -> AsyncIterator[CallEvent]:
        async for event in call.watch(after):
            data = {key: value for key, value in event.items() if key not in ("id", "type", "at")}
            yield CallEvent(event["id"], event["type"], event["at"], data)

    def health(self) -> Mapping[str, Any]:
        """State of the planes and the registrations."""
        life = self._life
        late = life.pacing.late(life.config.limits.max_pacing_ms)
        return {
            "status": "draining" if life.draining else "ok",
            "calls": life.count(),
            "planes": [
                {
                    "plane": plane.number,
                    "ready": plane.ready.is_set(),
                    "restarts": plane.restarts,
                    "calls": plane.calls,
                    "pacing_p99_ms": round(plane.pacing_ms(), 1),
                    "late": plane.number in late,
                    **plane.pids,
                }
                for plane in life.planes
            ],
            "workers": [
                {
                    "worker": worker.index,
                    "ready": worker.ready,
                    "duty": worker.duty.value,
                    "calls": len(worker.calls),
                    "restarts": worker.restarts,
                    "lag_ms": round(worker.lag_ms, 1),
                    "pid": worker.plane.pid if worker.plane else 0,
                }
                for worker in life.workers.on_duty
            ],
            "registrations": {
                name: {"state": one.state.value, "status": one.status, "reason": one.reason}
                for name, one in life.engine.registrations().items()
            },
        }

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether new calls are welcome, and what is missing when not."""
        life = self._life
        missing = []
        if life.draining:
            missing.append("draining")
        missing += [f"media plane {plane.number}" for plane in life.planes if not plane.ready.is_set()]
        if not any(worker.ready for worker in life.workers.workers):
            missing.append("no worker is ready")
        welcome = (RegistrationState.REGISTERED, RegistrationState.DISABLED)
        states = life.engine.registrations()
        if states and not any(one.state in welcome for one in states.values()):
            missing.append("no trunk is registered")
        if life.full():
            missing.append("max_calls is reached")
        if lateness := life.lateness():
            missing.append(lateness)
        return not missing, {"missing": missing}

    def metrics(self) -> Iterable[Metric]:
        """Metric families of this moment."""
        yield from families(self._life)
        yield from self._more_metrics()
        yield from identity(self._control.inbound.screening.verdicts, self._control.outbound.signing.signed)

    def _get(self, call_id: str) -> Call:
        call = self._life.calls.get(call_id)
        if call is None:
            raise Refused(Refusal.NO_SUCH_CALL, f"no call {call_id}")
        return call

    def _unanswered(self, call_id: str) -> Call:
        call = self._get(call_id)
        if call.party.direction != "inbound" or call.answered or not call.alive:
            raise Refused(Refusal.WRONG_STATE, "only a caller who is not answered yet can be answered or refused")
        return call

    def _connected(self, call_id: str) -> Call:
        call = self._get(call_id)
        if call.state is not CallState.CONNECTED:
            raise Refused(Refusal.WRONG_STATE, f"the call is {call.state.value}, not connected")
        return call

    def _attended(self, call_id: str) -> Call:
        call = self._connected(call_id)
        if not self._control.transfers.attended(call):
            raise Refused(Refusal.WRONG_STATE, "the agent is not with the far end and a colleague")
        return call

    def _trunk(self, name: str) -> Trunk:
        trunks = [trunk for trunk in self._life.config.trunk if not name or trunk.name == name]
        if not trunks:
            raise Refused(Refusal.NO_SUCH_TRUNK, f"no trunk {name!r}" if name else "no trunk is configured")
        if name:
            return trunks[0]  # whoever names one knows why
        states = self._life.engine.registrations()
        best = min(trunks, key=lambda trunk: _distance(states.get(trunk.name)))
        if _distance(states.get(best.name)) > 1:
            retry = self._life.config.limits.retry_after_seconds
            raise Refused(Refusal.TRUNK_UNAVAILABLE, "no trunk is registered", retry)
        return best

    def _route(self, request: CallRequest, trunk: Trunk) -> Route:
        if request.brain:
            route = next((route for route in self._life.config.route if route.brain == request.brain), None)
            if route is None:
                raise Refused(Refusal.NO_SUCH_BRAIN, f"no route has the brain {request.brain!r}")
            return route
        route = self._life.route_for(request.to, trunk.name)
        if route is None:
            raise Refused(Refusal.NO_ROUTE, f"no route matches {request.to!r}; name a brain")
        return route

    def _view(self, call: Call) -> CallView:
        ending = call.ending if call.state is CallState.ENDED else None
        return CallView(
            id=call.id,
            direction=call.party.direction,
            state=call.state.value,
            from_number=call.party.from_number,
            to_number=call.party.to_number,
            trunk=call.party.trunk,
            stir=asdict(call.party.stir),
            brain=call.route.brain,
            created_at=call.started_at,
            answered_at=call.state_times.get(CallState.ANSWERED.value),
            ended_at=call.state_times.get(CallState.ENDED.value),
            outcome=ending.outcome.value if ending else "",
            status=ending.status if ending else 0,
            reason=ending.reason if ending else "",
            quality=self._life.quality(call),
            disposition=call.conversed.disposition,
            transcript=call.conversed.transcript or tuple(call.lines),
            collected_vars=call.conversed.collected_vars,
            usage=call.conversed.usage,
            recording=call.media.recording,
            redirects=call.redirects,
        )
