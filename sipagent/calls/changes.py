"""What changes during a call: new offers, hold, messages."""

from sipagent.calls.call import Call, CallState
from sipagent.calls.info import digit_of_info
from sipagent.calls.lifecycle import Lifecycle
from sipagent.errors import ParseError, RemoteError
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.sip import engine as sip


class Changes:
    """Changes of a connected call, wished by either side."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def press_digits(self, call: Call, digits: str) -> None:
        """Send DTMF to the far end."""
        self._life.tell_row(call, lambda row, generation: media.SendDigits(row, generation, digits))

    def record(self, call: Call, action: str, suffix: str = "") -> str:
        """Start, pause, resume or stop the recording; why not, or ""."""
        live, recordings = self._life.live.get(call.id), self._life.recordings
        if live is None or live.row is None or not call.alive:
            return f"the call is {call.state.value}"
        match action:
            case "start":
                return recordings.start(call, suffix)
            case "pause" | "resume":
                return recordings.pause(call, action == "pause")
            case "stop":
                return recordings.stop(call)
        return f"{action!r} is nothing that a recording does"

    def hold(self, call: Call, held: bool) -> None:
        """Put the far end on hold (`sendonly`: it hears music or comfort noise), or take it back."""
        live = self._life.live[call.id]
        if call.state is not CallState.CONNECTED or live.hold_wanted is held:
            return
        live.hold_wanted = held
        call.note("hold", held=held, by="local")
        music = self._life.config.conversation.hold_music
        if held and music:
            self._life.tell_row(
                call, lambda row, generation: media.Play(row, generation, music, loop=True, exclusive=True)
            )
        elif music:
            self._life.tell_row(call, media.StopPlay)
        self._offer_hold(call)

    def _offer_hold(self, call: Call) -> None:
        """Offer what is wanted, once no other offer of ours is on its way."""
        live = self._life.live[call.id]
        if not live.session.offering and live.session.holding is not live.hold_wanted:
            self._life.engine.reoffer(call.handle, live.session.hold(live.hold_wanted))

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
        found = self._life.find(event.handle)
        if found is None or event.body is None:
            return
        call, live = found
        if live.session.offering and self._life.accept_answer(call, event.body):
            self._offer_hold(call)

    def reoffer_refused(self, event: sip.ReofferRefused) -> None:
        """It did not; everything stays as it was."""
        if found := self._life.find(event.handle):
            call, live = found
            live.session.withdraw()
            live.hold_wanted = live.session.holding
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

    def send_text(self, call: Call, message: messages.SendText) -> None:
        """The brain sends INFO or MESSAGE."""
        self._life.engine.send_in_dialog(call.handle, message.method, message.content_type, message.body.encode())
