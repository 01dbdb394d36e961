"""`Brain`: the friendly way to write one. Override what you need; everything has a sensible default.

class Parrot(Brain):
    async def greeting(self):
        return "Say something!"

    async def on_user_turn(self, text):
        if "bye" in text.lower():
            self.call.hangup()
        return text
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from inspect import isawaitable
from typing import Any

from sipagent.brain.contract import AgentBrain, Caller, Decline, EarlyMedia, End, Stay, Tool, ToolOutcome, Transition
from sipagent.brain.controls import CallControls
from sipagent.brain.tools import ArgumentsError, ToolMethod, tool_methods

Reply = str | AsyncIterator[str] | None


class Brain:
    """An `AgentBrain` whose answers come from `on_user_turn`, or from a language model when that returns None.

    One object leads one call. `self.call` is there from `on_offer` on. Every hook runs in the loop that also carries
    the other calls of this worker: await what takes time, or hand it to a thread.
    """

    call: CallControls

    async def on_offer(self, caller: Caller) -> Decline | EarlyMedia | None:
        """Before the call is answered (or, outbound, dialled). Return a `Decline` to refuse it, or `EarlyMedia`.

        When you take over from a worker that died, `caller.resumed` is set and the call is under way.
        """
        return None

    async def on_early_media(self) -> str | None:
        """Audio flows before the answer: the first words. Only after `EarlyMedia`; `greeting` follows the answer."""
        return None

    async def greeting(self) -> str | None:
        """The first words, when both sides can talk; None waits for the far end to speak."""
        return None

    async def on_user_turn(self, text: str) -> Reply:
        """The caller said `text`: the answer, or an async iterator of its parts; None asks the language model."""
        return None

    async def on_digit(self, digit: str) -> Reply:
        """The caller pressed a key, or several in quick succession. None asks the language model, if there is one."""
        return None

    async def on_text(self, content_type: str, body: str) -> str | None:
        """The far end sent SIP INFO or MESSAGE. None says nothing."""
        return None

    async def on_overheard(self, speaker: str, text: str) -> Reply:
        """A bridged transfer with `listen`: "caller" or "colleague" said `text` to the other.

        What you return is whispered to the colleague; after `self.call.step_in()` both hear it, and what the caller
        says comes to `on_user_turn` again.
        """
        return None

    async def on_colleague_left(self, reason: str) -> str | None:
        """A bridged transfer with `back`: the colleague is gone, the caller hears you again. None says nothing."""
        return "You are back with me. Is there anything else that I can do for you?"

    async def on_interrupted(self, heard: str) -> None:
        """The caller spoke while we did; `heard` is what of our sentence had left the socket."""

    async def on_resumed(self) -> str | None:
        """The worker that led this call died and you take over, with `self.call.history`; in place of `greeting`."""
        return "Sorry, we were cut off for a moment. Where were we?"

    async def on_end(self, reason: str) -> None:
        """The call is over; nothing can be said any more."""

    # ---- AgentBrain

    def system_prompt(self) -> str:
        """The language model's instructions; "" for a brain that answers by itself."""
        return ""

    def tools(self) -> Sequence[Tool]:
        """Every method marked with `@tool`."""
        return [described.tool for described, _ in tool_methods(self).values()]

    def tool_method(self, name: str) -> ToolMethod | None:
        """How the tool was marked: filler and time limit; None when it is not a method of this brain."""
        found = tool_methods(self).get(name)
        return found[0] if found else None

    async def on_tool_call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Call the marked method. What it returns goes back to the model, unless it is a Transition or an End."""
        found = tool_methods(self).get(name)
        if found is None:
            return Stay({"error": f"there is no tool {name}"})
        described, method = found
        try:
            keywords = described.convert(arguments)
        except ArgumentsError as problem:
            return Stay({"error": str(problem)})
        result = method(**keywords)
        if isawaitable(result):
            result = await result
        return result if isinstance(result, Stay | Transition | End) else Stay(result)

    def is_finished(self) -> bool:
        """True once the conversation is over."""
        return False

    def collected_vars(self) -> Mapping[str, Any]:
        """The call's variables; override it, or use `self.call.set_variable`."""
        return self.call.variables

    def current_node_id(self) -> str:
        """The class's name; a brain of several steps overrides it."""
        return type(self).__name__


class ContractBrain(Brain):
    """A `Brain` around a class that has only the six methods of `AgentBrain`."""

    def __init__(self, inner: AgentBrain) -> None:
        self.inner = inner

    def system_prompt(self) -> str:
        """The inner brain's."""
        return self.inner.system_prompt()

    def tools(self) -> Sequence[Tool]:
        """The inner brain's."""
        return self.inner.tools()

    async def on_tool_call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """The inner brain's."""
        return await self.inner.on_tool_call(name, arguments)

    def is_finished(self) -> bool:
        """The inner brain's."""
        return self.inner.is_finished()

    def collected_vars(self) -> Mapping[str, Any]:
        """The inner brain's."""
        return self.inner.collected_vars()

    def current_node_id(self) -> str:
        """The inner brain's."""
        return self.inner.current_node_id()
