"""How a brain answers a turn: by its own rules, or by a language model with the brain's prompt and tools.

on_user_turn ── text ────────────────────────────────────────────► spoken
     └── None ──► model ──► text ────────────────────────────────► spoken
                    ▲  └──► tool call ──► Stay ──────┐
                    │                 ├──► Transition ┤ new prompt and tools
                    └─── result ◄─────┴───────────────┘
                                      └──► End ──► spoken, then the call ends
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from sipagent.brain.base import Brain
from sipagent.brain.contract import End, Stay, Tool, ToolOutcome, Transition
from sipagent.errors import ServiceError
from sipagent.pipeline.chat import ChatModel, ToolSpec, Usage
from sipagent.pipeline.context import Context, Message, ToolCall
from sipagent.pipeline.frames import EndCall, ErrorFrame, Speak
from sipagent.pipeline.responder import Reply, UserTurn

log = structlog.get_logger(__name__)

Item = TypeVar("Item")


class ResponderOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and phrases of the answers."""

    filler: str = "One moment, please."  # said when an answer takes long; "" = nothing
    filler_after_ms: int = 1500
    tool_seconds: float = 20.0  # limit of one tool call
    tool_rounds: int = 5  # limit of calls to the model in one turn; the last one has no tools
    apology: str = "Sorry, something went wrong. Could you say that again?"


class Watcher(Protocol):
    """Is told what the responder does, for the call's record."""

    def tool_called(self, name: str, arguments: Mapping[str, Any], result: Any, took_ms: float) -> None:
        """A tool has finished, or failed: then `result` has an "error"."""

    def tokens_used(self, usage: Usage) -> None:
        """The model counted an answer."""


class BrainResponder:
    """A pipeline's responder that asks a brain; `is_ending` tells whether the brain has hung up meanwhile."""

    def __init__(
        self,
        brain: Brain,
        chat: ChatModel | None,
        options: ResponderOptions,
        watcher: Watcher,
        is_ending: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._brain, self._chat, self._options, self._watcher = brain, chat, options, watcher
        self._is_ending = is_ending
        self._node: Transition | None = None  # prompt and tools since the last transition
        self._running: list[tuple[ToolCall, asyncio.Task[ToolOutcome]]] = []  # tools at work, in order

    async def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        """The answer to `turn`. Closing the iterator stops the speech; a tool that is at work is let finish."""
        reply: Any = self._brain.on_digit(turn.digits) if turn.digits else self._brain.on_user_turn(turn.text)
        if isawaitable(reply):
            reply = await reply
        if isinstance(reply, str):
            if reply:
                yield reply
        elif reply is not None:
            async with _closing(reply) as parts:
                async for part in parts:
                    yield part
        elif self._chat is not None and not turn.digits:
            async with _closing(self._converse(self._chat, context)) as parts:
                async for part in parts:
                    yield part
                    if isinstance(part, EndCall):
                        return
        reason = self._is_ending()
        if reason is not None or self._brain.is_finished():
            yield EndCall(reason or "finished")

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
            try:
                async with _closing(self._ask(chat, context, calls, with_tools=not last, spoke=spoke)) as parts:
                    async for part in parts:
                        spoke = True
                        yield part
            except ServiceError as problem:
                log.warning("language model failed", problem=str(problem))
                yield ErrorFrame("chat", str(problem))
                yield Speak(self._options.apology)
                return
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
            yield Speak(self._options.apology)

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
                    self._watcher.tokens_used(event)
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
        self._watcher.tool_called(call.name, arguments, _result_of(outcome), (loop.time() - started) * 1e3)
        return outcome

    async def _finish_tools(self, context: Context, spoke: bool) -> AsyncIterator[Reply]:
        """Wait for the tools at work, with a filler when one takes long; stage calls and results, obey the outcomes."""
        while self._running:
            call, task = self._running[0]
            marked = self._brain.tool_method(call.name)
            filler = (marked.filler if marked else "") or ("" if spoke else self._options.filler)
            done, _ = await asyncio.wait({task}, timeout=self._options.filler_after_ms / 1e3)
            if not done and filler:
                spoke = True
                yield Speak(filler)
            await asyncio.wait({task})
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
