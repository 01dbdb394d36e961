"""A call that comes in: from the INVITE to the ACK."""

import structlog
from msgspec.structs import asdict

from sipagent.calls.call import Call, CallInput, CallState, Ending
from sipagent.calls.lifecycle import Lifecycle, new_call_id
from sipagent.calls.screening import Screening, notice
from sipagent.errors import ParseError, RemoteError
from sipagent.service import messages
from sipagent.sip import engine as sip
from sipagent.sip.outcome import Outcome
from sipagent.stir.verdict import Verdict

log = structlog.get_logger(__name__)


class Inbound:
    """Takes calls in, or refuses them before anybody is asked."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life
        self.screening = Screening(life.config.sip)

    def incoming(self, event: sip.IncomingCall) -> None:
        """An INVITE: refused at once, or admitted and offered to a brain while the caller hears ringing."""
        self._admit(event, None)

    def _screened(self, event: sip.IncomingCall, verdict: Verdict) -> None:
        """It is known who vouches for the caller's number."""
        refusal = self.screening.refusal(verdict)
        if refusal is None:
            self._admit(event, verdict)  # which may have taken a while: there may be no room any more
        else:
            log.info("identity does not hold", status=verdict.status, problem=verdict.reason)
            self._refuse(event.handle, "stir", *refusal)

    def _admit(self, event: sip.IncomingCall, verdict: Verdict | None) -> None:
        """`verdict` None: it has still to be asked who vouches for the caller's number."""
        number = user_of(event.request_uri) or user_of(event.to_uri)
        trunk = next((trunk for trunk in self._life.config.trunk if trunk.name == event.trunk), None)
        limits = self._life.config.limits
        later = (("Retry-After", str(limits.retry_after_seconds)),)
        if self._life.draining:
            self._refuse(event.handle, "draining", 503, "Going Down", later)
            return
        if self._life.full() or self._life.lateness():
            reason = "Busy Here" if limits.full_status == 486 else "Service Unavailable"
            why = "full" if self._life.full() else "late"
            self._refuse(event.handle, why, limits.full_status, reason, later)
            return
        route = self._life.route_for(number, event.trunk)
        if route is None:
            self._refuse(event.handle, "no_route", 404, "No Route")
            return
        if verdict is None:
            self.screening.screen(event, self._screened)
            return
        row = self._life.take_row()
        if row is None:
            self._refuse(event.handle, "no_row", 503, "Service Unavailable", later)
            return
        session = self._life.session(trunk, row, event.handle)
        try:
            body = session.answer(event.offer) if event.offer is not None else session.offer()
        except (ParseError, RemoteError) as problem:
            self._life.rows.give_back(row, self._life.loop.time())
            status = problem.status if isinstance(problem, RemoteError) else 400
            self._refuse(event.handle, "bad_offer", status, str(problem), session.warning())
            return
        party = messages.Party(
            "inbound",
            user_of(event.from_uri) or event.from_uri,
            event.from_name,
            number,
            event.trunk,
            event.headers,
            stir=verdict,
            # without an offer it is ours that the 183 carries, and only a PRACK can bring the answer (RFC 3262 §5)
            early_media=event.offer is not None or "100rel" in event.supports,
        )
        call = Call(new_call_id(), party, trunk, route, {})
        call.handle = event.handle
        self._life.admit(call, row, session, body)
        if verdict.result != "unchecked":
            call.note("identity", **asdict(verdict))
        self._life.engine.ring(call.handle, notice(verdict))
        call.move(CallInput.RING)

    def _refuse(self, handle: str, why: str, status: int, reason: str, headers: sip.HeaderList = ()) -> None:
        self._life.refused[why] = self._life.refused.get(why, 0) + 1
        log.info("call refused", why=why, status=status, reason=reason)
        self._life.engine.reject(handle, status, reason, headers)

    def cancelled(self, event: sip.Cancelled) -> None:
        """The caller gave up."""
        self.screening.forget(event.handle)
        if call := self._life.calls.by_handle(event.handle):
            call.ending = Ending(Outcome.CANCELLED, "remote", 487, event.reason or "Cancelled")
            self._life.finish(call)

    def confirmed(self, event: sip.Confirmed) -> None:
        """The ACK: with a delayed offer it carries the answer."""
        call = self._life.calls.by_handle(event.handle)
        if call is None:
            return
        live = self._life.live[call.id]
        if event.answer is not None and live.session.offering:
            if not self._life.accept_answer(call, event.answer):
                return
        elif live.session.offering and call.state is CallState.ANSWERED:
            self._life.hang_up(call, "the ACK carried no answer", outcome=Outcome.FAILED)
            return
        if call.state is CallState.ANSWERED:
            self._life.await_media(call)


def user_of(uri: str) -> str:
    """User part of a SIP or tel URI, without parameters."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "tel":
        return rest.partition(";")[0]
    user, at, _ = rest.partition("@")
    return user.partition(";")[0].partition(":")[0] if at else ""
