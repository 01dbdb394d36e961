"""How a brain answers a turn: by its own rules, or by a language model when `on_user_turn` returns None."""

import asyncio
from collections.abc import AsyncIterator
from inspect import isawaitable
from typing import Any

from sipagent.brain.answering import SIGN_OF_LIFE_S, AnsweredCall, ResponderOptions, closing
from sipagent.brain.base import Brain
from sipagent.brain.model_answer import ModelAnswers
from sipagent.errors import ServiceError
from sipagent.pipeline.chat import ChatModel
from sipagent.pipeline.context import Context
from sipagent.pipeline.frames import EndCall, Speak
from sipagent.pipeline.responder import Reply, UserTurn


class BrainResponder:
    """A pipeline's responder that asks a brain.

    `answering` is True while an answer is made, `ended` when the last one ended the call.
    """

    def __init__(self, brain: Brain, chat: ChatModel | None, options: ResponderOptions, call: AnsweredCall) -> None:
        self._brain, self._options, self._call = brain, options, call
        self._model = ModelAnswers(brain, chat, options, call) if chat is not None else None
        self.answering = self.ended = False

    async def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        """The answer to `turn`; raises ServiceError. Closing the iterator stops it; a tool at work is let finish."""
        self.answering, self.ended = True, False
        aside = self._call.aside
        try:
            async with closing(self._answer(turn, context)) as parts:
                async for part in parts:
                    if self._call.aside and not aside and not isinstance(part, EndCall):
                        continue  # it was for the caller, who talks with somebody else by now
                    self.ended = self.ended or isinstance(part, EndCall)
                    yield part
                    if self.ended:
                        return
            finished = not self._call.aside and self._brain.is_finished()
            if (reason := self._call.ending) is not None or finished:
                self.ended = True
                yield EndCall(reason or "finished")
        finally:
            self.answering = False
            self._call.answered()

    async def _answer(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        overheard = self._call.aside or bool(turn.speaker)
        if overheard:
            if turn.digits:
                return  # the caller's keys are the colleague's while the two are joined
            reply: Any = self._brain.on_overheard(turn.speaker or "caller", turn.text)
        else:
            reply = self._brain.on_digit(turn.digits) if turn.digits else self._brain.on_user_turn(turn.text)
        if isawaitable(reply):
            hook = asyncio.ensure_future(reply)
            async with closing(self._wait_for(hook, "" if overheard else self._options.filler)) as fillers:
                async for filler in fillers:
                    yield filler
            reply = hook.result()
        if isinstance(reply, str):
            if reply:
                yield reply
        elif reply is not None:
            async with closing(reply) as parts:
                async for part in parts:
                    yield part
        elif self._model is not None and not overheard:
            async with closing(self._model.answer(context)) as parts:
                async for part in parts:
                    yield part

    async def _wait_for(self, hook: asyncio.Future[Any], filler: str) -> AsyncIterator[Reply]:
        """Wait for a hook, with a filler when it takes long, and a sign of life as long as it transfers the call."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._options.tool_seconds
        wait_s = self._options.filler_after_ms / 1e3
        try:
            while not (await asyncio.wait({hook}, timeout=wait_s))[0]:
                if self._call.transferring:
                    give_up_at = loop.time() + self._options.tool_seconds
                    yield ""
                elif loop.time() >= give_up_at:
                    raise ServiceError("brain", f"no answer within {self._options.tool_seconds:g} s")
                else:
                    yield Speak(filler) if filler else ""
                    filler = ""
                wait_s = SIGN_OF_LIFE_S
        finally:
            if not hook.done():
                await self._abandon(hook)

    async def _abandon(self, hook: asyncio.Future[Any]) -> None:
        """The caller interrupted: stop the hook, unless it transfers the call, which cannot be called back."""
        if self._call.transferring:
            hook.add_done_callback(self._say_late)
        else:
            hook.cancel()
            await asyncio.wait({hook})

    def _say_late(self, hook: asyncio.Future[Any]) -> None:
        if not hook.cancelled() and hook.exception() is None and isinstance(text := hook.result(), str):
            self._call.say(text)

    async def close(self) -> None:
        """The call is over: cancel what is still at work."""
        if self._model is not None:
            await self._model.close()
