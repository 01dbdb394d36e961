"""Transfers that we begin: the far end goes to somebody else, or comes back to its agent with the reason why not.

    blind      REFER ── NOTIFY … NOTIFY 2xx ──► BYE
    bridged    INVITE to the target ── 2xx ──► both rows joined (`meeting.py`); who hangs up ends both calls, unless
                                               the caller is to come back
    attended   INVITE to the target ── 2xx ──► REFER with Replaces ── NOTIFY 2xx ──► BYE
                                                                  └── refused ──► joined, as bridged

While the target rings the caller hears ringback, or the music of `[conversation] hold_music`. A target that is busy,
refuses or does not answer within `ring_seconds` ends the transfer alone: the conversation goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sipagent.calls.call import Call, CallState
from sipagent.calls.companion import Companions
from sipagent.calls.lifecycle import Lifecycle
from sipagent.calls.meeting import Meeting
from sipagent.errors import LocalError, ParseError
from sipagent.rtp import control as media
from sipagent.service import destinations, messages
from sipagent.service.destinations import DestinationPolicy
from sipagent.sip import engine as sip
from sipagent.sip.outcome import Outcome, outcome_of

TRANSFERRED: Final = "transferred"
HAND_OVER_S: Final = 20.0  # a far end that takes longer to pick up the consulted call is joined with it by us
RINGBACK: Final = "tone:ringback"


class Stage(Enum):
    """Where a transfer stands."""

    REFERRING = "referring"  # the far end was asked to call the target, and reports
    CALLING = "calling"  # we call the target
    HANDING_OVER = "handing over"  # the target is on the line; the far end was asked to take our place
    MEETING = "meeting"  # the target is on the line, and hears the agent or the far end


@dataclass(slots=True)
class Transfer:
    """A transfer under way; `second` is our own call to the target."""

    call: Call
    wish: messages.Transfer
    stage: Stage
    second: Call | None = None
    meeting: Meeting | None = None

    @property
    def joined(self) -> bool:
        """True once far end and target hear each other."""
        return self.meeting is not None and self.meeting.together


class Transfers:
    """All transfers under way, one at most for each call."""

    def __init__(self, life: Lifecycle, companions: Companions) -> None:
        self._life, self._companions = life, companions
        self._under_way: dict[str, Transfer] = {}  # by call id
        self._begin: dict[str, Callable[[Transfer, float], None]] = {
            "blind": self._refer,
            "bridged": self._call_target,
            "attended": self._call_target,
        }

    def under_way(self, call: Call) -> bool:
        """Whether this call is being transferred, or is joined with another."""
        return call.id in self._under_way

    def begin(self, call: Call, wish: messages.Transfer) -> None:
        """Transfer the far end; a TransferResult to the worker and a `transfer` event tell what came of it."""
        if self.under_way(call):
            return  # whoever asks second hears how the first one ends
        call.note("transfer", to=wish.to, mode=wish.mode)
        transfer = Transfer(call, wish, Stage.REFERRING)
        begin = self._begin.get(wish.mode)
        if call.state is not CallState.CONNECTED:
            self._report(transfer, Outcome.FAILED.value, f"the call is {call.state.value}")
        elif begin is None:
            self._report(transfer, Outcome.FAILED.value, f"there is no such transfer: {wish.mode}")
        elif objection := self.objection(wish.to):
            self._report(transfer, Outcome.BLOCKED.value, objection)
        else:
            self._under_way[call.id] = transfer
            self._life.live[call.id].when_over = lambda: self._caller_left(transfer)
            begin(transfer, wish.ring_seconds)

    # ---- while the target is on the line

    def attended(self, call: Call) -> bool:
        """Whether the agent is with the far end and a colleague."""
        meeting = self._meeting_of(call)
        return meeting is not None and meeting.together and meeting.attended

    def bridged(self, call: Call) -> None:
        """Its row is joined with the target's."""
        if meeting := self._meeting_of(call):
            meeting.bridged()

    def join(self, call: Call) -> None:
        """The agent has told the target what it is about."""
        if meeting := self._meeting_of(call):
            meeting.join()

    def take_back(self, call: Call, reason: str) -> bool:
        """Let the target go; the far end is the agent's again. False when there is no target on the line."""
        transfer = self._under_way.get(call.id)
        if transfer is None or transfer.meeting is None:
            return False
        if transfer.joined:
            self._return(transfer, reason)
        else:
            self._back(transfer, Outcome.CANCELLED, reason)
        return True

    def _meeting_of(self, call: Call) -> Meeting | None:
        transfer = self._under_way.get(call.id)
        return transfer.meeting if transfer is not None else None

    def _return(self, transfer: Transfer, reason: str) -> None:
        """The two have talked, and the far end is the agent's again."""
        assert transfer.meeting is not None and transfer.second is not None
        self._close(transfer)
        transfer.meeting.part(reason)
        self._life.hang_up(transfer.second, reason)

    def objection(self, to: str) -> str:
        """Why nobody may be sent to `to`; "" when that is allowed."""
        try:
            return DestinationPolicy.of(self._life.config).objection(destinations.parse(to))
        except ParseError as problem:
            return f"not a destination: write {problem.expected}"

    # ---- the far end calls the target itself

    def _refer(self, transfer: Transfer, ring_seconds: float) -> None:
        self._life.engine.refer(transfer.call.handle, transfer.wish.to)
        self._deadline(transfer, ring_seconds, lambda: self._back(transfer, Outcome.NO_ANSWER, "no result in time"))

    def progress(self, event: sip.TransferProgress) -> None:
        """NOTIFY: how the transfer goes that we asked for, or that it was refused at once."""
        call = self._life.calls.by_handle(event.handle)
        if call is None or not call.alive:
            return
        call.note("transfer", status=event.status, reason=event.reason, done=event.done)
        if not event.done:
            return
        transfer = self._under_way.get(call.id)
        ok = 200 <= event.status < 300
        if transfer is not None and transfer.stage is Stage.MEETING:
            return
        if ok:
            # Also when we had given up waiting: the far end has gone.
            self._moved(transfer or Transfer(call, messages.Transfer(call.id, ""), Stage.REFERRING))
        elif transfer is not None and transfer.stage is Stage.HANDING_OVER:
            self._join(transfer)
        elif transfer is not None:
            self._back(transfer, outcome_of(event.status), event.reason)

    def _moved(self, transfer: Transfer) -> None:
        self._close(transfer)
        self._report(transfer, TRANSFERRED)
        if transfer.second is not None:
            self._life.hang_up(transfer.second, "handed over")
        self._life.hang_up(transfer.call, TRANSFERRED)

    # ---- we call the target

    def _call_target(self, transfer: Transfer, ring_seconds: float) -> None:
        transfer.stage = Stage.CALLING
        if music := self._life.config.conversation.hold_music:
            self._play(transfer.call, music)
        second = self._companions.place(transfer.call, transfer.wish.to, ring_seconds)
        if isinstance(second, Outcome):
            self._back(transfer, second, "no second call could be placed")
            return
        transfer.second = second
        live = self._life.live[second.id]
        live.when_rung = lambda: self._rung(transfer)
        live.when_answered = lambda: self._answered(transfer)
        live.when_over = lambda: self._target_left(transfer)

    def _rung(self, transfer: Transfer) -> None:
        transfer.call.note("transfer", status=180, reason="Ringing", done=False)
        if transfer.stage is Stage.CALLING and not self._life.config.conversation.hold_music:
            self._play(transfer.call, RINGBACK)

    def _answered(self, transfer: Transfer) -> None:
        if transfer.stage is not Stage.CALLING or transfer.second is None:
            return
        if transfer.wish.mode == "bridged":
            self._join(transfer)
            return
        transfer.stage = Stage.HANDING_OVER
        try:
            self._life.engine.refer(transfer.call.handle, transfer.wish.to, transfer.second.handle)
        except LocalError:  # the target has hung up meanwhile; its end is on the way to us
            return
        self._deadline(transfer, HAND_OVER_S, lambda: self._join(transfer))

    def _join(self, transfer: Transfer) -> None:
        """Far end and target are to meet, here."""
        second = transfer.second
        if second is None or second.place is None or not second.alive:
            self._back(transfer, Outcome.FAILED, "the target has hung up")
            return
        transfer.stage = Stage.MEETING
        self._life.cancel_timer(transfer.call, "transfer")
        meeting = transfer.meeting = Meeting(
            self._life,
            transfer.call,
            second,
            transfer.wish,
            joined=lambda: self._report(transfer, TRANSFERRED, second=second.id),
            take_back=lambda reason: self._return(transfer, reason),
        )
        meeting.begin()

    def _target_left(self, transfer: Transfer) -> None:
        ending = transfer.second.ending if transfer.second else None
        if self._under_way.get(transfer.call.id) is not transfer:
            return
        if transfer.joined and transfer.wish.back:
            self._return(transfer, "the colleague hung up")
        elif transfer.joined:
            self._close(transfer)
            self._life.hang_up(transfer.call, "the other side hung up")
        elif transfer.stage in (Stage.CALLING, Stage.MEETING):
            outcome = ending.outcome if ending else Outcome.FAILED
            answered_and_gone = outcome is Outcome.ANSWERED
            self._back(transfer, Outcome.FAILED if answered_and_gone else outcome, ending.reason if ending else "")
        # HANDING_OVER: it takes the far end's call in place of ours, or else the report on that will say so.

    # ---- ends

    def _caller_left(self, transfer: Transfer) -> None:
        if self._under_way.get(transfer.call.id) is not transfer:
            return
        self._close(transfer)
        if not transfer.joined:
            wish = transfer.wish
            transfer.call.note("transfer", to=wish.to, mode=wish.mode, outcome=Outcome.CANCELLED.value)
        if transfer.second is not None:
            self._life.hang_up(transfer.second, "the caller hung up")

    def _back(self, transfer: Transfer, outcome: Outcome, reason: str) -> None:
        """The caller is the agent's again."""
        if self._under_way.get(transfer.call.id) is not transfer:
            return
        self._close(transfer)
        if transfer.second is not None:
            self._life.hang_up(transfer.second, "the transfer has failed")
        if transfer.stage is not Stage.REFERRING:
            self._life.tell_row(transfer.call, media.StopPlay)
        if transfer.meeting is not None:
            transfer.meeting.part(reason)
        self._report(transfer, outcome.value, reason)

    def _close(self, transfer: Transfer) -> None:
        self._under_way.pop(transfer.call.id, None)
        self._life.cancel_timer(transfer.call, "transfer")

    def _report(self, transfer: Transfer, outcome: str, reason: str = "", **more: str) -> None:
        call, wish = transfer.call, transfer.wish
        call.note("transfer", to=wish.to, mode=wish.mode, outcome=outcome, reason=reason, **more)
        self._life.tell_worker(call, messages.TransferResult(call.id, outcome))

    def _play(self, call: Call, source: str) -> None:
        self._life.tell_row(call, lambda row, generation: media.Play(row, generation, source, loop=True))

    def _deadline(self, transfer: Transfer, seconds: float, action: Callable[[], None]) -> None:
        self._life.timer(transfer.call, "transfer", seconds, action)
