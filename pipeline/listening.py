"""Listening: from voice activity to turns with their words. Drives the turn-taking core and asks the services."""

import asyncio
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sipagent.errors import ServiceError
from sipagent.pipeline.deadlines import Deadlines, within
from sipagent.pipeline.frames import (
    DigitPressed,
    ErrorFrame,
    Frame,
    Interruption,
    Metric,
    Speak,
    SpeechStarted,
    SpeechStopped,
    Tick,
    Transcription,
    TurnEnded,
    TurnStarted,
    TurnUndone,
)
from sipagent.pipeline.port import AudioPort
from sipagent.pipeline.processor import Push
from sipagent.pipeline.speech import EndOfTurn, SpeechToText
from sipagent.pipeline.turn import Action, Began, Do, Judge, Over, State, TurnTaking, Undone, Verdict
from sipagent.pipeline.words import word_count

DUCK_GAIN = 0.25  # -12 dB
END_OF_TURN_SECONDS = 8.0  # of sound that the end-of-turn model hears


class Listening:
    """The first processor: takes `SpeechStarted`, `SpeechStopped`, `Tick`; gives `TurnStarted`, `TurnEnded`,
    `Transcription`, `Interruption`. `agent()` tells whether the agent is (busy, interruptible)."""

    def __init__(
        self,
        port: AudioPort,
        turn: TurnTaking,
        stt: SpeechToText,
        end_of_turn: EndOfTurn | None,
        agent: Callable[[], tuple[bool, bool]],
        deadlines: Deadlines,
        not_understood: str = "",
        max_seconds: float = 30.0,
    ) -> None:
        self._port, self._turn, self._stt, self._end_of_turn = port, turn, stt, end_of_turn
        self._agent, self._deadlines, self._not_understood = agent, deadlines, not_understood
        self._audio = TurnAudio(port, max_seconds)
        self._requests: deque[Judge | Over] = deque()
        self._requested = asyncio.Event()
        self._late = 0  # turns that are over and still without words

    @property
    def caller_silent(self) -> bool:
        """True when the caller neither speaks nor pauses in a turn, and nothing of theirs is being worked on."""
        return self._turn.state is State.SILENT and not self._late

    async def process(self, frame: Frame, push: Push) -> None:
        """See the class."""
        turn, now = self._turn, asyncio.get_running_loop().time()
        if isinstance(frame, Tick):
            turn.agent(*self._agent(), now)
            if turn.state is not State.SILENT:
                self._audio.follow()
            turn.on_deadline(now)
        elif isinstance(frame, SpeechStarted):
            turn.agent(*self._agent(), now)
            silent = turn.state is State.SILENT
            turn.speech_started(frame.position, now)
            if silent:
                self._audio.begin(turn.start)
        elif isinstance(frame, SpeechStopped):
            self._audio.follow()
            turn.speech_stopped(frame.position, now)
        elif isinstance(frame, DigitPressed):
            turn.agent(*self._agent(), now)
            turn.key_pressed(now)
            await self._act(turn.drain(), push)  # before the key: what it begins must not be interrupted by it
        await push(frame)
        await self._act(turn.drain(), push)

    async def run(self, push: Push) -> None:
        """Ask the services. A newer question about a turn replaces the one before."""
        judging: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                await self._requested.wait()
                self._requested.clear()
                while self._requests:
                    request = self._requests.popleft()
                    if isinstance(request, Over):
                        group.create_task(self._transcribe_late(request, push))
                        continue
                    if judging is not None:
                        judging.cancel()
                    judging = group.create_task(self._judge(request, push))

    async def _act(self, actions: list[Action], push: Push) -> None:
        for action in actions:
            match action:
                case Do.DUCK:
                    self._port.set_gain(DUCK_GAIN)
                case Do.UNDUCK:
                    self._port.set_gain(1.0)
                case Do.INTERRUPT:
                    await push(Interruption())
                case Began(start):
                    await push(TurnStarted(start))
                case Undone(text):
                    await push(TurnUndone(text))
                case Judge():
                    self._ask(action)
                case Over(text=None):
                    self._late += 1
                    self._ask(action)
                case Over():
                    await self._finish(action, push)

    def _ask(self, request: Judge | Over) -> None:
        self._requests.append(request)
        self._requested.set()

    async def _finish(self, over: Over, push: Push) -> None:
        pcm = self._audio.cut(over.start, over.end)
        await push(TurnEnded(pcm, self._port.rate_hz, over.start, over.end, over.stopped))
        await push(Transcription(over.text or "", True, over.start, over.end))

    async def _judge(self, request: Judge, push: Push) -> None:
        """Sound and words are judged side by side; the sound to the present moment, as silence is part of it."""
        pcm = self._audio.cut(request.start, self._port.received())
        loop = asyncio.get_running_loop()
        if request.words_only or self._end_of_turn is None:
            text = await self._transcribe(pcm, push)
            probability = None
        else:
            text, probability = await asyncio.gather(
                self._transcribe(pcm, push), self._probability(self._end_of_turn, pcm, push)
            )
        self._turn.judged(request.number, Verdict(probability, text), loop.time())
        actions = self._turn.drain()
        if text and not request.words_only and not any(isinstance(action, Over) for action in actions):
            await push(Transcription(text, False, request.start, request.end))
        await self._act(actions, push)

    async def _transcribe_late(self, over: Over, push: Push) -> None:
        """The turn is over and its words are not known: ask once more, or ask the caller."""
        try:
            text = await self._transcribe(self._audio.cut(over.start, over.end), push)
        finally:
            self._late -= 1
        if text is None:
            if self._not_understood:
                await push(Speak(self._not_understood))
        elif word_count(text):
            await self._finish(Over(over.start, over.end, over.stopped, text), push)
        else:
            await push(TurnUndone(""))

    async def _transcribe(self, pcm: NDArray[np.int16], push: Push) -> str | None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            transcript = await within(self._deadlines.stt_seconds, "stt", self._stt.transcribe(pcm, self._port.rate_hz))
        except ServiceError as error:
            await push(ErrorFrame("stt", error.problem))
            return None
        await push(Metric("stt_ms", (loop.time() - begun) * 1e3))
        return transcript.text

    async def _probability(self, model: EndOfTurn, pcm: NDArray[np.int16], push: Push) -> float | None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        recent = pcm[-int(END_OF_TURN_SECONDS * self._port.rate_hz) :]
        try:
            probability = await within(
                self._deadlines.end_of_turn_seconds, "end_of_turn", model.probability(recent, self._port.rate_hz)
            )
        except ServiceError as error:
            await push(ErrorFrame("end_of_turn", error.problem))
            return None
        await push(Metric("end_of_turn_ms", (loop.time() - begun) * 1e3))
        return probability


class TurnAudio:
    """The sound of the present turn, collected as it comes: the ring of a port holds only some seconds."""

    def __init__(self, port: AudioPort, max_seconds: float) -> None:
        self._port = port
        self._limit = int(max_seconds * port.rate_hz)
        self._pieces: deque[NDArray[np.int16]] = deque()
        self._start = self._end = 0

    def begin(self, start: int) -> None:
        """Forget the turn before; collect from `start` on."""
        self._pieces.clear()
        self._start = self._end = start
        self.follow()

    def follow(self) -> None:
        """Collect what has been received since; beyond the limit the oldest goes."""
        received = self._port.received()
        if received > self._end:
            self._pieces.append(self._port.read(self._end, received))
            self._end = received
        while self._pieces and self._end - self._start - len(self._pieces[0]) >= self._limit:
            self._start += len(self._pieces.popleft())

    def cut(self, start: int, end: int) -> NDArray[np.int16]:
        """Samples [start, end), as far as they were collected, shape (n,)."""
        self.follow()
        pcm = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        return pcm[max(start - self._start, 0) : max(end - self._start, 0)]
