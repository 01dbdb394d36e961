"""`RemoteBrain`: a brain behind HTTP, in any language, by Flowcat's contract.

    POST {base_url}/session    {"brain_config", "provider"} → {"system_prompt", "tools", "node_id", "collected_vars"}
    POST {base_url}/tool-call  {"node_id", "tool": {"name", "args"}, "collected_vars"}
        → {"action": "transition" | "stay" | "end", "node_id", "collected_vars", "finished",
           "system_prompt" and "tools" with a transition, "say"?, "disposition"?}

A session that cannot be opened refuses the call. A tool call that fails, in whatever way, is a `Stay`: what we know
stays as it was, and the model is told. Nothing is sent twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx2
import msgspec
import structlog

from sipagent.brain.base import Brain
from sipagent.brain.contract import Caller, Decline, End, Stay, Tool, ToolOutcome, Transition

log = structlog.get_logger(__name__)

FAILED: Final = {"error": "the service that runs this tool did not answer"}


class RemoteTool(msgspec.Struct, frozen=True):
    """A tool as the remote names it; `params` is a JSON schema."""

    name: str
    description: str
    params: dict[str, Any]


class Session(msgspec.Struct, frozen=True):
    """Answer to /session; unknown fields are ignored."""

    system_prompt: str
    tools: tuple[RemoteTool, ...]
    node_id: str
    collected_vars: dict[str, Any]


class Moved(msgspec.Struct, frozen=True):
    """Answer to /tool-call; a transition needs `system_prompt` and `tools`."""

    action: str
    node_id: str
    collected_vars: dict[str, Any]
    finished: bool
    system_prompt: str | None = None
    tools: tuple[RemoteTool, ...] | None = None
    say: str | None = None
    disposition: str | None = None


class RemoteBrain(Brain):
    """Options of the route: `base_url`, `provider`, `brain_config` (passed on as it is), `token`, `timeout_s`,
    `greeting` (spoken by us: the contract has none), and `send_call`, which adds an optional `call` object to /session.
    """

    def __init__(
        self,
        base_url: str,
        provider: str = "",
        brain_config: Any = None,
        token: str = "",
        timeout_s: float = 30.0,
        greeting: str = "",
        send_call: bool = False,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx2.AsyncClient(headers=headers, timeout=timeout_s)
        self._base_url = base_url.rstrip("/")
        self._provider, self._brain_config, self._send_call = provider, brain_config, send_call
        self._greeting = greeting
        self._system_prompt, self._node_id = "", ""
        self._tools: Sequence[Tool] = ()
        self._collected_vars: dict[str, Any] = {}
        self._finished = False

    async def on_offer(self, caller: Caller) -> Decline | None:
        """Open the session; without one the call is refused with 503."""
        request: dict[str, Any] = {"brain_config": self._brain_config, "provider": self._provider}
        if self._send_call:
            request["call"] = {
                "id": caller.call_id,
                "direction": caller.direction,
                "from": caller.from_number,
                "to": caller.to_number,
            }
            if caller.stir.result != "unchecked":
                request["call"]["stir"] = msgspec.structs.asdict(caller.stir)
        try:
            session = await self._post("/session", request, Session)
        except (httpx2.HTTPError, msgspec.MsgspecError) as problem:
            log.warning("remote brain gave no session", call_id=caller.call_id, problem=_name(problem))
            return Decline(503, "Service Unavailable")
        self._system_prompt, self._node_id = session.system_prompt, session.node_id
        self._tools, self._collected_vars = _tools(session.tools), session.collected_vars
        return None

    async def greeting(self) -> str | None:
        """The route's."""
        return self._greeting or None

    async def on_end(self, reason: str) -> None:
        """Close the connections."""
        await self._client.aclose()

    def system_prompt(self) -> str:
        """Of the remote's present node."""
        return self._system_prompt

    def tools(self) -> Sequence[Tool]:
        """Of the remote's present node."""
        return self._tools

    async def on_tool_call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Ask the remote; whatever goes wrong is a Stay that changes nothing."""
        request = {
            "node_id": self._node_id,
            "tool": {"name": name, "args": dict(arguments)},
            "collected_vars": self._collected_vars,
        }
        try:
            moved = await self._post("/tool-call", request, Moved)
            outcome = _outcome(moved)
        except (httpx2.HTTPError, msgspec.MsgspecError) as problem:
            log.warning("remote brain failed on a tool call, staying", tool=name, problem=_name(problem))
            return Stay(FAILED)
        self._node_id, self._collected_vars, self._finished = moved.node_id, moved.collected_vars, moved.finished
        if isinstance(outcome, Transition):
            self._system_prompt, self._tools = outcome.system_prompt, outcome.tools
        return outcome

    def is_finished(self) -> bool:
        """As the remote said last."""
        return self._finished

    def collected_vars(self) -> Mapping[str, Any]:
        """As the remote said last."""
        return self._collected_vars

    def current_node_id(self) -> str:
        """The remote's node."""
        return self._node_id

    async def _post(self, path: str, request: Mapping[str, Any], answer: type[Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        response = await self._client.post(self._base_url + path, content=msgspec.json.encode(request), headers=headers)
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=answer)


def _outcome(moved: Moved) -> ToolOutcome:
    if moved.action == "stay":
        return Stay({"status": "stay"})
    if moved.action == "end":
        return End(moved.disposition or "", moved.say or "")
    if moved.action != "transition":
        raise msgspec.ValidationError(f"unknown action {moved.action!r}")
    if moved.system_prompt is None or moved.tools is None:
        raise msgspec.ValidationError("a transition without system_prompt or tools")
    return Transition(moved.system_prompt, _tools(moved.tools), moved.say or "", {"status": "moved"})


def _tools(tools: Sequence[RemoteTool]) -> tuple[Tool, ...]:
    return tuple(Tool(tool.name, tool.description, tool.params) for tool in tools)


def _name(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"
