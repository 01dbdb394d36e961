"""Seven processors of pipecat that pass frames on: prints the microseconds of CPU that a frame costs.

Started with the number of processors and of frames; speaks one line, the figure.
"""

import asyncio
import sys
import time

from loguru import logger
from pipecat.frames.frames import EndFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameProcessor

WAVE = 500  # frames in flight at once: an endless queue would be timed too
logger.remove()


class Stage(FrameProcessor):
    """Passes every frame on."""

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class Last(Stage):
    """Counts what arrives."""

    def __init__(self):
        super().__init__()
        self.frames = 0
        self.wanted = 0
        self.enough = asyncio.Event()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputAudioRawFrame):
            self.frames += 1
            if self.frames == self.wanted:
                self.enough.set()


async def main(processors: int, frames: int) -> None:
    last = Last()
    task = PipelineTask(
        Pipeline([*(Stage() for _ in range(processors - 1)), last]),
        params=PipelineParams(enable_metrics=False),
        cancel_on_idle_timeout=False,
    )
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    audio = bytes(320)

    async def wave(count: int) -> None:
        last.wanted = last.frames + count
        last.enough.clear()
        for _ in range(count):
            await task.queue_frame(OutputAudioRawFrame(audio=audio, sample_rate=8000, num_channels=1))
        await last.enough.wait()

    await wave(WAVE)
    start = time.process_time()
    for _ in range(frames // WAVE):
        await wave(WAVE)
    print((time.process_time() - start) / (frames // WAVE * WAVE) * 1e6, flush=True)
    await task.queue_frame(EndFrame())
    await running


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
