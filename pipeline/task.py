"""The running of a pipeline: its tasks, its end, its heartbeat and its idle limit."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sipagent.pipeline.frames import (
    AgentAudio,
    AgentSpeaking,
    DigitPressed,
    EndCall,
    ErrorFrame,
    Frame,
    Heartbeat,
    Metric,
    SpeechStarted,
    Start,
    Transcription,
    UserMessage,
)
from sipagent.pipeline.pipeline import Pipeline
from sipagent.pipeline.processor import Background, Push

ACTIVITY = (SpeechStarted, Transcription, UserMessage, DigitPressed, AgentAudio, AgentSpeaking)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Limits of a running pipeline; 0 switches a limit off."""

    idle_seconds: float = 300.0  # nobody says anything for so long: the call ends with reason "idle"
    heartbeat_seconds: float = 0.0
    stalled_seconds: float = 10.0  # a heartbeat that takes longer is reported as an error


class PipelineTask:
    """Runs one pipeline from `Start` until an `EndCall` has come out of its end, or `stop` is called."""

    def __init__(self, pipeline: Pipeline, options: TaskOptions = TaskOptions(), on_end: Push | None = None) -> None:
        """`on_end` sees every frame that leaves the pipeline."""
        self.pipeline = pipeline
        self._options = options
        self._on_end = on_end
        self._head = pipeline.connect(self._leave)
        self._finished = asyncio.Event()
        self._reason = ""
        self._active_at = 0.0
        self._heartbeat_out_at = 0.0
        self._clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()

    async def push(self, frame: Frame) -> None:
        """Give a frame to the head of the pipeline."""
        if isinstance(frame, ACTIVITY):
            self.touch()
        await self._head(frame)

    def touch(self) -> None:
        """Count the present moment as activity: the idle limit begins anew."""
        self._active_at = self._clock()

    def stop(self, reason: str) -> None:
        """End at once; what has not been played is lost. For a graceful end push `EndCall`."""
        if not self._finished.is_set():
            self._reason = reason
            self._finished.set()

    async def run(self) -> str:
        """Run to the end; returns its reason. An unexpected error in a processor comes out as an ExceptionGroup."""
        self._active_at = self._heartbeat_out_at = self._clock()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run(background, push)) for background, push in self.pipeline.background()]
            if self._options.idle_seconds:
                tasks.append(group.create_task(self._watch_idle()))
            if self._options.heartbeat_seconds:
                tasks.append(group.create_task(self._beat()))
            await self._head(Start())
            await self._finished.wait()
            for task in tasks:
                task.cancel()
        return self._reason

    async def _leave(self, frame: Frame) -> None:
        if isinstance(frame, Heartbeat):
            self._heartbeat_out_at = self._clock()
            if self._on_end is not None:
                await self._on_end(Metric("heartbeat_ms", (self._heartbeat_out_at - frame.sent_at) * 1e3))
            return
        if isinstance(frame, ACTIVITY):
            self.touch()
        if self._on_end is not None:
            await self._on_end(frame)
        if isinstance(frame, EndCall):
            self.stop(frame.reason)

    async def _watch_idle(self) -> None:
        while True:
            left = self._active_at + self._options.idle_seconds - self._clock()
            if left <= 0:
                await self._head(EndCall("idle"))
                return
            await asyncio.sleep(left)

    async def _beat(self) -> None:
        period = self._options.heartbeat_seconds
        start = self._clock()
        beats = 0
        reported = False
        while True:
            beats += 1
            await asyncio.sleep(start + beats * period - self._clock())
            silent = self._clock() - self._heartbeat_out_at
            if silent > self._options.stalled_seconds and not reported and self._on_end is not None:
                reported = True
                await self._on_end(ErrorFrame("pipeline", f"no heartbeat came through for {silent:.1f} s"))
            elif silent <= self._options.stalled_seconds:
                reported = False
                await self._head(Heartbeat(self._clock()))


async def _run(background: Background, push: Push) -> None:
    await background.run(push)
