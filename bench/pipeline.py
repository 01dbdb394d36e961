"""Cost of moving a frame through a pipeline: `python -m bench.pipeline [--json]`."""

import argparse
import asyncio
import json
import time

import numpy as np

from sipagent.pipeline.frames import AgentAudio, Frame, ResponseEnded, Tick
from sipagent.pipeline.mailbox import Mailbox
from sipagent.pipeline.pipeline import Pipeline
from sipagent.pipeline.processor import Processor, Push
from sipagent.pipeline.task import PipelineTask, TaskOptions

PROCESSORS = 7  # as Flowcat's speech-to-speech chain
FRAMES = 50_000


class Stage:
    """Looks at the frame as a real stage does and passes it on."""

    seen = 0

    async def process(self, frame: Frame, push: Push) -> None:
        if isinstance(frame, ResponseEnded):
            self.seen += 1
        await push(frame)


class Counter:
    """Counts what leaves the pipeline."""

    def __init__(self) -> None:
        self.frames = 0
        self.enough = asyncio.Event()

    async def __call__(self, frame: Frame) -> None:
        self.frames += 1
        if self.frames > FRAMES:
            self.enough.set()


async def measure(mailboxes: int) -> float:
    """Microseconds a frame through seven processors, of which `mailboxes` have a task of their own; CPU time."""
    stages: list[Processor] = [Stage() for _ in range(PROCESSORS)]
    for index in range(mailboxes):
        stages[2 * index + 1] = Mailbox(stages[2 * index + 1])
    counter = Counter()
    task = PipelineTask(Pipeline(stages), TaskOptions(idle_seconds=0), counter)
    running = asyncio.create_task(task.run())
    await asyncio.sleep(0)
    frame = AgentAudio(np.zeros(160, np.int16), 8000)
    start = time.process_time()
    for _ in range(FRAMES):
        await task.push(frame)
    await counter.enough.wait()
    spent = time.process_time() - start
    task.stop("done")
    await running
    return spent / FRAMES * 1e6


async def run() -> dict[str, float]:
    """All numbers."""
    start = time.process_time()
    for _ in range(FRAMES):
        Tick(0.0)
    made = (time.process_time() - start) / FRAMES * 1e6
    return {
        "processors": PROCESSORS,
        "frame_us": round(min([await measure(0) for _ in range(3)]), 3),
        "frame_with_one_mailbox_us": round(await measure(1), 3),
        "frame_with_three_mailboxes_us": round(await measure(3), 3),
        "frame_creation_us": round(made, 3),
        "frame_limit_us": 10.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    numbers = asyncio.run(run())
    if parser.parse_args().json:
        print(json.dumps(numbers))
        return
    for name, value in numbers.items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
