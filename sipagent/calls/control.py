"""Where the events of SIP, media planes and workers meet the calls: one table for each of the three."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from sipagent.calls.call import Call, CallState, Ending
from sipagent.calls.changes import Changes
from sipagent.calls.companion import Companions
from sipagent.calls.conversation_events import ConversationEvents
from sipagent.calls.early import EarlyMedia
from sipagent.calls.inbound import Inbound
from sipagent.calls.lifecycle import Lifecycle
from sipagent.calls.media_events import MediaEvents
from sipagent.calls.outbound import Outbound
from sipagent.calls.redirects import Redirects
from sipagent.calls.referred import Referred
from sipagent.calls.sweep import Sweep
from sipagent.calls.transfer import Transfers
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.sip import engine as sip
from sipagent.sip.outcome import Outcome, outcome_of, reasons

log = structlog.get_logger(__name__)


class CallControl:
    """Sends each event to the one part that deals with it."""

    def __init__(self, life: Lifecycle) -> None:
        self.life = life
        self.outbound = Outbound(life)
        self._redirects = Redirects(life, self.outbound)
        self.changes = Changes(life)
        self.transfers = Transfers(life, Companions(life, self.outbound))
        self._referred = Referred(life, self.transfers, self.outbound.signing)
        self.inbound = inbound = Inbound(life)
        self.early = EarlyMedia(life)
        self._media = MediaEvents(life)
        self._talk = ConversationEvents(life, self.outbound.dial, self.early)
        self.sweep = Sweep(life, self._talk.orphaned, lambda: self._referred.handles | inbound.screening.handles)
        self._from_engine: Mapping[type, Callable[[Any], None]] = {
            sip.IncomingCall: inbound.incoming,
            sip.Cancelled: inbound.cancelled,
            sip.EarlySession: self.early.established,
            sip.Confirmed: inbound.confirmed,
            sip.Progress: self._progress,
            sip.Answered: self._answered,
            sip.Ended: self._ended,
            sip.Reoffer: self.changes.reoffered,
            sip.ReofferAnswered: self.changes.reoffer_answered,
            sip.ReofferRefused: self.changes.reoffer_refused,
            sip.InDialogMessage: self.changes.in_dialog,
            sip.TransferRequested: self._referred.requested,
            sip.TransferProgress: self.transfers.progress,
            sip.RegistrationChanged: _log_registration,
        }
        self._from_media: Mapping[type, Callable[[Call, Any], None]] = {
            media.FirstPacket: self._media.first_packet,
            media.Latched: self._media.latched,
            media.Digit: self._media.digit,
            media.PlayEnded: self._media.play_ended,
            media.DigitsSent: lambda call, event: call.note("dtmf_sent", digits=event.digits),
            media.RecordingEnded: self._media.recording_ended,
            media.CaptureEnded: self._media.capture_ended,
            media.Bridged: lambda call, event: self.transfers.bridged(call),
            media.NoMedia: self._media.no_media,
            media.RowClosed: self._media.row_closed,
        }
        self._from_worker: Mapping[type, Callable[[Call, Any], None]] = {
            messages.Accept: self._talk.accepted,
            messages.Answer: lambda call, message: self.early.answer(call),
            messages.Reject: self._talk.rejected,
            messages.CallEvent: self._talk.conversation_event,
            messages.Finished: self._talk.finished,
            messages.Hangup: lambda call, message: life.hang_up(call, message.reason),
            messages.PressDigits: lambda call, message: self.changes.press_digits(call, message.digits),
            messages.Transfer: self.transfers.begin,
            messages.Join: lambda call, message: self.transfers.join(call),
            messages.TakeBack: lambda call, message: self._take_back(call),
            messages.Hold: lambda call, message: self.changes.hold(call, message.held),
            messages.SendText: self.changes.send_text,
            messages.ControlRecording: self._record,
        }
        self.on_media_ready = self._media.plane_ready
        self.on_media_lost = self._media.plane_lost
        self.on_worker_ready = self._talk.worker_ready
        self.on_worker_lost = self._talk.worker_lost

    def on_engine(self, event: sip.EngineEvent) -> None:
        """An event of the SIP engine."""
        self._from_engine[type(event)](event)

    def on_media(self, plane: int, event: media.Event) -> None:
        """An event of a media plane; one for a call that is over is dropped."""
        if isinstance(event, media.MediaReady):
            return
        call = self.life.calls.by_generation(event.generation)
        if isinstance(event, media.MediaProblem):
            log.warning("media plane reports a problem", plane=plane, row=event.row, problem=event.problem)
            if call is not None:
                call.note("warning", problem=event.problem)
        elif call is not None and call.id in self.life.live:
            self._from_media[type(event)](call, event)

    def on_worker(self, index: int, message: messages.FromWorker) -> None:
        """A message of a worker about a call; one from a worker that has lost the call is dropped."""
        if isinstance(message, messages.Ready | messages.Pong):
            return
        call = self.life.calls.get(message.call_id)
        if call is not None and call.id in self.life.live and call.place is not None and call.place.worker == index:
            self._from_worker[type(message)](call, message)

    def _record(self, call: Call, message: messages.ControlRecording) -> None:
        problem = self.changes.record(call, message.action, message.suffix)
        if problem:
            call.note("warning", problem=f"{message.action} recording: {problem}")

    def _take_back(self, call: Call) -> None:
        self.transfers.take_back(call, "the agent took the caller back")

    def _progress(self, event: sip.Progress) -> None:
        if not self._referred.progress(event):
            self.outbound.progress(event)

    def _answered(self, event: sip.Answered) -> None:
        if self._referred.answered(event):
            return
        if found := self.life.find(event.handle):
            self._redirects.answered(found[0])
        self.outbound.answered(event)

    def _ended(self, event: sip.Ended) -> None:
        self.inbound.screening.forget(event.handle)
        if self._referred.ended(event):
            return
        found = self.life.find(event.handle)
        if found is None:
            return
        call, _ = found
        if self._redirects.ended(call, event):
            return
        if call.ending is None:
            rang = CallState.RINGING.value in call.state_times
            outcome = Outcome.ANSWERED if call.answered else outcome_of(event.status, event.headers, rang=rang)
            q850 = next((reason.cause for reason in reasons(event.headers) if reason.protocol == "Q.850"), 0)
            call.ending = Ending(outcome, event.by, event.status, event.reason, q850)
        self.life.finish(call)


def _log_registration(event: sip.RegistrationChanged) -> None:
    log.info(
        "registration",
        trunk=event.trunk,
        state=event.state.value,
        status=event.status,
        reason=event.reason,
        expires_s=round(event.expires_s),
        retry_in_s=round(event.retry_in_s, 1),
    )
