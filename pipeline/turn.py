"""Who has the floor: turn-taking between caller and agent, without clock, sound or network.

    SILENT ──voice──► SPEAKING ──pause──► PAUSED ──verdict "finished", or none in time──► SILENT + Over
                         ▲  ▲                │
                         │  └────voice───────┤ verdict "not finished"
                         └─────voice────── WAITING ──silence, the longer the less it sounded so──► SILENT + Over

    while the agent is busy (it thinks or speaks):
    SILENT ──voice──► OVERLAP (ducked) ──words, or long enough──► SPEAKING + Interrupt
                         │ ▲
                         ▼ │ voice
                      OVERLAP_PAUSED ──verdict: words──► Interrupt, then as PAUSED
                                     ──verdict: "uh-huh", or nothing──► SILENT + Undone

Feed it with events and the time, carry out what `drain` gives, and call `on_deadline` when `deadline` has come.
"""

from dataclasses import dataclass
from enum import Enum

from sipagent.pipeline.words import is_backchannel, is_dangling, word_count


class State(Enum):
    """See the figure above."""

    SILENT = "silent"
    SPEAKING = "speaking"
    PAUSED = "paused"
    WAITING = "waiting"
    OVERLAP = "overlap"
    OVERLAP_PAUSED = "overlap_paused"


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """Times in seconds."""

    pre_roll_seconds: float = 0.3  # voice activity is late by up to this at a soft word start
    complete_probability: float = 0.5  # of the end-of-turn model
    max_silence_seconds: float = 1.6  # of silence end a turn that did not sound complete at all; 1 - p of it, at p
    min_silence_seconds: float = 0.5  # … but at least this
    unknown_probability: float = 0.4  # when the model failed or is not there
    dangling_silence_seconds: float = 2.6  # end a turn whose words ask for more ("my name is")
    verdict_seconds: float = 2.0  # the verdict on words over the agent is waited for so long
    max_turn_seconds: float = 30.0
    interruption_words: int = 1  # words that interrupt the agent; 0 = voice alone does
    interruption_seconds: float = 0.25  # voice that interrupts, when words do not matter
    first_words_seconds: float = 0.35  # of voice, before words are looked for …
    more_words_seconds: float = 0.25  # … and again after this
    certain_seconds: float = 0.9  # voice that interrupts whatever its words are: no "uh-huh" takes so long
    answer_grace_seconds: float = 0.8  # "yeah" this short before the agent falls silent was an answer


# ---- what is to be done


@dataclass(frozen=True, slots=True)
class Began:
    """The caller has the floor from receive position `start` on."""

    start: int


@dataclass(frozen=True, slots=True)
class Judge:
    """Have samples [start, end) judged, and report with `judged(number, …)`. `words_only`: the sound is not asked."""

    number: int
    start: int
    end: int
    words_only: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """The turn [start, end) is over, the voice ended at `stopped`. `text` is None when nobody could tell the words."""

    start: int
    end: int
    stopped: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Undone:
    """What was heard was no turn: noise, or "uh-huh"."""

    text: str


class Do(Enum):
    """What is to be done with the agent's voice."""

    DUCK = "duck"
    UNDUCK = "unduck"
    INTERRUPT = "interrupt"


Action = Began | Judge | Over | Undone | Do


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about a pause; None = not asked, failed, or too late."""

    probability: float | None = None
    text: str | None = None


class TurnTaking:
    """The state of one call. Positions are samples at `rate_hz`, times monotonic seconds."""

    def __init__(self, options: TurnOptions, rate_hz: int) -> None:
        self._options, self._rate_hz = options, rate_hz
        self.state = State.SILENT
        self.deadline: float | None = None
        self._actions: list[Action] = []
        self._start = self._stopped = self._floor = 0  # `_floor`: a turn begins behind the one before
        self._voice_at = self._paused_at = 0.0
        self._number = 0
        self._text: str | None = None
        self._busy = self._protected = False
        self._answer: tuple[Over, float] | None = None  # a backchannel that may turn out to be the answer

    @property
    def start(self) -> int:
        """Where the present turn begins; meaningless while SILENT."""
        return self._start

    def drain(self) -> list[Action]:
        """What is to be done now, in order."""
        actions, self._actions = self._actions, []
        return actions

    # ---- events

    def agent(self, busy: bool, interruptible: bool, now: float) -> None:
        """Tell whether the agent thinks or speaks, and may be interrupted; at every tick."""
        fell_silent = self._busy and not busy
        shielded = busy and not interruptible and not self._protected
        self._busy, self._protected = busy, busy and not interruptible
        if shielded and self.state in (State.OVERLAP, State.OVERLAP_PAUSED):
            self._actions.append(Do.UNDUCK)  # what is said now is said in full
        if not fell_silent:
            return
        if self.state is State.OVERLAP:
            self._actions.append(Do.UNDUCK)
            self._take_floor(now)
        elif self.state is State.OVERLAP_PAUSED:
            self._actions += [Do.UNDUCK, Began(self._start)]
            self._pause()
        elif self.state is State.SILENT and self._answer is not None and now <= self._answer[1]:
            over = self._answer[0]
            self._actions += [Began(over.start), over]
        self._answer = None

    def speech_started(self, position: int, now: float) -> None:
        """Voice activity began."""
        self._number += 1  # a verdict on the pause before is out of date
        if self.state in (State.PAUSED, State.WAITING):
            self._enter(State.SPEAKING, self._voice_at + self._options.max_turn_seconds)
        elif self.state is State.OVERLAP_PAUSED:
            self._enter(State.OVERLAP, now + self._options.more_words_seconds)
        elif self.state is State.SILENT:
            self._start = max(position - int(self._options.pre_roll_seconds * self._rate_hz), self._floor, 0)
            self._voice_at, self._text, self._answer = now, None, None
            if not self._busy:
                self._take_floor(now)
                return
            options = self._options
            first = options.first_words_seconds if options.interruption_words else options.interruption_seconds
            self._enter(State.OVERLAP, now + first)
            if not self._protected:
                self._actions.append(Do.DUCK)

    def speech_stopped(self, position: int, now: float) -> None:
        """Voice activity ended."""
        if self.state not in (State.SPEAKING, State.OVERLAP):
            return
        self._stopped, self._paused_at = position, now
        if self.state is State.SPEAKING:
            self._pause()
        elif self._protected:
            self._enter(State.SILENT, None)
            return
        else:
            self._enter(State.OVERLAP_PAUSED, now + self._options.verdict_seconds)
        self._ask(position)

    def judged(self, number: int, verdict: Verdict, now: float) -> None:
        """The answer to `Judge`; one that is out of date is ignored."""
        if number != self._number:
            return
        if self.state is State.OVERLAP:
            self._judge_overlap(verdict, now)
        elif self.state is State.OVERLAP_PAUSED:
            if self._interrupts(verdict.text):
                self._interrupt(now)
                self._judge_pause(verdict, now)
            else:
                self._undo(verdict.text or "", now)
        elif self.state is State.PAUSED:
            self._judge_pause(verdict, now)

    def key_pressed(self, now: float) -> None:
        """A key interrupts the agent as a word does."""
        if self._busy and not self._protected:
            self._actions.append(Do.INTERRUPT)
            self._busy = False
            if self.state in (State.OVERLAP, State.OVERLAP_PAUSED):
                self._actions.append(Do.UNDUCK)
                self._enter(State.SILENT, None)

    def on_deadline(self, now: float) -> None:
        """What is due at `deadline`; nothing when it has not come."""
        if self.deadline is None or now < self.deadline:
            return
        self.deadline = None
        if self.state in (State.PAUSED, State.WAITING):
            self._over(self._stopped)
        elif self.state is State.SPEAKING:
            self._stopped = self._start + int((now - self._voice_at) * self._rate_hz)
            self._over(self._stopped)  # as long as a turn may be; or the end of the voice was never reported
        elif self.state is State.OVERLAP_PAUSED:
            self._undo("", now)
        elif self.state is State.OVERLAP and not self._protected:
            certain_at = self._voice_at + self._options.certain_seconds
            if not self._options.interruption_words or now >= certain_at:
                self._interrupt(now)
            else:
                self._number += 1
                voice_s = now - self._voice_at + self._options.pre_roll_seconds
                end = self._start + int(voice_s * self._rate_hz)
                self._actions.append(Judge(self._number, self._start, end, words_only=True))
                self.deadline = certain_at

    # ---- transitions

    def _enter(self, state: State, deadline: float | None) -> None:
        self.state, self.deadline = state, deadline

    def _take_floor(self, now: float) -> None:
        self._enter(State.SPEAKING, self._voice_at + self._options.max_turn_seconds)
        self._actions.append(Began(self._start))

    def _pause(self) -> None:
        self._enter(State.PAUSED, self._paused_at + self._options.max_silence_seconds)

    def _ask(self, position: int) -> None:
        self._number += 1
        self._actions.append(Judge(self._number, self._start, position))

    def _judge_overlap(self, verdict: Verdict, now: float) -> None:
        if self._protected:
            return
        if self._interrupts(verdict.text):
            self._interrupt(now)
        else:
            again = now + self._options.more_words_seconds
            self.deadline = min(again, self._voice_at + self._options.certain_seconds)

    def _judge_pause(self, verdict: Verdict, now: float) -> None:
        self._text = verdict.text
        if verdict.text is not None and not word_count(verdict.text):
            self._undo(verdict.text, now)
            return
        options = self._options
        probability = options.unknown_probability if verdict.probability is None else verdict.probability
        if verdict.text and is_dangling(verdict.text):
            self._wait(options.dangling_silence_seconds, now)
        elif probability >= options.complete_probability:
            self._over(self._stopped)
        else:
            self._wait(max(options.max_silence_seconds * (1 - probability), options.min_silence_seconds), now)

    def _wait(self, silence_s: float, now: float) -> None:
        self._enter(State.WAITING, max(self._paused_at + silence_s, now))

    def _over(self, end: int) -> None:
        self._actions.append(Over(self._start, end, self._stopped, self._text))
        self._floor = end
        self._number += 1
        self._enter(State.SILENT, None)

    def _interrupts(self, text: str | None) -> bool:
        if text is None:  # nobody could tell: voice alone decides, at its own time
            return self.state is State.OVERLAP_PAUSED
        return word_count(text) >= max(self._options.interruption_words, 1) and not is_backchannel(text)

    def _interrupt(self, now: float) -> None:
        self._actions += [Do.INTERRUPT, Do.UNDUCK]
        self._busy = False
        paused = self.state is State.OVERLAP_PAUSED
        self._take_floor(now)
        if paused:
            self._pause()

    def _undo(self, text: str, now: float) -> None:
        overlapped = self.state is State.OVERLAP_PAUSED
        if overlapped:
            self._actions.append(Do.UNDUCK)
            if word_count(text):
                over = Over(self._start, self._stopped, self._stopped, text)
                self._answer = (over, now + self._options.answer_grace_seconds)
        self._actions.append(Undone(text))
        self._floor = self._stopped
        self._number += 1
        self._enter(State.SILENT, None)
