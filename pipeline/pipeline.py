"""Pipelines: processors in a row, and branches side by side."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial

from sipagent.pipeline.frames import Frame, Kind, Tick
from sipagent.pipeline.mailbox import Mailbox
from sipagent.pipeline.processor import Background, Observer, Processor, Push

REMEMBERED = 256  # input frames that a ParallelPipeline recognises when they come out of a second branch


class Pipeline:
    """Processors in a row; itself a processor, so that pipelines nest.

    `connect` links them once: from then on a hop is one coroutine call, no lookup and no queue.
    """

    def __init__(self, processors: Sequence[Processor], observers: Sequence[Observer] = ()) -> None:
        self.processors: tuple[Processor, ...] = tuple(_flatten(processors))
        self._observers = tuple(observers)
        self._inputs: list[Push] = []
        self._end: Push | None = None

    def connect(self, end: Push) -> Push:
        """Link the row so that what comes out goes to `end`; returns the push into its head."""
        push = end
        inputs = [end]
        for processor in reversed(self.processors):
            if self._observers:
                push = partial(_observed, self._observers, name_of(processor), push)
            push = partial(processor.process, push=push)
            inputs.insert(0, push)
        self._inputs, self._end = inputs, end
        return inputs[0]

    def input_of(self, processor: Processor) -> Push:
        """The push into one processor of a connected pipeline, past those before it."""
        for index, candidate in enumerate(self.processors):
            if candidate is processor or (isinstance(candidate, Mailbox) and candidate.inner is processor):
                return self._inputs[index]
        raise ValueError(f"{name_of(processor)} is not part of this pipeline")

    def background(self) -> Iterator[tuple[Background, Push]]:
        """Every processor with a task of its own, and what it pushes to. Only after `connect`."""
        for index, processor in enumerate(self.processors):
            if isinstance(processor, Background):
                push = self._inputs[index + 1]
                if self._observers:
                    push = partial(_observed, self._observers, name_of(processor), push)
                yield processor, push
            if isinstance(processor, ParallelPipeline):
                processor.connect(self._inputs[index + 1])
                yield from processor.background()

    async def process(self, frame: Frame, push: Push) -> None:
        """As a part of something else: the row's end is `push`."""
        if push is not self._end:
            self.connect(push)
        await self._inputs[0](frame)


class ParallelPipeline:
    """Branches side by side: each gets every frame. A frame that leaves several branches goes on once.

    Control frames go on when the last branch has let them out, all others with the first.
    """

    def __init__(self, *branches: Sequence[Processor]) -> None:
        if not branches:
            raise ValueError("a ParallelPipeline needs a branch")
        self.branches = tuple(Pipeline(branch) for branch in branches)
        self._heads: tuple[Push, ...] = ()
        self._end: Push | None = None
        self._left: OrderedDict[int, tuple[Frame, int]] = OrderedDict()  # id -> (the frame, branches it has left)

    def connect(self, end: Push) -> None:
        """Link every branch to `end`."""
        if end is not self._end:
            self._end = end
            self._heads = tuple(branch.connect(self._leave) for branch in self.branches)

    def background(self) -> Iterator[tuple[Background, Push]]:
        """As `Pipeline.background`, of every branch."""
        for branch in self.branches:
            yield from branch.background()

    async def process(self, frame: Frame, push: Push) -> None:
        """Give the frame to every branch, in their order."""
        self.connect(push)
        self._left[id(frame)] = (frame, 0)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        for head in self._heads:
            await head(frame)

    async def _leave(self, frame: Frame) -> None:
        assert self._end is not None
        known = self._left.get(id(frame))
        if known is None:  # made inside a branch
            await self._end(frame)
            return
        count = known[1] + 1
        self._left[id(frame)] = (frame, count)
        if count == (len(self.branches) if frame.kind is Kind.CONTROL else 1):
            await self._end(frame)


def name_of(processor: object) -> str:
    """The class name of a processor, that of the inner one for a mailbox."""
    return type(processor.inner if isinstance(processor, Mailbox) else processor).__name__


def _flatten(processors: Sequence[Processor]) -> Iterator[Processor]:
    for processor in processors:
        if isinstance(processor, Pipeline):
            yield from processor.processors
        else:
            yield processor


async def _observed(observers: Sequence[Observer], source: str, push: Push, frame: Frame) -> None:
    if type(frame) is not Tick:
        for observer in observers:
            observer.on_frame(frame, source)
    await push(frame)
