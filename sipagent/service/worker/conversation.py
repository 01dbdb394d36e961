"""A cascaded conversation: one call's row, the pipeline, and the brain that leads it.

Offer ──► brain built, on_offer ──► Accept ──► Connected ──► greeting ──► turns … ──► Ended, or Hangup
                             ├────► Reject
                             └────► Accept(early_media) ──► Connected(answered=False) ──► on_early_media ──► turns …
                                        ──► Answer ──► Connected ──► greeting,  or Reject
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from sipagent.brain.base import Brain
from sipagent.brain.contract import Decline, EarlyMedia
from sipagent.brain.loader import build_brain
from sipagent.brain.responder import BrainResponder
from sipagent.codecs.resample import resample
from sipagent.errors import ConfigError
from sipagent.pipeline.cascaded import cascaded
from sipagent.pipeline.context import Context, Message
from sipagent.pipeline.conversation import Conversation
from sipagent.pipeline.frames import AgentAudio, Frame, Heard
from sipagent.pipeline.port import SpeechEvent
from sipagent.rtp.port import RowPort
from sipagent.rtp.table import CallTable
from sipagent.service.messages import (
    Accept,
    Answer,
    Connected,
    DigitPressed,
    Ended,
    Finished,
    FromWorker,
    Hangup,
    HoldChanged,
    Offer,
    Reject,
    TextMessage,
    ToWorker,
    TransferResult,
)
from sipagent.service.worker.answering import AnsweredCall
from sipagent.service.worker.clip import read_clip
from sipagent.service.worker.controls import Controls, plain
from sipagent.service.worker.errands import Errands, Work, in_time
from sipagent.service.worker.meeting import Meeting
from sipagent.service.worker.models import Loaded, Models
from sipagent.service.worker.notes import Notes
from sipagent.service.worker.options import TalkSettings, read_options
from sipagent.service.worker.wake import RowWatch

log = structlog.get_logger(__name__)

END_HOOK_S: Final = 5.0  # what on_end of a brain may take
APOLOGY_S: Final = 8.0


class CascadedCall:
    """One call. `lead` runs from the offer to the end; `receive` and `poll` may come at any time meanwhile."""

    def __init__(
        self,
        offer: Offer,
        table: CallTable,
        watch: RowWatch["CascadedCall"],
        models: Models,
        send: Callable[[FromWorker], None],
        apology: AgentAudio | None,
    ) -> None:
        self._offer, self._table, self._watch, self._models, self._send = offer, table, watch, models, send
        self._apology = apology
        self._errands = Errands()
        self._connected, self._ended = asyncio.Event(), asyncio.Event()
        self._end_reason = ""
        self._accepted = self._early_media = False
        self._answered_at = 0.0
        self._answering: asyncio.Task[None] | None = None
        self._notes = Notes(offer.call_id, send, offer.history)
        self._meeting = Meeting(offer.call_id, table, send, self._notes)
        self._controls = Controls(
            offer,
            send,
            self._errands.post,
            self._say,
            self._play,
            self._answer_when_heard,
            self._end_after_answer,
            self._notes.transcript,
            self._meeting,
        )
        self._answered = AnsweredCall(self._controls, self._notes)
        self._brain: Brain | None = None
        self._port: RowPort[SpeechEvent] | None = None
        self._responder: BrainResponder | None = None
        self._conversation: Conversation | None = None
        self._greeting: Work = _nothing

    # ---- what the worker calls

    async def lead(self) -> None:
        """See the module; raises what the brain raises."""
        settings = read_options(self._offer.talk.pipeline_options)
        brain = self._brain = build_brain(self._offer.talk.brain, self._offer.talk.brain_options)
        brain.call = self._controls
        try:
            if await self._taken(brain, settings):
                loaded = await self._models.cascaded(settings.worker)
                self._accepted = True
                self._send(Accept(self._offer.call_id, self._early_media))
                await self._connected.wait()
                if not self._ended.is_set():
                    await self._converse(brain, settings, loaded)
        finally:
            await self._leave(brain)

    async def give_up(self) -> None:
        """After an error: refuse the call, or say sorry and hang up."""
        if self._port is not None and self._apology is not None and not self._ended.is_set():
            self._port.flush()
            self._port.set_gain(1.0)
            self._port.write(resample(self._apology.pcm, self._apology.rate_hz, self._port.rate_hz))
            give_up_at = time.monotonic() + APOLOGY_S
            while self._port.waiting() and time.monotonic() < give_up_at and not self._ended.is_set():
                self._port.pump()
                await asyncio.sleep(0.1)
        self._controls.refusal = Decline(500, "Server Internal Error")
        self._send(self._last_word("error"))

    def finish(self) -> None:
        """The last word, for the record."""
        usage = {name: round(value, 2) for name, value in self._notes.usage.items()}
        if self._answered_at:
            usage["duration_seconds"] = round(time.monotonic() - self._answered_at, 2)
        disposition = self._controls.ending or ""
        transcript = tuple(self._notes.transcript)
        self._send(Finished(self._offer.call_id, transcript, self._collected_vars(), usage, disposition))

    def poll(self) -> None:
        """The row has moved."""
        if self._conversation is not None:
            self._conversation.wake()

    def receive(self, message: ToWorker) -> None:
        """A message of the signalling plane."""
        if self._meeting.receive(message):
            return
        match message:
            case Connected(answered=answered):
                if answered:
                    self._far_end_answered()
                self._connected.set()
            case Ended(reason=reason):
                self._end_reason = reason
                self._ended.set()
                self._connected.set()
                if self._conversation is not None:
                    self._conversation.stop(reason)
            case DigitPressed(digit=digit, duration_ms=duration_ms):
                self._errands.post(lambda: self._digit(digit, duration_ms))
            case TextMessage(content_type=content_type, body=body):
                self._errands.post(lambda: self._text(content_type, body))
            case TransferResult(outcome=outcome):
                self._controls.transfer_ended(outcome)
            case HoldChanged(held=held) if self._conversation is not None:
                self._conversation.held = held

    # ---- before the call is answered

    async def _taken(self, brain: Brain, settings: TalkSettings) -> bool:
        try:
            async with asyncio.timeout(settings.worker.offer_seconds):
                decision = await brain.on_offer(self._controls.caller)
        except TimeoutError:
            log.warning("brain did not decide about the call in time", seconds=settings.worker.offer_seconds)
            self._send(Reject(self._offer.call_id, 503, "Service Unavailable"))
            return False
        if isinstance(decision, Decline):
            self._send(_reject(self._offer.call_id, decision))
            return False
        self._early_media = isinstance(decision, EarlyMedia)
        return not self._ended.is_set()

    def _last_word(self, reason: str) -> FromWorker:
        """What ends the call from our side: a caller whom we have not answered is refused."""
        waits = self._offer.party.direction == "inbound" and not self._controls.answered
        if waits or not self._accepted:
            return _reject(self._offer.call_id, self._controls.refusal)
        return Hangup(self._offer.call_id, reason)

    # ---- while both sides can talk

    async def _converse(self, brain: Brain, settings: TalkSettings, loaded: Loaded) -> None:
        offer = self._offer
        port = self._port = RowPort(self._table, offer.row, offer.generation, SpeechEvent)
        self._notes.attach(port)
        self._responder = BrainResponder(brain, loaded.chat, settings.answers, self._answered)
        conversation = self._conversation = cascaded(
            port,
            loaded.services,
            self._responder,
            replace(settings.pipeline, talk=replace(settings.pipeline.talk, greeting="")),
            context=_context_of(offer.history),
            on_frame=self._on_frame,
            fallback=self._apology,
        )
        self._meeting.attach(brain, conversation, port, loaded.services, settings.pipeline)
        self._greeting = partial(self._greet, brain, conversation, settings)
        self._watch.add(offer.row, self)
        try:
            async with asyncio.TaskGroup() as group:
                early = not self._controls.answered
                first = partial(self._greet_early, brain, conversation, settings) if early else self._greeting
                beside = [group.create_task(self._errands.run(first)), group.create_task(self._meeting.run())]
                reason = await conversation.run()
                for task in beside:
                    task.cancel()
        finally:
            self._watch.remove(offer.row)
            if self._answering is not None:
                self._answering.cancel()
            await self._responder.close()
        if not self._ended.is_set():
            self._controls.ending = self._controls.ending or reason
            self._send(self._last_word(self._controls.ending))

    async def _greet_early(self, brain: Brain, conversation: Conversation, settings: TalkSettings) -> None:
        if text := await in_time(brain.on_early_media()):
            await conversation.say(text, interruptible=settings.pipeline.talk.greeting_interruptible)

    async def _greet(self, brain: Brain, conversation: Conversation, settings: TalkSettings) -> None:
        talk = settings.pipeline.talk
        if self._offer.resumed:
            text = await in_time(brain.on_resumed())
        else:
            text = await in_time(brain.greeting()) or talk.greeting
        if text:
            await conversation.say(text, interruptible=talk.greeting_interruptible)

    async def _leave(self, brain: Brain) -> None:
        try:
            async with asyncio.timeout(END_HOOK_S):
                await brain.on_end(self._end_reason or self._controls.ending or "")
        except TimeoutError:
            log.warning("brain took too long to end", seconds=END_HOOK_S)
        except Exception:  # the user's code, after the last word: the caller need not hear of it
            log.exception("on_end failed")

    def _on_frame(self, frame: Frame) -> None:
        self._notes.on_frame(frame)
        if isinstance(frame, Heard) and frame.interrupted and self._brain is not None:
            hook = self._brain.on_interrupted
            self._errands.post(lambda: in_time(hook(frame.text)))

    # ---- work for the brain, one thing after the other

    async def _say(self, text: str) -> None:
        if self._conversation is not None:
            await self._conversation.say(text)

    async def _play(self, path: str) -> None:
        if self._conversation is not None:
            try:
                clip = await asyncio.to_thread(read_clip, path, "play")
            except ConfigError as problem:
                self._notes.event("warning", problem=str(problem))
            else:
                await self._conversation.play(clip)

    async def _answer_when_heard(self) -> None:
        """In a task of its own: keys and texts need not wait for the end of an announcement."""
        if self._conversation is not None and self._answering is None:
            self._answering = asyncio.create_task(self._answer_behind(self._conversation))

    async def _answer_behind(self, conversation: Conversation) -> None:
        await conversation.wait_until_played()
        if not self._ended.is_set():
            self._send(Answer(self._offer.call_id))

    def _far_end_answered(self) -> None:
        self._answered_at = time.monotonic()
        early, self._controls.answered = not self._controls.answered, True
        if early and self._conversation is not None:
            self._errands.post(self._greeting)

    async def _digit(self, digit: str, duration_ms: int) -> None:
        if self._conversation is not None:
            await self._conversation.digit(digit, duration_ms)

    async def _text(self, content_type: str, body: str) -> None:
        if self._brain is not None and (text := await in_time(self._brain.on_text(content_type, body))):
            await self._say(text)

    async def _end_after_answer(self) -> None:
        """The brain hung up: the answer in the making ends the call by itself, unless it is interrupted."""
        if self._conversation is None or self._responder is None:
            return
        while self._responder.answering:
            await self._answered.wait_for_answer()
        if not self._responder.ended:
            await self._conversation.end(self._controls.ending or "finished")

    def _collected_vars(self) -> dict[str, Any]:
        if self._brain is None:
            return dict(self._controls.variables)
        try:
            return {str(name): plain(value) for name, value in self._brain.collected_vars().items()}
        except Exception:  # the user's code, at the very end: the record gets what we know ourselves
            log.exception("collected_vars failed")
            return dict(self._controls.variables)


def _reject(call_id: str, decline: Decline) -> Reject:
    return Reject(call_id, decline.status, decline.reason, decline.contact, decline.retry_after_seconds)


def _context_of(history: tuple[Mapping[str, Any], ...]) -> Context:
    """The conversation so far, of a call that another worker led."""
    roles = ("user", "assistant")
    return Context(
        Message(str(line["role"]), str(line["text"]), interrupted=bool(line.get("interrupted", False)))
        for line in history
        if line.get("role") in roles and line.get("text")
    )


async def _nothing() -> None:
    pass
