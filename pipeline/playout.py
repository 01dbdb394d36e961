"""Playout: writes the agent's speech to the line, knows what has been heard of it, and lets nothing be clipped."""

import asyncio
from collections import deque
from dataclasses import dataclass

from sipagent.codecs.resample import resample
from sipagent.pipeline.frames import (
    AgentAudio,
    AgentSilent,
    AgentSpeaking,
    EndCall,
    Frame,
    Heard,
    Interruption,
    Mark,
    Tick,
    Word,
)
from sipagent.pipeline.ledger import Ledger
from sipagent.pipeline.port import AudioPort
from sipagent.pipeline.processor import Push


@dataclass(frozen=True, slots=True)
class PlayoutOptions:
    """How far ahead of the line, and how long behind the end."""

    max_ahead_seconds: float = 20.0  # of speech that waits; who speaks faster waits
    tail_seconds: float = 0.4  # from the last sample sent to the hang-up: the far end's jitter buffer must run dry
    flush_seconds: float = 0.2  # a flush that the media plane has not reported by then is taken as done


class Playout:
    """The last processor. `Mark` and `EndCall` leave it when everything before them has been played."""

    def __init__(self, port: AudioPort, options: PlayoutOptions = PlayoutOptions()) -> None:
        self._port, self._options = port, options
        self._ledger = Ledger(port.rate_hz)
        self._cut: tuple[Ledger, int, float] | None = None  # (what was flushed, played then, the time)
        self._endings: deque[tuple[int, Frame]] = deque()
        self._end_at: float | None = None
        self._speaking = False
        self._now = 0.0
        self._moved = asyncio.Event()

    @property
    def idle(self) -> bool:
        """True when nothing waits to be played."""
        return not self._ledger and self._cut is None and not self._endings

    @property
    def interruptible(self) -> bool:
        """False while something is played, or waits, that must be heard; the end of the call included."""
        return self._ledger.interruptible and not any(isinstance(frame, EndCall) for _, frame in self._endings)

    async def settled(self) -> None:
        """Returns when it is known what was heard before the last interruption."""
        while self._cut is not None:
            await self._wait_for_move()

    async def process(self, frame: Frame, push: Push) -> None:
        """See the class."""
        if isinstance(frame, AgentAudio):
            await self._write(frame)
            await push(frame)
        elif isinstance(frame, Mark | EndCall):
            self._endings.append((self._port.written(), frame))
        elif isinstance(frame, Tick):
            self._now = frame.now
            await self._follow(push)
            await push(frame)
        else:
            if isinstance(frame, Interruption) and self.interruptible and self._ledger:
                self._cut = (self._ledger, self._port.played(), self._now)
                self._ledger = Ledger(self._port.rate_hz)
                self._port.flush()
            await push(frame)

    async def _write(self, frame: AgentAudio) -> None:
        port = self._port
        limit = int(self._options.max_ahead_seconds * port.rate_hz)
        while port.written() - port.played() > limit:
            await self._wait_for_move()
        pcm = resample(frame.pcm, frame.rate_hz, port.rate_hz)
        words = [Word(word.text, word.end_sample * port.rate_hz // frame.rate_hz) for word in frame.words]
        position = port.write(pcm) if len(pcm) else port.written()
        if frame.continues:
            self._ledger.go_on(position, pcm, words, frame.more)
        else:
            self._ledger.write(position, pcm, frame.text, words, frame.more, frame.interruptible)

    async def _follow(self, push: Push) -> None:
        """Tell what has been played since the last tick."""
        played = self._port.played()
        if self._cut is not None:
            ledger, played_then, since = self._cut
            at = self._port.flushed_at()
            if at is not None or self._now - since >= self._options.flush_seconds:
                self._cut = None
                await push(Heard(ledger.cut(played_then if at is None else at), interrupted=True))
        if self._ledger and not self._speaking and played > self._ledger.start:
            self._speaking = True
            await push(AgentSpeaking(self._ledger.start))
        for text in self._ledger.take_heard(played):
            await push(Heard(text))
        if self._speaking and not self._ledger and self._cut is None:
            self._speaking = False
            await push(AgentSilent(played))
        self._moved.set()
        await self._release(played, push)

    async def _release(self, played: int, push: Push) -> None:
        while self._endings and self._cut is None and played >= self._endings[0][0]:
            frame = self._endings[0][1]
            if isinstance(frame, EndCall):
                self._end_at = self._end_at or self._now + self._options.tail_seconds
                if self._now < self._end_at:
                    return
                self._end_at = None
            self._endings.popleft()
            await push(frame)

    async def _wait_for_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()
