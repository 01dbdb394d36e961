"""What words say about turn-taking: "uh-huh" takes no turn, and "my name is" does not end one. English."""

import re
from typing import Final

WORD: Final = re.compile(r"[a-z0-9']+")
_BACKCHANNELS: Final = (
    "uh huh|uhhuh|mm hmm|mmhmm|mhm|mm|hmm|hm|uh|um|ah|oh|yeah|yep|yup|okay|ok|right|i see|sure|alright|all right|"
    "got it|of course|go on|aha|wow|great|good|nice|cool|you"  # "you": what Whisper makes of a breath
)
BACKCHANNELS: Final = frozenset(_BACKCHANNELS.split("|"))
_DANGLING: Final = (
    "for the to and or but a an my your our his her their um uh er erm of with at from because if than into by"
)
DANGLING_WORDS: Final = frozenset(_DANGLING.split())
DANGLING_PHRASES: Final = (
    "my name is",
    "name is",
    "number is",
    "address is",
    "it's called",
    "i am",
    "i'm",
    "i'd like",
    "i would like",
    "i want",
    "i need",
    "let me",
    "can you",
    "could you",
    "can i",
    "could i",
    "do you",
    "what about",
    "how about",
)


def words(text: str) -> list[str]:
    """The words of `text` in lower case, without punctuation."""
    return WORD.findall(text.lower().replace("’", "'"))


def word_count(text: str) -> int:
    """How many words `text` has."""
    return len(words(text))


def is_backchannel(text: str) -> bool:
    """True for "uh-huh", "yeah, okay" and the like: the listener goes on listening."""
    rest = words(text)
    if not rest:
        return False
    while rest:
        for length in (2, 1):
            if " ".join(rest[:length]) in BACKCHANNELS:
                rest = rest[length:]
                break
        else:
            return False
    return True


def is_dangling(text: str) -> bool:
    """True when the last words ask for more to come: "to", "and", "my name is"."""
    found = words(text)
    if not found:
        return False
    tail = " ".join(found[-3:])
    return found[-1] in DANGLING_WORDS or any(f" {tail}".endswith(f" {phrase}") for phrase in DANGLING_PHRASES)
