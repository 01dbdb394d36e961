"""A conversation: a pipeline on a call's audio, with what its owner can do to it from outside."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from sipagent.pipeline.context import Context
from sipagent.pipeline.frames import (
    AgentAudio,
    DigitPressed,
    EndCall,
    ErrorFrame,
    Frame,
    Heard,
    Interruption,
    Mark,
    Metric,
    Speak,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Tick,
    Transcription,
    UserMessage,
)
from sipagent.pipeline.pipeline import Pipeline
from sipagent.pipeline.port import AudioPort
from sipagent.pipeline.processor import Processor
from sipagent.pipeline.sentences import SentenceSplitter, speakable
from sipagent.pipeline.silence import SilenceOptions, SilenceWatch
from sipagent.pipeline.task import PipelineTask, TaskOptions

TICK_SECONDS = 0.020
DISPENSABLE = ("end_of_turn",)  # without it every turn ends by silence, which is no reason to end a call


@dataclass(frozen=True, slots=True)
class TalkOptions:
    """What is said of the machinery's own accord, and when it gives up."""

    greeting: str = ""
    greeting_interruptible: bool = True
    apology: str = "I am sorry, something went wrong. Could you say that again, please?"
    not_understood: str = "I am sorry, I did not understand that. Could you say it again, please?"
    failures: int = 3  # of one service in a row, after which the call is ended with reason "service_failure"


class Conversation:
    """One call's conversation. Run `run`; everything else may be called while it runs, from the same event loop."""

    def __init__(
        self,
        port: AudioPort,
        pipeline: Pipeline,
        voice: Processor,
        context: Context,
        *,
        caller_silent: Callable[[], bool],
        agent_silent: Callable[[], bool],
        talk: TalkOptions,
        silence: SilenceOptions,
        task: TaskOptions,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        """`voice` is the processor of `pipeline` that takes `Speak`; the two callables tell who says nothing.

        `on_frame` is told once of every frame that leaves the pipeline, except the ticks.
        """
        self.context = context
        self.held = False  # on hold nobody is asked whether they are there, and silence ends no call
        self.aside = False  # the agent speaks to somebody else, and the caller does not hear it
        self.deaf = False  # what the caller says from now on is not for us
        self._port, self._talk, self._on_frame = port, talk, on_frame
        self._task = PipelineTask(pipeline, task, self._leave)
        self._voice = pipeline.input_of(voice)
        self._caller_silent, self._agent_silent = caller_silent, agent_silent
        self._silence = SilenceWatch(silence)
        self._marks: dict[int, asyncio.Event] = {}
        self._mark_numbers = itertools.count()
        self._failures: dict[str, int] = {}
        self._ending = self._failed = False
        self._woken = asyncio.Event()
        self._ticked_at = 0.0
        self._giving_up: asyncio.Task[None] | None = None

    async def run(self) -> str:
        """Converse until the end; returns its reason. An error in a processor or brain comes out as ExceptionGroup."""
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._tick_forever()), group.create_task(self._greet())]
                reason = await self._task.run()
                for task in beside:
                    task.cancel()
            return reason
        finally:
            if self._giving_up is not None:
                self._giving_up.cancel()
            for event in self._marks.values():
                event.set()
            self.context.commit()

    def stop(self, reason: str) -> None:
        """The far end is gone: end at once."""
        self._task.stop(reason)

    async def say(self, text: str, *, interruptible: bool = True) -> None:
        """Say `text` after all that is being said; returns when it lies in the mailbox of the voice."""
        splitter = SentenceSplitter()
        for sentence in [*splitter.feed(text), *splitter.flush()]:
            if spoken := speakable(sentence):
                await self._voice(Speak(spoken, interruptible))

    async def play(self, audio: AgentAudio) -> None:
        """Play a clip after all that is being said."""
        await self._voice(audio)

    async def wait_until_played(self) -> None:
        """Returns when all that was said before has been played, or was interrupted, or the call is over."""
        number, event = next(self._mark_numbers), asyncio.Event()
        self._marks[number] = event
        await self._voice(Mark(number))
        await event.wait()

    async def end(self, reason: str = "finished", say: str = "") -> None:
        """Say goodbye; when its last syllable has been played, `run` returns `reason`. Only the first call counts."""
        if self._ending:
            return
        self._ending = True
        await self.say(say, interruptible=False)
        await self._voice(EndCall(reason))

    async def digit(self, digit: str, duration_ms: int = 0) -> None:
        """The caller pressed a key."""
        await self._task.push(DigitPressed(digit, duration_ms))

    async def message(self, text: str) -> None:
        """Have `text` answered as if the caller had said it: a typed message, an event."""
        await self._task.push(UserMessage(text))

    async def overheard(self, speaker: str, text: str) -> None:
        """Somebody else on the line has said `text`."""
        await self._task.push(UserMessage(text, speaker))

    async def interrupt(self) -> None:
        """Stop what the agent says and thinks; what must be heard goes on."""
        await self._task.push(Interruption("owner"))

    async def push(self, frame: Frame) -> None:
        """Give a frame of your own to the head of the pipeline."""
        await self._task.push(frame)

    def wake(self) -> None:
        """Audio has moved: look now instead of at the next tick."""
        self._woken.set()

    # ---- inside

    async def _greet(self) -> None:
        if self._talk.greeting:
            await self.say(self._talk.greeting, interruptible=self._talk.greeting_interruptible)

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        period_s = TICK_SECONDS
        while True:
            try:
                async with asyncio.timeout(period_s):
                    await self._woken.wait()
                period_s = 1.5 * TICK_SECONDS  # an owner who wakes us each packet needs no timer beside
            except TimeoutError:
                period_s = TICK_SECONDS
            self._woken.clear()
            await self._look(loop.time())

    async def _look(self, now: float) -> None:
        """Move audio, report the caller's voice; a tick for the pipeline only every so often."""
        self._port.pump()
        for event in self._port.speech_events():
            if event.speaking and self.deaf:
                continue  # the end of what had begun before is reported
            frame = SpeechStarted(event.position) if event.speaking else SpeechStopped(event.position)
            await self._task.push(frame)
        if now - self._ticked_at > TICK_SECONDS / 2:
            self._ticked_at = now
            await self._tick(now)

    async def _tick(self, now: float) -> None:
        waiting = self.held or self.aside
        if waiting:
            self._task.touch()
        await self._task.push(Tick(now))
        if self._failed and self._giving_up is None:
            # In a task of its own: the voice's mailbox may be full, and only ticks can empty it.
            self._giving_up = asyncio.create_task(self._give_up())
        silent = not waiting and not self._ending and self._caller_silent() and self._agent_silent()
        if prompt := self._silence.tick(silent, now):
            if self._silence.over:
                await self.end("silence", prompt)
            else:
                await self.say(prompt)

    async def _give_up(self) -> None:
        """Drop what still waits for a service that fails, and end the call."""
        await self.interrupt()
        await self.end("service_failure")

    async def _leave(self, frame: Frame) -> None:
        """What comes out of the pipeline's end."""
        if self._on_frame is not None and not isinstance(frame, Tick):
            self._on_frame(frame)
        match frame:
            case Heard(text, interrupted):
                if not self.aside:
                    self.context.heard(text, interrupted)
            case Mark(number):
                self._marks.pop(number).set()
            case Transcription(text=text, final=True):
                if text:
                    self._silence.answered()
            case Metric("stt_ms"):
                self._failures.pop("stt", None)
            case DigitPressed():
                self._silence.answered()
            case TextDelta():
                self._failures.pop("responder", None)
            case Metric("tts_ms"):
                self._failures.pop("tts", None)
            case ErrorFrame(service, _, fatal):
                self._count_failure(service, fatal)
            case EndCall():
                self._ending = True

    def _count_failure(self, service: str, fatal: bool) -> None:
        if service in DISPENSABLE:
            return
        self._failures[service] = self._failures.get(service, 0) + 1
        # Ended at the next tick: this runs in the task of whoever failed, who must not wait for itself.
        self._failed = self._failed or fatal or self._failures[service] >= self._talk.failures
