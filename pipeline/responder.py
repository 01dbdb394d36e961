"""The seam between a conversation and whatever thinks up its answers: a brain, a model, a script."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from sipagent.pipeline.context import Context
from sipagent.pipeline.frames import Frame

Reply = str | Frame
"""A `str` is a piece of text to be spoken, of any length. A frame goes down the pipeline as it is: `Speak` for a text
that must not be interrupted, `EndCall` when the conversation is over (all before it is heard first), `Custom`, …"""


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the caller said or pressed; `digits` when the turn came from the keypad.

    `speaker` names who said it when that was not the caller.
    """

    text: str
    digits: str = ""
    speaker: str = ""


class Responder(Protocol):
    """Answers one turn at a time. A turn that is interrupted is cancelled: the iterator is closed where it waits."""

    def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        """Yield the answer, as early and in as small pieces as it comes.

        The turn is open in `context` (its user message included): stage tool calls and results there. What is spoken is
        added when it has been heard; do not add it.
        """
