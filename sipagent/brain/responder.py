"""How a brain answers a turn: by its own rules, or by a language model with the brain's prompt and tools.

on_user_turn ── text ────────────────────────────────────────────► spoken
     └── None ──► model ──► text ────────────────────────────────► spoken
                    ▲  └──► tool call ──► Stay ──────┐
                    │                 ├──► Transition ┤ new prompt and tools
                    └─── result ◄─────┴───────────────┘
                                      └──► End ──► spoken, then the call ends
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, Final, Protocol, TypeVar

import msgspec
import structlog

from sipagent.brain.base import Brain
from sipagent.brain.contract import End, Stay, Tool, ToolOutcome, Transition
from sipagent.errors import ServiceError
from sipagent.pipeline.chat import ChatModel, ToolSpec, Usage
from sipagent.pipeline.context import Context, Message, ToolCall
from sipagent.pipeline.frames import EndCall, Speak
from sipagent.pipeline.responder import Reply, UserTurn

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

SIGN_OF_LIFE_S: Final = 4.0  # the pipeline gives a responder up that is silent for longer than its deadline


class ResponderOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and phrases of the answers."""

    filler: str = "One moment, please."  # said when an answer takes long; "" = nothing
    filler_after_ms: int = 1500
    tool_seconds: float = 20.0  # limit of one tool call, and of a hook of the brain
    tool_rounds: int = 5  # limit of calls to the model in one turn; the last one has no tools


class AnsweredCall(Protocol):
    """What the responder needs of the call, and tells it."""

    @property
    def ending(self) -> str | None:
        """The disposition, once the brain has hung up."""

    @property
    def transferring(self) -> bool:
        """True while a transfer is under way."""

    def say(self, text: str) -> None:
        """Speak outside of an answer."""

    def answered(self) -> None:
        """An answer is complete, or was interrupted."""

    def tool_called(self, name: str, arguments: Mapping[str, Any], result: Any, took_ms: float) -> None:
        """A tool has finished, or failed: then `result` has an "error"."""

    def tokens_used(self, usage: Usage) -> None:
        """The model counted an answer."""


class BrainResponder:
    """A pipeline's responder that asks a brain.

    `answering` is True while an answer is made, `ended` when the last one ended the call.
    """

    def __init__(self, brain: Brain, chat: ChatModel | None, options: ResponderOptions, call: AnsweredCall) -> None:
        self._brain, self._chat, self._options, self._call = brain, chat, options, call
        self.answering = self.ended = False
        self._node: Transition | None = None  # prompt and tools since the last transition
        self._running: list[tuple[ToolCall, asyncio.Task[ToolOutcome]]] = []  # tools at work, in order

    async def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        """The answer to `turn`; raises ServiceError. Closing the iterator stops it; a tool at work is let finish."""
        self.answering, self.ended = True, False
        try:
            async with _closing(self._answer(turn, context)) as parts:
                async for part in parts:
                    self.ended = self.ended or isinstance(part, EndCall)
                    yield part
                    if self.ended:
                        return
            if (reason := self._call.ending) is not None or self._brain.is_finished():
                self.ended = True
                yield EndCall(reason or "finished")
        finally:
            self.answering = False
            self._call.answered()

    async def _answer(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        reply: Any = self._brain.on_digit(turn.digits) if turn.digits else self._brain.on_user_turn(turn.text)
        if isawaitable(reply):
            hook = asyncio.ensure_future(reply)
            async with _closing(self._wait_for(hook)) as fillers:
                async for filler in fillers:
                    yield filler
            reply = hook.result()
        if isinstance(reply, str):
            if reply:
                yield reply
        elif reply is not None:
            async with _closing(reply) as parts:
                async for part in parts:
                    yield part
        elif self._chat is not None:
            async with _closing(self._converse(self._chat, context)) as parts:
                async for part in parts:
                    yield part

    async def _wait_for(self, hook: asyncio.Future[Any]) -> AsyncIterator[Reply]:
        """Wait for a hook, with a filler when it takes long, and a sign of life as long as it transfers the call."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._options.tool_seconds
        wait_s = self._options.filler_after_ms / 1e3
        filler = self._options.filler
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
        """The call is over: cancel the tools that are still at work."""
        tasks = [task for _, task in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- led by a model

    async def _converse(self, chat: ChatModel, context: Context) -> AsyncIterator[Reply]:
        spoke = False
        async for part in self._finish_tools(context, spoke):  # of a turn that was interrupted
            spoke = True
            yield part
            if isinstance(part, EndCall):
                return
        for number in range(self._options.tool_rounds):
            last = number == self._options.tool_rounds - 1
            calls: list[ToolCall] = []
            async with _closing(self._ask(chat, context, calls, with_tools=not last, spoke=spoke)) as parts:
                async for part in parts:
                    spoke = True
                    yield part
            for call in calls if not last else ():  # a model may call what it was not offered
                self._start_tool(call)
            async for part in self._finish_tools(context, spoke):
                spoke = True
                yield part
                if isinstance(part, EndCall):
                    return
            if not calls:
                break
        if not spoke:
            raise ServiceError("chat", "the model said nothing")

    async def _ask(
        self, chat: ChatModel, context: Context, calls: list[ToolCall], *, with_tools: bool, spoke: bool
    ) -> AsyncIterator[Reply]:
        """One request to the model: yields its text and collects its tool calls in `calls`."""
        prompt, tools = self._present_node()
        messages = [Message("system", prompt), *context.messages()] if prompt else context.messages()
        offered = [ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools] if with_tools else []
        filler = "" if spoke else self._options.filler
        stream = chat.stream(messages, offered)
        async with _closing(_with_filler(stream, self._options.filler_after_ms / 1e3, filler)) as events:
            async for event in events:
                if isinstance(event, ToolCall):
                    calls.append(event)
                elif isinstance(event, Usage):
                    self._call.tokens_used(event)
                elif event:
                    yield event

    def _present_node(self) -> tuple[str, Sequence[Tool]]:
        if self._node is not None:
            return self._node.system_prompt, self._node.tools
        return self._brain.system_prompt(), self._brain.tools()

    # ---- tools

    def _start_tool(self, call: ToolCall) -> None:
        before = [task for _, task in self._running]
        self._running.append((call, asyncio.create_task(self._run_tool(call, before), name=f"tool {call.name}")))

    async def _run_tool(self, call: ToolCall, before: Sequence[asyncio.Task[ToolOutcome]]) -> ToolOutcome:
        """Run one tool after those `before` it; what goes wrong is told to the model."""
        if before:
            await asyncio.wait(before)
        try:
            arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            return Stay({"error": "the arguments are not a JSON object"})
        marked = self._brain.tool_method(call.name)
        limit_s = marked.timeout_s if marked is not None and marked.timeout_s else self._options.tool_seconds
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome: ToolOutcome
        try:
            async with asyncio.timeout(limit_s):
                outcome = await self._brain.on_tool_call(call.name, arguments)
        except TimeoutError:
            outcome = Stay({"error": f"{call.name} took longer than {limit_s:g} seconds"})
        except Exception as problem:  # the user's code: a tool that fails is the model's to explain, the call goes on
            log.exception("tool failed", tool=call.name)
            outcome = Stay({"error": f"{call.name} failed: {type(problem).__name__}"})
        self._call.tool_called(call.name, arguments, _result_of(outcome), (loop.time() - started) * 1e3)
        return outcome

    async def _finish_tools(self, context: Context, spoke: bool) -> AsyncIterator[Reply]:
        """Wait for the tools at work, with a filler when one takes long; stage calls and results, obey the outcomes."""
        while self._running:
            call, task = self._running[0]
            marked = self._brain.tool_method(call.name)
            filler = (marked.filler if marked else "") or ("" if spoke else self._options.filler)
            wait_s = self._options.filler_after_ms / 1e3
            while not (await asyncio.wait({task}, timeout=wait_s))[0]:
                spoke = spoke or bool(filler)
                yield Speak(filler) if filler else ""
                filler, wait_s = "", SIGN_OF_LIFE_S
            del self._running[0]
            outcome = task.result()
            context.stage(Message("assistant", "", (call,)), Message("tool", _json(_result_of(outcome)), (), call.id))
            if isinstance(outcome, Transition):
                self._node = outcome
            if not isinstance(outcome, Stay) and outcome.say:
                spoke = True
                yield Speak(outcome.say)
            if isinstance(outcome, End):
                yield EndCall(outcome.disposition or "finished")
                return


@asynccontextmanager
async def _closing(items: AsyncIterator[Item]) -> AsyncGenerator[AsyncIterator[Item], None]:
    """Close the iterator at the end, if it is of the kind that can be closed."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _with_filler(stream: AsyncIterator[Any], after_s: float, filler: str) -> AsyncIterator[Any]:
    """The stream, with `filler` before it when its first event takes longer than `after_s` seconds."""
    end = object()

    async def first_event() -> Any:
        return await anext(stream, end)

    async with _closing(stream):
        first = asyncio.create_task(first_event())
        try:
            done, _ = await asyncio.wait({first}, timeout=after_s if filler else None)
            if not done:
                yield Speak(filler)
            event = await first
        finally:
            if not first.done():
                first.cancel()
                await asyncio.wait({first})
        if event is not end:
            yield event
            async for event in stream:
                yield event


def _result_of(outcome: ToolOutcome) -> Any:
    if isinstance(outcome, End):
        return {"status": "ended"}
    if outcome.result is None:
        return {"status": "moved" if isinstance(outcome, Transition) else "done"}
    return outcome.result


def _json(result: Any) -> str:
    return result if isinstance(result, str) else msgspec.json.encode(result, enc_hook=str).decode()
