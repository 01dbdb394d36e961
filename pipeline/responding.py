"""Responding: hands each turn to the responder and its answer to the voice; a turn is a transaction in the context."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from sipagent.errors import ServiceError
from sipagent.pipeline.context import Context
from sipagent.pipeline.deadlines import Deadlines, within
from sipagent.pipeline.frames import (
    ErrorFrame,
    Frame,
    KeysEntered,
    ResponseEnded,
    ResponseStarted,
    Speak,
    TextDelta,
    Transcription,
    UserMessage,
)
from sipagent.pipeline.processor import Push
from sipagent.pipeline.responder import Reply, Responder, UserTurn


class Responding:
    """Wrap it in a `Mailbox`: an answer takes its time, and an interruption cancels it.

    `settled` returns when it is known what the caller has heard, which must be in the context before it is read.
    """

    def __init__(
        self,
        responder: Responder,
        context: Context,
        settled: Callable[[], Awaitable[None]],
        deadlines: Deadlines,
        apology: str = "",
    ) -> None:
        self._responder, self._context, self._settled = responder, context, settled
        self._deadlines, self._apology = deadlines, apology

    async def process(self, frame: Frame, push: Push) -> None:
        """Answer final transcriptions, messages and keypad entries; all else goes by."""
        await push(frame)
        match frame:
            case Transcription(text=text, final=True) if text:
                await self._answer(UserTurn(text), text, push)
            case UserMessage(text, speaker):
                await self._answer(UserTurn(text, speaker=speaker), f"[{speaker}] {text}" if speaker else text, push)
            case KeysEntered(digits):
                await self._answer(UserTurn("", digits), f"[pressed {digits}]", push)

    async def _answer(self, turn: UserTurn, text: str, push: Push) -> None:
        await self._settled()
        self._context.begin(text)
        await push(ResponseStarted(text))
        try:
            await self._relay(self._responder.respond(turn, self._context), push)
        except ServiceError as error:
            await push(ErrorFrame("responder", f"{error.service}: {error.problem}"))
            if self._apology:
                await push(Speak(self._apology))
        await push(ResponseEnded())

    async def _relay(self, replies: AsyncIterator[Reply], push: Push) -> None:
        seconds = self._deadlines.first_reply_seconds
        try:
            while (reply := await within(seconds, "responder", anext(replies, None))) is not None:
                seconds = self._deadlines.next_reply_seconds
                await push(TextDelta(reply) if isinstance(reply, str) else reply)
        finally:
            if isinstance(replies, AsyncGenerator):
                await replies.aclose()
