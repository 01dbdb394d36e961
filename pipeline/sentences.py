"""Cuts streamed text into sentences to be spoken, each as early as it can be told that it is one."""

import re
from typing import Final

from sipagent.pipeline.frames import (
    EndCall,
    Frame,
    Interruption,
    Mark,
    ResponseEnded,
    ResponseStarted,
    Speak,
    TextDelta,
)
from sipagent.pipeline.processor import Push

# An end mark, closing quotes or brackets, and the white space that proves that "3.50" or "example.com" does not go on.
END: Final = re.compile(r"([.!?…]+)[\"'”’)\]]*(\s+)|\n+")
CLAUSE: Final = re.compile(r"(?<=[,;:—–])\s+")
_ABBREVIATIONS: Final = (
    "mr mrs ms dr prof st sr jr vs etc e.g i.e a.m p.m am pm u.s u.k inc ltd co corp no nr tel ext approx dept fig "
    "ave blvd rd apt jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun"
)
ABBREVIATIONS: Final = frozenset(_ABBREVIATIONS.split())
SHORT_WORDS: Final = frozenset({"no", "am", "may", "sun", "sat", "mar"})  # a sentence may well end with these
MIN_CHARACTERS: Final = 12  # a shorter sentence waits for the next one, except the first: somebody is waiting for it
FIRST_CLAUSE_CHARACTERS: Final = 60  # a first sentence longer than this is cut at a comma
MAX_CHARACTERS: Final = 240
MARKUP: Final = (
    (re.compile(r"\[([^\]]+)\]\([^)\s]*\)"), r"\1"),  # [text](address)
    (re.compile(r"^\s*(?:[-*•]|#{1,6})\s+", re.MULTILINE), ""),  # bullets and headings
    (re.compile(r"(?<!\w)[*_`~]{1,3}(?=\S)|(?<=\S)[*_`~]{1,3}(?!\w)"), ""),  # emphasis and code
    (re.compile("[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\u200d]+"), ""),  # pictures
    (re.compile(r"\s+"), " "),
)


def speakable(text: str) -> str:
    """`text` without what a voice cannot say: Markdown, pictures, runs of white space."""
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


class SentenceSplitter:
    """Takes pieces of any length, gives sentences."""

    def __init__(self, min_characters: int = MIN_CHARACTERS, max_characters: int = MAX_CHARACTERS) -> None:
        self._min, self._max = min_characters, max_characters
        self._text = ""
        self._first = True

    def feed(self, piece: str) -> list[str]:
        """The sentences that `piece` completes."""
        self._text += piece
        sentences: list[str] = []
        while (cut := self._next_cut()) is not None:
            sentence, self._text = self._text[:cut].strip(), self._text[cut:]
            if sentence:
                sentences.append(sentence)
                self._first = False
        return sentences

    def flush(self) -> list[str]:
        """What is left, and a fresh start."""
        rest = self._text.strip()
        self.reset()
        return [rest] if rest else []

    def reset(self) -> None:
        """Forget what is left."""
        self._text, self._first = "", True

    def _next_cut(self) -> int | None:
        least = 2 if self._first else self._min
        for match in END.finditer(self._text):
            if len(self._text[: match.end()].strip()) >= least and self._ends_here(match):
                return match.end()
        if self._first and len(self._text) > FIRST_CLAUSE_CHARACTERS:
            for match in CLAUSE.finditer(self._text):
                if match.start() >= FIRST_CLAUSE_CHARACTERS // 2:
                    return match.end()
        if len(self._text) > self._max:
            clauses = [match.end() for match in CLAUSE.finditer(self._text, 0, self._max)]
            return max(clauses, default=0) or self._text.rfind(" ", 1, self._max) + 1 or self._max
        return None

    def _ends_here(self, match: re.Match[str]) -> bool:
        if match[1] is None:  # a line break
            return True
        mark, following = match[1], self._text[match.end() :][:1]
        if mark in ("…", "...", ".."):  # "Well... let me see": only a capital letter begins a new sentence
            return bool(following) and following.isupper()
        if mark != ".":
            return True
        before = self._text[: match.start()].rstrip("\"'”’)]")
        word = re.split(r"[\s(\"“'‘]", before)[-1] if before else ""
        if word.lower() in SHORT_WORDS:
            return bool(following) and not following.isdigit()
        if word.lower() in ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I"):
            return False
        begins_list = word.isdigit() and len(word) <= 2 and not before[: -len(word)].strip()  # "1. First …"
        return not begins_list


class Sentences:
    """Processor: `TextDelta`s in, one `Speak` a sentence out."""

    def __init__(self) -> None:
        self._splitter = SentenceSplitter()

    async def process(self, frame: Frame, push: Push) -> None:
        """Everything that comes after text flushes the text first, so that order is kept."""
        if isinstance(frame, TextDelta):
            for sentence in self._splitter.feed(frame.text):
                await self._speak(sentence, push)
            return
        if isinstance(frame, Interruption | ResponseStarted):
            self._splitter.reset()
        elif isinstance(frame, ResponseEnded | Speak | EndCall | Mark):
            for sentence in self._splitter.flush():
                await self._speak(sentence, push)
        await push(frame)

    async def _speak(self, sentence: str, push: Push) -> None:
        text = speakable(sentence)
        if any(character.isalnum() for character in text):
            await push(Speak(text))
