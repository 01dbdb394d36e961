"""Early media: audio flows both ways, and nobody has answered yet.

inbound    Accept(early_media) → 183 → EarlySession → EARLY → Answer → 200,  or Reject → its status
outbound   183 with a session description → EARLY → 200
"""

import structlog

from sipagent.calls.call import Call, CallInput, CallState
from sipagent.calls.lifecycle import Lifecycle
from sipagent.errors import ParseError
from sipagent.service import destinations
from sipagent.sip import engine as sip

log = structlog.get_logger(__name__)


class EarlyMedia:
    """The part of a call between its first audio and its answer."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def begin(self, call: Call) -> None:
        """The brain wants to be heard before it answers; a caller who cannot hear it is answered at once."""
        live = self._life.live[call.id]
        if not call.party.early_media:
            log.info("no early media for this caller", call_id=call.id)
            self.answer(call)
        elif call.state is CallState.EARLY:
            self._life.converse_early(call)  # with the worker that has taken over
        elif not live.early_media:
            live.early_media = True
            seconds = self._life.config.limits.early_media_seconds
            self._life.timer(call, "early", seconds, lambda: self._too_long(call))
            self._life.engine.progress(call.handle, live.body)

    def established(self, event: sip.EarlySession) -> None:
        """The caller knows where to send its audio to, and from where ours comes."""
        found = self._life.find(event.handle)
        if found is None or not found[0].alive:
            return
        call, live = found
        if event.answer is not None and live.session.offering and not self._life.accept_answer(call, event.answer):
            return
        if not call.answered and call.state is not CallState.EARLY:
            call.move(CallInput.HEAR)
            self._life.await_media(call)

    def answer(self, call: Call) -> None:
        """200, with the same session description as a 183 that may have gone before (RFC 3261 §13.2.1)."""
        if call.alive and not call.answered and call.party.direction == "inbound":
            self._life.cancel_timer(call, "early")
            call.move(CallInput.ANSWER)
            self._life.engine.answer(call.handle, self._life.live[call.id].body)

    def reject(self, call: Call, status: int, reason: str, contact: str = "", retry_after_seconds: int = 0) -> None:
        """Refuse a caller; with `contact`, a number or SIP URI, and a 3xx it is told to call there instead."""
        later = (("Retry-After", str(retry_after_seconds)),) if retry_after_seconds > 0 else ()
        self._life.refuse(call, status, reason, (*_contact(call, status, contact), *later))

    def _too_long(self, call: Call) -> None:
        self._life.refuse(call, 480, "Not Answered")


def _contact(call: Call, status: int, contact: str) -> sip.HeaderList:
    """Where a caller who is sent elsewhere may be received (RFC 3261 §21.3); nothing that could end the header."""
    if not 300 <= status <= 399 or not contact:
        return ()
    try:
        target = destinations.parse(contact)
    except ParseError as problem:
        log.warning("redirected to what is no destination", call_id=call.id, problem=str(problem))
        return ()
    return (("Contact", f"<{target.text}>" if target.host else f"<tel:{target.user}>"),)
