"""Telephone recordings that a Debian package brings along, with what is said in them."""

import gzip
import re
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
AVAILABLE = SOUNDS.is_dir() and TEXTS.is_file()
MISSING = "asterisk-core-sounds-en-wav is not installed (apt-get install asterisk-core-sounds-en-wav)"


@dataclass(frozen=True)
class Recording:
    name: str
    text: str
    pcm: NDArray[np.int16]  # 8 kHz, after G.711


def recordings(count: int, min_words: int = 7, max_words: int = 20) -> list[Recording]:
    """The first `count` by name that are sentences of so many words without digits."""
    found: list[Recording] = []
    for line in gzip.decompress(TEXTS.read_bytes()).decode("utf-8", "replace").splitlines():
        match = re.match(r"^([\w/-]+):\s+(.+)$", line)
        if match is None or not min_words <= len(match[2].split()) <= max_words or re.search(r"[\d\[\]()]", match[2]):
            continue
        file = SOUNDS / f"{match[1]}.wav"
        if file.is_file():
            with wave.open(str(file)) as sound:
                pcm = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
            found.append(Recording(match[1], match[2], pcm))
    return found[:count]


def spoken_words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def word_errors(said: str, understood: str) -> int:
    """Words to be changed, added or left out (Levenshtein)."""
    a, b = spoken_words(said), spoken_words(understood)
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
