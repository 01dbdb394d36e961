"""What changes during a call: new offers, hold, transfer, messages."""

from sipagent.calls.call import Call, CallState
from sipagent.calls.info import digit_of_info
from sipagent.calls.lifecycle import Lifecycle
from sipagent.errors import ParseError, RemoteError
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.sip import engine as sip
from sipagent.sip.outcome import Outcome, outcome_of


class Changes:
    """Changes of a connected call, wished by either side."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def press_digits(self, call: Call, digits: str) -> None:
        """Send DTMF to the far end."""
        self._life.tell_row(call, lambda row, generation: media.SendDigits(row, generation, digits))

    def hold(self, call: Call, held: bool) -> None:
        """Put the far end on hold (`sendonly`, it hears music or nothing), or take it back."""
        if call.state is CallState.CONNECTED and not self._life.live[call.id].session.offering:
            self._life.engine.reoffer(call.handle, self._life.live[call.id].session.hold(held))

    def transfer(self, call: Call, to: str, mode: str) -> None:
        """Hand the far end over to `to`; what becomes of it is told by TransferResult."""
        if call.state is not CallState.CONNECTED:
            return
        if mode != "blind":
            self._life.tell_worker(call, messages.TransferResult(call.id, Outcome.FAILED.value))
            call.note("transfer", to=to, mode=mode, outcome=Outcome.FAILED.value, reason="only blind transfers")
            return
        call.note("transfer", to=to, mode=mode)
        self._life.engine.refer(call.handle, to)

    def reoffered(self, event: sip.Reoffer) -> None:
        """The far end wants to change the session: refresh, hold, another address or codec."""
        call = self._life.calls.by_handle(event.handle)
        if call is None:
            self._life.engine.reject_reoffer(event.handle, 481)
            return
        session = self._life.live[call.id].session
        try:
            body = session.answer(event.offer) if event.offer is not None else session.offer()
        except (ParseError, RemoteError) as problem:
            status = problem.status if isinstance(problem, RemoteError) else 400
            self._life.engine.reject_reoffer(event.handle, status, str(problem))
            return
        self._life.engine.accept_reoffer(event.handle, body)
        if event.offer is not None:
            self._life.apply(call)

    def reoffer_answered(self, event: sip.ReofferAnswered) -> None:
        """It accepted what we wanted to change."""
        call = self._life.calls.by_handle(event.handle)
        if call is not None and event.body is not None and self._life.live[call.id].session.offering:
            self._life.accept_answer(call, event.body)

    def reoffer_refused(self, event: sip.ReofferRefused) -> None:
        """It did not; everything stays as it was."""
        if call := self._life.calls.by_handle(event.handle):
            self._life.live[call.id].session.withdraw()
            call.note("warning", problem=f"the far end refused our offer: {event.status} {event.reason}")

    def in_dialog(self, event: sip.InDialogMessage) -> None:
        """INFO or MESSAGE: a digit, or something for the brain."""
        call = self._life.calls.by_handle(event.handle)
        if call is None:
            return
        if digit := digit_of_info(event.content_type, event.body):
            self._life.tell_row(call, lambda row, generation: media.InjectDigit(row, generation, *digit))
        else:
            text = event.body.decode(errors="replace")
            self._life.tell_worker(call, messages.TextMessage(call.id, event.content_type, text))
            call.note("message", method=event.method, content_type=event.content_type)

    def transfer_requested(self, event: sip.TransferRequested) -> None:
        """REFER from the far end: refused, we are nobody's switchboard."""
        self._life.engine.reject_refer(event.handle, 603)

    def transfer_progress(self, event: sip.TransferProgress) -> None:
        """NOTIFY: how the transfer goes that we asked for."""
        call = self._life.calls.by_handle(event.handle)
        if call is None:
            return
        call.note("transfer", status=event.status, reason=event.reason, done=event.done)
        if event.done:
            ok = 200 <= event.status < 300
            outcome = "transferred" if ok else outcome_of(event.status).value
            self._life.tell_worker(call, messages.TransferResult(call.id, outcome))
            if ok:
                self._life.hang_up(call, "transferred")

    def send_text(self, call: Call, message: messages.SendText) -> None:
        """The brain sends INFO or MESSAGE."""
        self._life.engine.send_in_dialog(call.handle, message.method, message.content_type, message.body.encode())
