"""The ledger of what was written to the line: which words stand at which playout positions, so what was heard."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.pipeline.frames import Word

QUIET: Final = 150  # of 32768: below it a sample belongs to the silence before or behind the words
CHARACTERS_PER_SECOND: Final = 15  # of speech whose end is not known yet


@dataclass(slots=True)
class _Text:
    text: str
    start: int  # where the first audible sample stands
    end: int  # behind the last audible one, so far
    close: int  # behind the last sample, so far
    words: list[Word]  # with absolute ends
    more: bool
    interruptible: bool


class Ledger:
    """Texts in the order of their playout positions, all in samples at `rate_hz`."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._texts: deque[_Text] = deque()

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def interruptible(self) -> bool:
        """False while something stands here that must be heard."""
        return all(text.interruptible for text in self._texts)

    @property
    def start(self) -> int:
        """Where the oldest text begins; only when there is one."""
        return self._texts[0].start

    def write(
        self, position: int, pcm: NDArray[np.int16], text: str, words: Sequence[Word], more: bool, interruptible: bool
    ) -> None:
        """Enter a new text whose first samples `pcm` stand at `position`; words count from there."""
        first, last = audible(pcm)
        self._texts.append(
            _Text(
                text=text,
                start=position + first,
                end=position + last,
                close=position + len(pcm),
                words=[Word(word.text, position + word.end_sample) for word in words],
                more=more,
                interruptible=interruptible,
            )
        )

    def go_on(self, position: int, pcm: NDArray[np.int16], words: Sequence[Word], more: bool) -> None:
        """More audio of the newest text."""
        if not self._texts:
            return
        text = self._texts[-1]
        text.more = more
        if len(pcm):
            text.end, text.close = position + audible(pcm)[1], position + len(pcm)
            text.words += [Word(word.text, position + word.end_sample) for word in words]

    def take_heard(self, played: int) -> list[str]:
        """Remove and return the texts that have been played to their end."""
        done: list[str] = []
        while self._texts and not self._texts[0].more and self._texts[0].close <= played:
            done.append(self._texts.popleft().text)
        return [text for text in done if text]

    def cut(self, position: int) -> str:
        """The ledger is closed at `position`: what of it was heard before, to the whole word."""
        heard = self.take_heard(position)
        if self._texts:
            heard.append(self._part(self._texts[0], position))
        self._texts.clear()
        return " ".join(text for text in heard if text)

    def _part(self, text: _Text, position: int) -> str:
        if text.words:
            return " ".join(word.text for word in text.words if word.end_sample <= position)
        end = text.end
        if text.more:
            end = max(end, text.start + len(text.text) * self._rate_hz // CHARACTERS_PER_SECOND)
        if position >= end:
            return text.text
        share = max(position - text.start, 0) / max(end - text.start, 1)
        characters = int(share * len(text.text))
        cut = text.text[: characters + 1].rfind(" ")
        return text.text[:cut] if cut > 0 else ""


def audible(pcm: NDArray[np.int16]) -> tuple[int, int]:
    """First and behind-last index of the samples of `pcm`, shape (n,), that are not silence; (0, n) if all are."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > QUIET)
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(pcm))
