"""Services that answer after a set time, fail, or hang; and responders that say what they are told to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sipagent.errors import ServiceError
from sipagent.pipeline.context import Context
from sipagent.pipeline.frames import Frame
from sipagent.pipeline.responder import Reply, UserTurn
from sipagent.pipeline.speech import Speech, Transcript

HANG = float("inf")


async def wait(seconds: float) -> None:
    await (asyncio.Event().wait() if seconds == HANG else asyncio.sleep(seconds))


def tone(seconds: float, rate_hz: int = 8000, level: int = 8000) -> NDArray[np.int16]:
    pcm: NDArray[np.int16] = (level * np.sin(np.arange(int(seconds * rate_hz)) * 0.3)).astype(np.int16)
    return pcm


@dataclass
class FakeSTT:
    """Hears the texts in order, the last one for ever; `fails` raises instead."""

    texts: Sequence[str] = ("I would like an appointment.",)
    seconds: float = 0.06
    fails: bool = False
    asked: list[int] = field(default_factory=list)  # samples per request

    async def transcribe(self, pcm: NDArray[np.int16], rate_hz: int) -> Transcript:
        self.asked.append(len(pcm))
        text = self.texts[min(len(self.asked), len(self.texts)) - 1]
        await wait(self.seconds)
        if self.fails:
            raise ServiceError("stt", "refused")
        return Transcript(text)


@dataclass
class FakeEndOfTurn:
    value: float = 0.9
    seconds: float = 0.03

    async def probability(self, pcm: NDArray[np.int16], rate_hz: int) -> float:
        await wait(self.seconds)
        return self.value


@dataclass
class FakeTTS:
    """A tone of 60 ms a character, in pieces of half a second."""

    seconds: float = 0.02
    fails: bool = False
    said: list[str] = field(default_factory=list)

    async def synthesize(self, text: str) -> AsyncIterator[Speech]:
        self.said.append(text)
        await wait(self.seconds)
        if self.fails:
            raise ServiceError("tts", "refused")
        pcm = tone(0.06 * len(text))
        for start in range(0, len(pcm), 4000):
            yield Speech(pcm[start : start + 4000], 8000)


@dataclass
class Script:
    """Answers turn n with `replies[n]`, the last one for ever, waiting `seconds` before each piece."""

    replies: Sequence[Sequence[Reply]] = (("Certainly. ", "Which day would suit you?"),)
    seconds: float = 0.01
    turns: list[UserTurn] = field(default_factory=list)
    closed: int = 0

    async def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        self.turns.append(turn)
        try:
            for reply in self.replies[min(len(self.turns), len(self.replies)) - 1]:
                await wait(self.seconds)
                yield reply
        finally:
            self.closed += 1


@dataclass
class Log:
    """What a conversation reported, with the time in seconds since the start."""

    now_s: Callable[[], float]
    frames: list[tuple[float, Frame]] = field(default_factory=list)

    def __call__(self, frame: Frame) -> None:
        self.frames.append((self.now_s(), frame))

    def of(self, kind: type[Frame]) -> list[Frame]:
        return [frame for _, frame in self.frames if isinstance(frame, kind)]

    def times(self, kind: type[Frame]) -> list[float]:
        return [at for at, frame in self.frames if isinstance(frame, kind)]
