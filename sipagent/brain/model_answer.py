"""An answer made by a language model, with the tools of the brain.

model ──► text ──────────────────────► spoken
  ▲  └──► tool call ──► Stay ──────┐
  │                 ├──► Transition ┤   new prompt and tools
  └─── result ◄─────┴───────────────┘
                    └──► End ──► spoken, then the call ends
"""

from collections.abc import AsyncIterator, Sequence

from sipagent.brain.answering import AnsweredCall, ResponderOptions, closing, with_filler
from sipagent.brain.base import Brain
from sipagent.brain.contract import Tool
from sipagent.brain.tool_runner import ToolRunner
from sipagent.errors import ServiceError
from sipagent.pipeline.chat import ChatModel, ToolSpec, Usage
from sipagent.pipeline.context import Context, Message, ToolCall
from sipagent.pipeline.frames import EndCall
from sipagent.pipeline.responder import Reply


class ModelAnswers:
    """Answers of one call."""

    def __init__(self, brain: Brain, chat: ChatModel, options: ResponderOptions, call: AnsweredCall) -> None:
        self._brain, self._chat, self._options, self._call = brain, chat, options, call
        self._tools = ToolRunner(brain, options, call)

    async def close(self) -> None:
        """The call is over."""
        await self._tools.close()

    async def answer(self, context: Context) -> AsyncIterator[Reply]:
        """The answer to the open turn of `context`; raises ServiceError."""
        spoke = False
        async for part in self._tools.finish(context, spoke):  # of a turn that was interrupted
            spoke = True
            yield part
            if isinstance(part, EndCall):
                return
        for number in range(self._options.tool_rounds):
            last = number == self._options.tool_rounds - 1
            calls: list[ToolCall] = []
            async with closing(self._ask(context, calls, with_tools=not last, spoke=spoke)) as parts:
                async for part in parts:
                    spoke = True
                    yield part
            for call in calls if not last else ():  # a model may call what it was not offered
                self._tools.start(call)
            async for part in self._tools.finish(context, spoke):
                spoke = True
                yield part
                if isinstance(part, EndCall):
                    return
            if not calls:
                break
        if not spoke:
            raise ServiceError("chat", "the model said nothing")

    async def _ask(
        self, context: Context, calls: list[ToolCall], *, with_tools: bool, spoke: bool
    ) -> AsyncIterator[Reply]:
        """One request to the model: yields its text and collects its tool calls in `calls`."""
        prompt, tools = self._present_node()
        messages = [Message("system", prompt), *context.messages()] if prompt else context.messages()
        offered = [ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools] if with_tools else []
        filler = "" if spoke else self._options.filler
        stream = self._chat.stream(messages, offered)
        async with closing(with_filler(stream, self._options.filler_after_ms / 1e3, filler)) as events:
            async for event in events:
                if isinstance(event, ToolCall):
                    calls.append(event)
                elif isinstance(event, Usage):
                    self._call.tokens_used(event)
                elif event:
                    yield event

    def _present_node(self) -> tuple[str, Sequence[Tool]]:
        if (node := self._tools.node) is not None:
            return node.system_prompt, node.tools
        return self._brain.system_prompt(), self._brain.tools()
