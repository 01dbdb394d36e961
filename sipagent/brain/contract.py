"""The seam between a conversation and the brain that leads it (after Flowcat's `AgentBrain`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sipagent.stir.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a language model may call; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stay:
    """Go on at the same node; `result` goes back to the model."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Transition:
    """Move to another node: a new prompt and new tools; `say` is spoken first."""

    system_prompt: str
    tools: Sequence[Tool] = ()
    say: str = ""
    result: Any = None


@dataclass(frozen=True, slots=True)
class End:
    """End the call, after `say` has been heard to its last sample."""

    disposition: str = ""
    say: str = ""


ToolOutcome = Stay | Transition | End


@dataclass(frozen=True, slots=True)
class Caller:
    """What a brain is told of the call."""

    call_id: str
    direction: str  # "inbound" or "outbound"
    from_number: str
    to_number: str
    from_name: str = ""
    trunk: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False  # another worker had this call before and died
    early_media: bool = True  # the caller can hear us before the answer; false: `EarlyMedia` answers at once
    stir: Verdict = field(default_factory=Verdict)  # who vouches for from_number, when trust anchors are configured


@dataclass(frozen=True, slots=True)
class Decline:
    """What `on_offer` returns to refuse a call before it is answered, with a SIP status.

    With `contact`, a number or SIP URI, and a status such as 302 the caller is told to call there instead.
    """

    status: int = 603
    reason: str = "Decline"
    contact: str = ""
    retry_after_seconds: int = 0  # when to call again; 0 = not said


@dataclass(frozen=True, slots=True)
class EarlyMedia:
    """What `on_offer` returns to be heard, and to listen, before the call is answered: `Brain.on_early_media`.

    Inbound, `call.answer()` or `call.reject(…)` then decides about the call. Outbound, what the network plays before
    the far end answers is heard.
    """


class AgentBrain(Protocol):
    """What a conversation needs of a brain. Coroutines may block their own call only, and no longer than they must."""

    def system_prompt(self) -> str:
        """The prompt of the present node; "" for a brain that answers by itself."""

    def tools(self) -> Sequence[Tool]:
        """Tools of the present node."""

    async def on_tool_call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Run a tool that the model called."""

    def is_finished(self) -> bool:
        """True once the conversation is over; the call ends when everything said has been heard."""

    def collected_vars(self) -> Mapping[str, Any]:
        """What the call brought to light, for its record."""

    def current_node_id(self) -> str:
        """Where in the conversation we are, for logs and records."""
