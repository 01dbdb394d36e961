"""A caller and the colleague to whom the agent transferred them, both with us.

alone     the agent tells the colleague what it is about; the caller hears music, or ringback
joined    the two hear each other; the agent has left, or is with them: listens, whispers, steps in
parted    the colleague has hung up or pressed `back_key`, or was let go: the caller is the agent's again
"""

from collections.abc import Callable
from typing import Final

from sipagent.calls.call import Call
from sipagent.calls.lifecycle import Lifecycle
from sipagent.rtp import control as media
from sipagent.service import messages

WHISPER_S: Final = 30.0  # a colleague who has answered waits no longer for the caller, whatever is left to be said


class Meeting:
    """One of them. `joined` is called once the two hear each other, `take_back` when the colleague is to be free."""

    def __init__(
        self,
        life: Lifecycle,
        call: Call,
        colleague: Call,
        wish: messages.Transfer,
        joined: Callable[[], None],
        take_back: Callable[[str], None],
    ) -> None:
        self._life, self._call, self._colleague, self._wish = life, call, colleague, wish
        self._joined, self._take_back = joined, take_back
        self._asked = False  # the media plane, to join or to change
        self._told = False  # the agent knows of the colleague
        self.together = False
        self.attended = bool(wish.listen or wish.back or wish.back_key)  # by the agent
        live = life.live[call.id]
        live.when_orphaned = self._orphaned
        live.when_digit = self._caller_pressed
        life.live[colleague.id].when_digit = self._colleague_pressed

    def begin(self) -> None:
        """The colleague has answered."""
        if self._wish.whisper:
            self._bridge(agent=True)
            self._life.timer(self._call, "transfer", WHISPER_S, self.join)
        else:
            self.join()

    def join(self) -> None:
        """Let the two hear each other."""
        if self.together:
            return
        self.together = True
        self._life.cancel_timer(self._call, "transfer")
        self._life.tell_row(self._call, media.StopPlay)
        self._bridge(agent=self.attended)
        if not self.attended:
            self._call.note("colleague", state="joined", second=self._colleague.id)
            self._joined()
            self._life.leave(self._call, "transferred")

    def bridged(self) -> None:
        """The media plane has done so: from now on the agent is heard by whom it speaks to, and may know of it."""
        place = self._colleague.place
        if place is None or not self._asked or (self.together and not self.attended):
            return  # nobody need know that a media plane was started anew
        self._asked = False
        worker = self._call.place.worker if self._call.place is not None else -1
        if self._wish.listen:
            self._life.tell_row(self._colleague, lambda row, generation: media.AssignWorker(row, generation, worker))
        whisper = "" if self.together else self._wish.whisper
        self._call.note("colleague", state="joined" if self.together else "alone", second=self._colleague.id)
        self._told = True
        self._life.tell_worker(
            self._call,
            messages.Colleague(self._call.id, place.row, place.generation, self._wish.listen, self.together, whisper),
        )
        if self.together:
            self._joined()

    def part(self, reason: str) -> None:
        """The caller is the agent's again; one that had left is called back."""
        live = self._life.live[self._call.id]
        live.forget_colleague()
        self._life.tell_row(self._call, media.Unbridge)
        if self.together:
            self._call.note("colleague", state="left", reason=reason)
        if live.left:
            self._life.rejoin(self._call)
        elif self._told:
            self._life.tell_worker(self._call, messages.ColleagueLeft(self._call.id, reason))

    def _bridge(self, *, agent: bool) -> None:
        other = self._colleague.place
        if other is not None:
            self._asked = True
            apart = not self.together
            self._life.tell_row(
                self._call,
                lambda row, generation: media.Bridge(row, generation, other.row, other.generation, agent, apart),
            )

    def _orphaned(self) -> bool:
        """The agent's worker has died: an apology would only disturb the two, who talk on without it."""
        self._call.note("warning", problem="the worker that led this call died while a colleague was on the line")
        self.attended = False
        if self.together:
            self._bridge(agent=False)
            self._life.leave(self._call, "worker died")
        else:
            self.join()
        self._life.live[self._call.id].finished = True
        return True

    def _caller_pressed(self, event: media.Digit) -> bool:
        """Keys of the caller are for the colleague, and for an agent who is with them."""
        if self.together:
            self._relay(self._colleague, event)
        return self.together and not self.attended

    def _colleague_pressed(self, event: media.Digit) -> bool:
        if self.together and event.digit == self._wish.back_key:
            self._take_back("the colleague handed the caller back")
        elif self.together:
            self._relay(self._call, event)
        return True

    def _relay(self, call: Call, event: media.Digit) -> None:
        if event.by != "inband":  # a tone has been heard already
            self._life.tell_row(call, lambda row, generation: media.SendDigits(row, generation, event.digit))
