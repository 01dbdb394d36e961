"""Cost of moving a frame through a pipeline, beside pipecat's, and the response time of the offline stack.

python -m bench.pipeline [--cache FOLDER] [--json]
python -m bench.pipeline --offline CALLS [--json]
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.peers import installed
from bench.peers.contenders import PROGRAMS
from sipagent.codecs.resample import resample
from sipagent.pipeline.cascaded import CascadedOptions, Services, cascaded
from sipagent.pipeline.context import Context
from sipagent.pipeline.frames import AgentAudio, AgentSilent, Frame, ResponseEnded, Tick, TurnTimes
from sipagent.pipeline.mailbox import Mailbox
from sipagent.pipeline.pipeline import Pipeline
from sipagent.pipeline.port import SpeechEvent
from sipagent.pipeline.processor import Processor, Push
from sipagent.pipeline.responder import Reply, UserTurn
from sipagent.pipeline.services.hibari import HibariVoice
from sipagent.pipeline.services.smart_turn import SmartTurn
from sipagent.pipeline.services.whisper import Whisper
from sipagent.pipeline.task import PipelineTask, TaskOptions
from sipagent.rtp.port import RowPort
from sipagent.rtp.table import CallTable
from tests.pipeline.fakes import FakeEndOfTurn, FakeSTT, FakeTTS, Script
from tests.support.line import SimulatedLine

PIPECAT = "1.14.0"
PIPECAT_FRAMES = 5_000
PROCESSORS = 7  # as Flowcat's speech-to-speech chain
FRAMES = 50_000
TICKS = 5_000
CLOCK = itertools.count(1e9)  # ahead of the conversation's own
SENTENCES = (
    "I would like to book an appointment for Tuesday.",
    "Is there anything free in the afternoon?",
    "My name is Caroline Miller.",
    "Thank you very much, that is all.",
)


@dataclass(frozen=True)
class Models:
    whisper: Whisper
    smart_turn: SmartTurn
    voice: HibariVoice


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


def pipecat_frame_us(cache: Path) -> float:
    """Microseconds a frame through seven processors of pipecat that pass it on; CPU time. Raises NotInstalledError."""
    python = installed.python_with("pipecat-ai", PIPECAT, cache, built_here="docopt")
    program = [python, PROGRAMS / "pipecat_frames.py", str(PROCESSORS), str(PIPECAT_FRAMES)]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stdout.split()[-1])


async def run(cache: Path) -> dict[str, float | str]:
    """All numbers."""
    start = time.process_time()
    for _ in range(FRAMES):
        Tick(0.0)
    made = (time.process_time() - start) / FRAMES * 1e6
    frame_us = min([await measure(0) for _ in range(3)])
    return {
        "processors": PROCESSORS,
        "frame_us": round(frame_us, 3),
        "frame_with_one_mailbox_us": round(await measure(1), 3),
        "frame_with_three_mailboxes_us": round(await measure(3), 3),
        "frame_creation_us": round(made, 3),
        "idle_conversation_tick_us": round(await tick_cost(), 1),
        "frame_limit_us": 10.0,
        **await asyncio.to_thread(beside_pipecat, cache, frame_us),
    }


def beside_pipecat(cache: Path, frame_us: float) -> dict[str, float | str]:
    """The same through pipecat, and how many times as much that is."""
    try:
        theirs_us = pipecat_frame_us(cache)
    except installed.NotInstalledError as problem:
        return {"pipecat": str(problem)}
    return {"pipecat_frame_us": round(theirs_us, 1), "pipecat_ratio": round(theirs_us / frame_us, 1)}


async def tick_cost() -> float:
    """Microseconds of CPU that an idle conversation costs every 20 ms, the ring reads included."""
    table, _ = CallTable.create(1)
    table.active[0] = table.generation[0] = 1
    table.rate_hz[0] = 8000
    services = Services(FakeSTT(), FakeTTS(), FakeEndOfTurn())
    port = RowPort(table, 0, 1, SpeechEvent)
    conversation = cascaded(port, services, Script(), CascadedOptions(), on_frame=lambda frame: None)
    running = asyncio.create_task(conversation.run())
    await asyncio.sleep(0.05)
    start = time.process_time()
    for _ in range(TICKS):
        await conversation._look(next(CLOCK))
    spent = time.process_time() - start
    conversation.stop("done")
    await running
    return spent / TICKS * 1e6


class Repeat:
    """Answers every turn with one sentence and a second one."""

    async def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        yield f"You said: {turn.text} "
        yield "What else may I do for you?"


async def offline_call(models: Models, caller: list[NDArray[np.int16]], times: list[TurnTimes]) -> None:
    """One call in real time: says each sentence of `caller` when the agent has fallen silent."""
    line, silent = SimulatedLine(), asyncio.Event()

    def on_frame(frame: Frame) -> None:
        if isinstance(frame, TurnTimes):
            times.append(frame)
        if isinstance(frame, AgentSilent):
            silent.set()

    services = Services(models.whisper, models.voice, models.smart_turn)
    conversation = cascaded(line, services, Repeat(), CascadedOptions(), on_frame=on_frame)
    running = asyncio.create_task(conversation.run())
    for pcm in caller:
        silent.clear()
        line.speak(pcm, line.now_s + 0.2)
        await asyncio.wait_for(silent.wait(), 30)
    conversation.stop("done")
    await running


async def offline(calls: int) -> dict[str, float]:
    """End of the caller's voice to first audio written, with the offline models; 250 ms of it until a pause is one."""
    models = Models(Whisper(), SmartTurn(), HibariVoice())
    for model in (models.whisper, models.smart_turn, models.voice):
        await model.warm_up()
    caller = []
    for text in SENTENCES:
        pieces = [piece.pcm async for piece in models.voice.synthesize(text)]
        caller.append(resample(np.concatenate(pieces), 24000, 8000))
    times: list[TurnTimes] = []
    start, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(offline_call(models, caller, times) for _ in range(calls)))
    share = (time.process_time() - cpu) / (time.monotonic() - start) / calls
    response = np.array([each.response_ms for each in times])
    out = {
        "calls": calls,
        "turns": len(times),
        "response_p50_ms": round(float(np.median(response)), 1),
        "response_p95_ms": round(float(np.percentile(response, 95)), 1),
        "cores_per_call": round(share, 4),
    }
    for stage in ("end_of_turn", "stt", "audio"):
        known = [each.stages_ms[stage] for each in times if stage in each.stages_ms]  # a service may miss its deadline
        out[f"{stage}_p50_ms"] = round(float(np.median(known)), 1) if known else -1.0
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--offline", type=int, default=0, metavar="CALLS", help="time this many offline calls at once")
    parser.add_argument("--cache", type=Path, default=installed.CACHE, help="where pipecat is installed")
    arguments = parser.parse_args()
    numbers = asyncio.run(offline(arguments.offline) if arguments.offline else run(arguments.cache))
    if arguments.json:
        print(json.dumps(numbers))
        return
    for name, value in numbers.items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
