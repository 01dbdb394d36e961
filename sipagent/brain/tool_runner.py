"""Running the tools that a model called, in order, beside the answer that waits for them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import structlog

from sipagent.brain.answering import SIGN_OF_LIFE_S, AnsweredCall, ResponderOptions
from sipagent.brain.base import Brain
from sipagent.brain.contract import End, Stay, ToolOutcome, Transition
from sipagent.pipeline.context import Context, Message, ToolCall
from sipagent.pipeline.frames import EndCall, Speak
from sipagent.pipeline.responder import Reply

log = structlog.get_logger(__name__)


class ToolRunner:
    """The tools of one call. An answer that is interrupted leaves them running; the next one hears of their results.

    `node` is the last Transition that a tool brought.
    """

    def __init__(self, brain: Brain, options: ResponderOptions, call: AnsweredCall) -> None:
        self._brain, self._options, self._call = brain, options, call
        self._running: list[tuple[ToolCall, asyncio.Task[ToolOutcome]]] = []  # in the order of the calls
        self.node: Transition | None = None

    async def close(self) -> None:
        """The call is over: cancel what is still at work."""
        tasks = [task for _, task in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self, call: ToolCall) -> None:
        """Run a tool when those before it are done."""
        before = [task for _, task in self._running]
        self._running.append((call, asyncio.create_task(self._run(call, before), name=f"tool {call.name}")))

    async def _run(self, call: ToolCall, before: Sequence[asyncio.Task[ToolOutcome]]) -> ToolOutcome:
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

    async def finish(self, context: Context, spoke: bool) -> AsyncIterator[Reply]:
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
                self.node = outcome
            if not isinstance(outcome, Stay) and outcome.say:
                spoke = True
                yield Speak(outcome.say)
            if isinstance(outcome, End):
                yield EndCall(outcome.disposition or "finished")
                return


def _result_of(outcome: ToolOutcome) -> Any:
    if isinstance(outcome, End):
        return {"status": "ended"}
    if outcome.result is None:
        return {"status": "moved" if isinstance(outcome, Transition) else "done"}
    return outcome.result


def _json(result: Any) -> str:
    return result if isinstance(result, str) else msgspec.json.encode(result, enc_hook=str).decode()
