"""What the workers report about the calls that they talk, and what happens when one dies."""

from collections.abc import Callable
from typing import Final

import structlog

from sipagent.calls.call import Call, CallState, Conversed
from sipagent.calls.early import EarlyMedia
from sipagent.calls.lifecycle import Lifecycle
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.sip.outcome import Outcome

log = structlog.get_logger(__name__)

MAX_TAKEOVERS: Final = 2
TAKEOVER_S: Final = 12.0  # an orphaned caller hears the apology and is taken over within this, or gets a BYE


class ConversationEvents:
    """One handler for each message of a worker."""

    def __init__(self, life: Lifecycle, dial: Callable[[Call], None], early: EarlyMedia) -> None:
        self._life = life
        self._dial = dial
        self._early = early

    def accepted(self, call: Call, message: messages.Accept) -> None:
        """The brain takes the call, anew or from a worker that died."""
        self._life.cancel_timer(call, "offer")
        live = self._life.live[call.id]
        if call.state in (CallState.ANSWERED, CallState.CONNECTED) and call.place is not None:
            worker = call.place.worker
            self._life.tell_row(call, lambda row, generation: media.AssignWorker(row, generation, worker))
            if live.apologising:
                live.connect_after_prompt = call.state is CallState.CONNECTED
            elif call.state is CallState.CONNECTED:
                self._life.tell_worker(call, messages.Connected(call.id, live.session.row_rate_hz))
        elif call.party.direction == "inbound" and call.alive:
            if not live.session.offering:
                self._life.apply(call)
            if message.early_media:
                self._early.begin(call)
            else:
                self._early.answer(call)
        elif call.state is CallState.OFFERED:
            live.early_media = message.early_media
            self._dial(call)
        elif call.state is CallState.EARLY:
            live.early_media = message.early_media
            self._life.converse_early(call)

    def rejected(self, call: Call, message: messages.Reject) -> None:
        """The brain refuses the call, or gives it up."""
        if call.answered:
            self._life.hang_up(call, message.reason or "the brain gave the call up", outcome=Outcome.FAILED)
            return
        self._early.reject(call, message.status, message.reason, message.contact, message.retry_after_seconds)

    def conversation_event(self, call: Call, message: messages.CallEvent) -> None:
        """Something for those who watch; lines and variables are kept for a worker that takes over."""
        if message.type == "transcript":
            call.lines.append(message.data)
        elif message.type == "variable":
            call.variables[message.data["name"]] = message.data["value"]
        call.note(message.type, **message.data)

    def finished(self, call: Call, message: messages.Finished) -> None:
        """The last word of the conversation."""
        call.conversed = Conversed(
            message.transcript or tuple(call.lines), message.collected_vars, message.usage, message.disposition
        )
        self._life.live[call.id].finished = True
        if self._life.live[call.id].left:
            self._life.leave_worker(call)
        self._life.maybe_conclude(call)

    def worker_lost(self, index: int) -> None:
        """Its calls keep their RTP; each caller hears the apology and is offered to another worker."""
        for call in self._life.calls.active(lambda call: call.place is not None and call.place.worker == index):
            if call.alive and not self._life.live[call.id].left:
                self.orphaned(call)
            else:
                self._life.live[call.id].finished = True
                self._life.maybe_conclude(call)

    def orphaned(self, call: Call) -> None:
        """Its worker does not lead this call any more: the caller hears the apology, and another worker is asked."""
        if self._life.live[call.id].when_orphaned():
            return
        assert call.place is not None
        index = call.place.worker
        call.takeovers += 1
        call.place.worker = -1
        call.note("warning", problem="the worker that led this call died", takeover=call.takeovers)
        live = self._life.live[call.id]
        self._life.cancel_timer(call, "offer")
        if call.answered:
            self._life.tell_row(call, lambda row, generation: media.AssignWorker(row, generation, -1))
            apology = self._life.paths.apology
            self._life.tell_row(call, lambda row, generation: media.Play(row, generation, apology, exclusive=True))
            live.apologising, live.connect_after_prompt = True, False
        self._life.timer(call, "offer", TAKEOVER_S, lambda: self._give_up(call))
        if call.takeovers > MAX_TAKEOVERS:
            live.hang_up_after_prompt = True
        else:
            self._life.offer(call, avoid=index, resumed=call.answered)

    def worker_ready(self, index: int) -> None:
        """A worker came (back) up: orphans that found nobody go to it."""
        for call in self._life.calls.active(
            lambda call: call.alive and call.place is not None and call.place.worker == -1 and not call.companion_of
        ):
            if call.takeovers <= MAX_TAKEOVERS:
                self._life.offer(call, avoid=-1, resumed=call.answered)

    def _give_up(self, call: Call) -> None:
        if call.answered:
            self._life.hang_up(call, "no worker could take the call", outcome=Outcome.FAILED)
        else:
            self._life.nobody(call)
