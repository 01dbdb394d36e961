"""Overhearing: the turns and words of somebody on the line with whom our agent does not talk."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from sipagent.pipeline.cascaded import CascadedOptions, Services
from sipagent.pipeline.frames import Frame, SpeechStarted, SpeechStopped, Tick, Transcription, TurnEnded
from sipagent.pipeline.listening import Listening
from sipagent.pipeline.pipeline import Pipeline
from sipagent.pipeline.port import AudioPort
from sipagent.pipeline.task import PipelineTask
from sipagent.pipeline.turn import TurnTaking

TICK_S: Final = 0.020


class Overhearing:
    """Listens to `port` as long as `run` runs; `on_line(text, seconds)` is told of each turn and how long it was."""

    def __init__(
        self,
        port: AudioPort,
        services: Services,
        options: CascadedOptions,
        on_line: Callable[[str, float], Awaitable[None]],
    ) -> None:
        self._port, self._on_line = port, on_line
        self._seconds = 0.0
        listening = Listening(
            port,
            TurnTaking(options.turn, port.rate_hz),
            services.stt,
            services.end_of_turn,
            agent=lambda: (False, False),
            deadlines=options.deadlines,
            max_seconds=options.turn.max_turn_seconds,
        )
        self._task = PipelineTask(Pipeline([listening]), replace(options.task, idle_seconds=0.0), self._leave)

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._task.run())
            loop = asyncio.get_running_loop()
            while True:
                for event in self._port.speech_events():
                    frame = SpeechStarted(event.position) if event.speaking else SpeechStopped(event.position)
                    await self._task.push(frame)
                await self._task.push(Tick(loop.time()))
                await asyncio.sleep(TICK_S)

    async def _leave(self, frame: Frame) -> None:
        if isinstance(frame, TurnEnded):
            self._seconds = len(frame.pcm) / frame.rate_hz
        elif isinstance(frame, Transcription) and frame.final and frame.text:
            await self._on_line(frame.text, self._seconds)
