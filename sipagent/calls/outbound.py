"""A call that we place: from the request to the answer."""

from collections.abc import Mapping
from typing import Any

import structlog

from sipagent.calls.call import Call, CallInput, CallState, Ending
from sipagent.calls.lifecycle import Lifecycle, new_call_id
from sipagent.calls.signing import Signing
from sipagent.errors import ParseError, RemoteError
from sipagent.service import messages
from sipagent.service.config.tree import Route, Trunk
from sipagent.sip import engine as sip
from sipagent.sip.outcome import Outcome

log = structlog.get_logger(__name__)


class Outbound:
    """Places calls; the brain is readied before the far end is dialled."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life
        self.signing = Signing()

    def place(self, to: str, from_number: str, trunk: Trunk, route: Route, variables: Mapping[str, Any]) -> Call | None:
        """Begin an outbound call: the brain is readied first, then the far end is dialled. None when no row is free."""
        party = messages.Party("outbound", from_number or trunk.caller_id or trunk.username, "", to, trunk.name)
        call = Call(new_call_id(), party, trunk, route, dict(variables))
        row = self._life.take_row()
        if row is None:
            return None
        self._life.admit(call, row)
        return call

    def dial(self, call: Call, ring_seconds: float = 0.0) -> None:
        """Send the INVITE: the brain is ready. 0: give up after `[limits] ring_seconds`. LocalError for no address."""
        call.handle = self._invite(call, call.party.to_number)
        self._life.calls.bind(call)
        self._life.captures.tell(call)
        call.move(CallInput.DIAL)
        ring_seconds = ring_seconds or self._life.config.limits.ring_seconds
        self._life.timer(call, "ring", ring_seconds, lambda: self._no_answer(call))

    def redial(self, call: Call, to: str, headers: sip.HeaderList) -> None:
        """Call another address in place of the one that has redirected the call; LocalError for no address."""
        self._life.calls.rebind(call, self._invite(call, to, headers, call.handle))
        self._life.captures.tell(call)

    def _invite(self, call: Call, to: str, headers: sip.HeaderList = (), redirected: str = "") -> str:
        shown, called = call.party.from_number, call.party.to_number
        identity = self.signing.headers(call.trunk, shown, called, foreign=bool(call.companion_of))
        return self._life.engine.place(
            sip.PlaceCall(
                to,
                call.trunk.name if call.trunk else "",
                self._life.live[call.id].body,
                from_user=call.party.from_number,
                from_name=call.party.from_name,
                headers=(*identity, *headers),
                addressed_to=call.party.to_number,
                redirected=redirected,
            )
        )

    def progress(self, event: sip.Progress) -> None:
        """180, 183: it rings, perhaps with early media."""
        call = self._life.calls.by_handle(event.handle)
        if call is None or not call.alive or event.status == 100:
            return
        call.move(CallInput.RING)
        call.note("progress", status=event.status, reason=event.reason)
        self._life.live[call.id].when_rung()
        if event.body and self._life.live[call.id].session.offering:
            try:
                self._life.live[call.id].session.preview(event.body)
            except (ParseError, RemoteError) as problem:
                log.warning("early media ignored", call_id=call.id, problem=str(problem))
            else:
                self._life.apply(call)
                if call.state is not CallState.EARLY:
                    call.move(CallInput.HEAR)
                    self._life.converse_early(call)

    def answered(self, event: sip.Answered) -> None:
        """200: the far end took the call."""
        call = self._life.calls.by_handle(event.handle)
        if call is None or not call.alive:
            return
        self._life.cancel_timer(call, "ring")
        call.move(CallInput.ANSWER)
        if self._life.accept_answer(call, event.body or b""):
            self._life.await_media(call)
            self._life.live[call.id].when_answered()

    def _no_answer(self, call: Call) -> None:
        call.ending = Ending(Outcome.NO_ANSWER, "local", 0, "no answer in time")
        self._life.hang_up(call, "no answer in time")
