"""Frames travel through processors, mailboxes and branches."""

import asyncio

import numpy as np
import pytest

from sipagent.pipeline.frames import (
    Custom,
    EndCall,
    ErrorFrame,
    Frame,
    Interruption,
    Mark,
    Metric,
    Speak,
    SpeechStarted,
    TextDelta,
    Tick,
)
from sipagent.pipeline.mailbox import Mailbox
from sipagent.pipeline.pipeline import ParallelPipeline, Pipeline
from sipagent.pipeline.processor import Push
from sipagent.pipeline.task import PipelineTask, TaskOptions
from tests.support.virtual_time import run_virtual


class Pass:
    async def process(self, frame: Frame, push: Push) -> None:
        await push(frame)


class Sleepy:
    """Works a second on every text; says what became of it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    async def process(self, frame: Frame, push: Push) -> None:
        if isinstance(frame, Speak | TextDelta):
            self.begun.append(frame.text)
            try:
                await asyncio.sleep(1.0)
            except asyncio.CancelledError:
                self.cancelled.append(frame.text)
                raise
        await push(frame)


class Sink:
    def __init__(self) -> None:
        self.frames: list[tuple[float, Frame]] = []

    async def __call__(self, frame: Frame) -> None:
        self.frames.append((asyncio.get_running_loop().time() - 1000.0, frame))

    def of(self, *kinds: type[Frame]) -> list[Frame]:
        return [frame for _, frame in self.frames if isinstance(frame, kinds)]


def test_every_frame_class_is_one_step_below_frame() -> None:
    def depth(kind: type) -> int:
        return max((1 + depth(sub) for sub in kind.__subclasses__()), default=0)

    assert depth(Frame) == 1


def test_a_frame_of_the_users_own_travels_like_the_others() -> None:
    async def main() -> None:
        sink = Sink()
        head = Pipeline([Pass(), Mailbox(Pass()), Pass()]).connect(sink)
        task = asyncio.create_task(PipelineTask(Pipeline([Pass()])).run())
        await asyncio.sleep(0)
        task.cancel()
        await head(Tick(1.0))
        assert sink.of(Tick)

    run_virtual(main())


def test_nested_pipelines_are_one_row() -> None:
    async def main() -> None:
        sink = Sink()
        inner = Pipeline([Pass(), Pass()])
        await Pipeline([Pass(), inner, Pass()]).connect(sink)(Custom("a", 1))
        assert sink.of(Custom) == [Custom("a", 1)]

    run_virtual(main())


def running(*processors: object, options: TaskOptions | None = None) -> tuple[PipelineTask, "asyncio.Task[str]", Sink]:
    sink = Sink()
    task = PipelineTask(Pipeline(processors), options or TaskOptions(idle_seconds=0), sink)  # type: ignore[arg-type]
    return task, asyncio.create_task(task.run()), sink


def test_a_mailbox_does_not_make_its_caller_wait_and_keeps_order() -> None:
    async def main() -> None:
        task, run, sink = running(Mailbox(Sleepy()))
        for text in "abc":
            await task.push(Speak(text))
        assert sink.of(Speak) == []
        await task.push(EndCall("done"))
        assert await run == "done"
        assert [frame.text for frame in sink.of(Speak)] == ["a", "b", "c"]  # type: ignore[attr-defined]

    run_virtual(main())


def test_system_frames_pass_a_busy_mailbox_at_once() -> None:
    async def main() -> None:
        task, run, sink = running(Mailbox(Sleepy()))
        await task.push(Speak("long"))
        await asyncio.sleep(0.1)
        await task.push(SpeechStarted(7))
        assert sink.of(SpeechStarted) == [SpeechStarted(7)]
        task.stop("done")
        await run

    run_virtual(main())


def test_an_interruption_cancels_the_work_and_drops_what_waits() -> None:
    async def main() -> None:
        sleepy = Sleepy()
        box = Mailbox(sleepy)
        task, run, sink = running(box)
        for frame in (Speak("one"), Speak("two"), Mark(1)):
            await task.push(frame)
        await asyncio.sleep(0.1)
        await task.push(Interruption())
        await asyncio.sleep(0.1)
        assert sleepy.cancelled == ["one"]
        assert sleepy.begun == ["one"]
        assert sink.of(Mark) == [Mark(1)]
        assert box.dropped_interrupted == 1
        await task.push(Speak("three"))
        await task.push(EndCall("done"))
        assert await run == "done"
        assert sink.of(Speak) == [Speak("three")]

    run_virtual(main())


def test_what_must_be_heard_survives_an_interruption() -> None:
    async def main() -> None:
        sleepy = Sleepy()
        task, run, sink = running(Mailbox(sleepy))
        await task.push(Speak("goodbye", interruptible=False))
        await task.push(Speak("for ever", interruptible=False))
        await asyncio.sleep(0.1)
        await task.push(Interruption())
        await task.push(EndCall())
        await run
        assert sleepy.cancelled == []
        assert [frame.text for frame in sink.of(Speak)] == ["goodbye", "for ever"]  # type: ignore[attr-defined]

    run_virtual(main())


def test_stopping_a_task_that_was_just_interrupted_ends_it() -> None:
    async def main() -> None:
        task, run, _ = running(Mailbox(Sleepy()))
        await task.push(Speak("one"))
        await asyncio.sleep(0.1)
        await task.push(Interruption())
        task.stop("gone")
        assert await asyncio.wait_for(run, 1.0) == "gone"

    run_virtual(main())


def test_a_full_mailbox_makes_its_caller_wait_and_loses_nothing() -> None:
    async def main() -> None:
        task, run, sink = running(Mailbox(Sleepy(), capacity=2))
        begun = asyncio.get_running_loop().time()
        for text in "abcdef":
            await task.push(Speak(text))
        assert asyncio.get_running_loop().time() - begun >= 3.0
        await task.push(EndCall())
        await run
        assert len(sink.of(Speak)) == 6

    run_virtual(main())


def test_a_frame_that_leaves_both_branches_goes_on_once() -> None:
    async def main() -> None:
        task, run, sink = running(ParallelPipeline([Pass()], [Mailbox(Sleepy())]))
        await task.push(Speak("a"))
        await task.push(EndCall("done"))
        assert await run == "done"
        assert sink.of(Speak, EndCall) == [Speak("a"), EndCall("done")]
        (end_at,) = [at for at, frame in sink.frames if isinstance(frame, EndCall)]
        assert end_at >= 1.0  # a control frame waits for the slowest branch

    run_virtual(main())


def test_nobody_saying_anything_ends_the_call() -> None:
    async def main() -> None:
        task, run, _ = running(Pass(), options=TaskOptions(idle_seconds=5.0))
        await asyncio.sleep(4.0)
        await task.push(SpeechStarted(0))
        await asyncio.sleep(4.0)
        assert not run.done()
        assert await run == "idle"
        assert asyncio.get_running_loop().time() - 1000.0 == pytest.approx(9.0)

    run_virtual(main())


def test_a_stuck_processor_stops_the_heartbeat_and_is_reported_once() -> None:
    class Stuck(Pass):
        async def process(self, frame: Frame, push: Push) -> None:
            if isinstance(frame, TextDelta):
                await asyncio.Event().wait()
            await push(frame)

    async def main() -> None:
        options = TaskOptions(idle_seconds=0, heartbeat_seconds=1.0, stalled_seconds=3.0)
        task, run, sink = running(Mailbox(Stuck()), options=options)
        await asyncio.sleep(2.5)
        assert len(sink.of(Metric)) == 2
        await task.push(TextDelta("x"))
        await asyncio.sleep(10)
        assert [frame.service for frame in sink.of(ErrorFrame)] == ["pipeline"]  # type: ignore[attr-defined]
        task.stop("done")
        await run

    run_virtual(main())


def test_an_error_in_a_processor_ends_the_pipeline() -> None:
    class Broken(Pass):
        async def process(self, frame: Frame, push: Push) -> None:
            if isinstance(frame, TextDelta):
                raise ZeroDivisionError
            await push(frame)

    async def main() -> None:
        task, run, _ = running(Mailbox(Broken()))
        await task.push(TextDelta("x"))
        with pytest.raises(ExceptionGroup) as caught:
            await run
        assert caught.group_contains(ZeroDivisionError)

    run_virtual(main())


def test_observers_see_who_pushed_a_frame() -> None:
    class Watch:
        def __init__(self) -> None:
            self.seen: list[tuple[str, str]] = []

        def on_frame(self, frame: Frame, source: str) -> None:
            self.seen.append((type(frame).__name__, source))

    async def main() -> None:
        watch = Watch()
        pipeline = Pipeline([Pass(), Mailbox(Sleepy())], [watch])
        task = PipelineTask(pipeline, TaskOptions(idle_seconds=0))
        run = asyncio.create_task(task.run())
        await task.push(Speak("a"))
        await task.push(EndCall())
        await run
        assert ("Speak", "Pass") in watch.seen
        assert ("Speak", "Sleepy") in watch.seen

    run_virtual(main())


def test_frames_are_frozen() -> None:
    frame = Custom("name", np.zeros(1))
    with pytest.raises(AttributeError):
        frame.name = "other"  # type: ignore[misc]
