"""Frames: what travels through a pipeline. Every one is a frozen record, one step below `Frame`.

    SYSTEM   at once, past everything that waits in a mailbox (speech, interruption, clock)
    DATA     in order; dropped by an interruption unless it says otherwise
    CONTROL  in order; survives an interruption

A frame of your own is a subclass of `Frame`, or a `Custom` with a name and a value.
Positions are samples: of the receive clock for the caller's speech, of the playout clock for the agent's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


class Kind(Enum):
    """How a mailbox treats a frame."""

    SYSTEM = "system"
    DATA = "data"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Frame:
    """The root; `interruptible` frames that wait in a mailbox are dropped by an `Interruption`."""

    kind: ClassVar[Kind] = Kind.DATA

    @property
    def interruptible(self) -> bool:
        """Whether an interruption drops this frame while it waits, and cancels the work on it."""
        return self.kind is Kind.DATA


# ---- life cycle and clock


@dataclass(frozen=True, slots=True)
class Start(Frame):
    """The first frame of every pipeline."""

    kind: ClassVar[Kind] = Kind.SYSTEM


@dataclass(frozen=True, slots=True)
class EndCall(Frame):
    """The last frame: everything before it is heard to its last sample, then the pipeline ends."""

    kind: ClassVar[Kind] = Kind.CONTROL
    reason: str = "finished"


@dataclass(frozen=True, slots=True)
class Tick(Frame):
    """The time, `now` in monotonic seconds, every 20 ms: processors take it from here and never read a clock."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    now: float


@dataclass(frozen=True, slots=True)
class Heartbeat(Frame):
    """Goes through every mailbox in order; the time that it takes shows a stuck processor."""

    kind: ClassVar[Kind] = Kind.CONTROL
    sent_at: float


# ---- the caller


@dataclass(frozen=True, slots=True)
class SpeechStarted(Frame):
    """Voice activity of the caller began at receive `position`."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    position: int


@dataclass(frozen=True, slots=True)
class SpeechStopped(Frame):
    """Voice activity of the caller ended at receive `position`."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    position: int


@dataclass(frozen=True, slots=True)
class TurnStarted(Frame):
    """The caller has the floor; `start` includes the pre-roll."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    start: int


@dataclass(frozen=True, slots=True)
class TurnEnded(Frame):
    """The caller has finished: `pcm` int16 shape (end - start,), `stopped` is where the voice really ended."""

    pcm: NDArray[np.int16]
    rate_hz: int
    start: int
    end: int
    stopped: int


@dataclass(frozen=True, slots=True)
class Transcription(Frame):
    """What the caller said; only a `final` one is answered."""

    text: str
    final: bool = True
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class UserMessage(Frame):
    """Something to be answered that the caller did not speak: typed text, an event that the brain should react to.

    With a `speaker` somebody else has said it, who is on the line with the caller.
    """

    text: str
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class DigitPressed(Frame):
    """The caller pressed a key."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    digit: str
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class KeysEntered(Frame):
    """A complete entry on the keypad, to be answered as a turn; without the closing #."""

    digits: str


@dataclass(frozen=True, slots=True)
class TurnUndone(Frame):
    """What began as a turn was none: noise, or "uh-huh" while the agent spoke."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    text: str


@dataclass(frozen=True, slots=True)
class Interruption(Frame):
    """The caller takes the floor: what waits is dropped, what is being worked on cancelled, playout flushed."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    by: str = "speech"


# ---- the agent


@dataclass(frozen=True, slots=True)
class ResponseStarted(Frame):
    """The responder begins its answer to `user_text`."""

    user_text: str


@dataclass(frozen=True, slots=True)
class TextDelta(Frame):
    """The next piece of an answer, of any length."""

    text: str


@dataclass(frozen=True, slots=True)
class ResponseEnded(Frame):
    """The answer is complete: what is left of it is spoken."""


@dataclass(frozen=True, slots=True)
class Speak(Frame):
    """A text to be spoken, best a sentence."""

    text: str
    interruptible: bool = True


@dataclass(frozen=True, slots=True)
class Word:
    """A word of spoken text: `end_sample` is where it ends, counted from the first sample of its audio."""

    text: str
    end_sample: int


@dataclass(frozen=True, slots=True)
class AgentAudio(Frame):
    """Speech: `pcm` int16 shape (n,), the text that it says, and where its words end (() = spread evenly)."""

    pcm: NDArray[np.int16]
    rate_hz: int
    text: str = ""
    words: tuple[Word, ...] = ()
    interruptible: bool = True
    continues: bool = False  # more audio of the same text as the frame before; `text` is empty
    more: bool = False  # the text goes on in the next frame


@dataclass(frozen=True, slots=True)
class Mark(Frame):
    """Passes the end of the pipeline when everything before it has been heard, or was cut off."""

    kind: ClassVar[Kind] = Kind.CONTROL
    number: int


@dataclass(frozen=True, slots=True)
class AgentSpeaking(Frame):
    """The agent's voice began to leave the socket."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    position: int


@dataclass(frozen=True, slots=True)
class AgentSilent(Frame):
    """All that was written has been played, or flushed."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    position: int


@dataclass(frozen=True, slots=True)
class Heard(Frame):
    """What the caller has heard of the agent since the last `Heard`; `interrupted` when it was cut short."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    text: str
    interrupted: bool = False


# ---- about the pipeline itself


@dataclass(frozen=True, slots=True)
class ErrorFrame(Frame):
    """A service failed or missed its deadline; the conversation goes on unless `fatal`."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    service: str
    problem: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Metric(Frame):
    """One measured number, such as `stt_ms`."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class TurnTimes(Frame):
    """How long a turn took to be answered, from the end of the caller's voice to the first audio written, in ms."""

    kind: ClassVar[Kind] = Kind.SYSTEM
    response_ms: float
    stages_ms: Mapping[str, float]  # pause_detected, end_of_turn, stt, responder, tts


@dataclass(frozen=True, slots=True)
class Custom(Frame):
    """A frame of the user's own, by name."""

    name: str
    value: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)
