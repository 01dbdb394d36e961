"""`DeclaredBrain`: a brain without code. A graph says what is talked about; the language model of the route talks.

    brain = "sipagent.brain.declared:DeclaredBrain"
    brain_options = { graph = "reception.json", greeting = "Hello, how can I help you?" }

The ways out of a node are tools of the model, and so is `endCall`. At an end node the model says what its prompt asks
for, then the call ends; an end node without a prompt ends it at once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from sipagent.brain.base import Brain
from sipagent.brain.contract import End, Stay, Tool, ToolOutcome, Transition
from sipagent.brain.graph import GraphSpec, Node, build, problems_of
from sipagent.brain.interpolate import interpolate
from sipagent.errors import ConfigError

NOTHING: Final[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}
DISPOSITION: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"disposition": {"type": "string", "description": "What came of the call, in a word or two."}},
    "additionalProperties": False,
}
END_CALL: Final = Tool("endCall", "End the call, when the caller wants nothing more.", DISPOSITION)
FIELD: Final = "route.brain_options"


class DeclaredBrain(Brain):
    """Options: `graph` (path of a JSON file) or `graph_spec` (the same, inline), `variables`, `greeting`."""

    def __init__(
        self,
        graph: str = "",
        graph_spec: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        greeting: str = "",
    ) -> None:
        spec = _read(graph, graph_spec)
        if problems := problems_of(spec):
            raise ConfigError(f"{FIELD}.graph", "; ".join(map(str, problems)))
        self._graph = build(spec)
        self._variables = dict(variables or {})
        self._greeting = greeting
        self._disposition = ""
        self._visited: list[str] = []
        self._node = self._enter(self._graph.start)

    async def greeting(self) -> str | None:
        """The route's, with its variables."""
        return self._fill(self._greeting) or None

    def system_prompt(self) -> str:
        """Of the present node."""
        return self._fill(self._node.prompt)

    def tools(self) -> Sequence[Tool]:
        """The ways out of the present node."""
        if self._node.ends:
            return ()
        return (*(Tool(edge.tool, edge.condition, NOTHING) for edge in self._node.edges), END_CALL)

    async def on_tool_call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutcome:
        """Take a way out."""
        if name == END_CALL.name:
            self._disposition = str(arguments.get("disposition") or "finished")
            return End(self._disposition)
        target = next((edge.target for edge in self._node.edges if edge.tool == name), None)
        if target is None:
            return Stay({"error": f"there is no tool {name}"})
        self._node = self._enter(target)
        if self._node.ends:
            self._disposition = self._node.name
            if not self._node.prompt:
                return End(self._disposition)
        return Transition(self.system_prompt(), self.tools(), result={"status": "moved"})

    def is_finished(self) -> bool:
        """True at an end node."""
        return self._node.ends

    def collected_vars(self) -> Mapping[str, Any]:
        """All variables, the way through the graph, and what came of it."""
        outcome = {"call_disposition": self._disposition} if self._disposition else {}
        return {**self._variables, **self.call.variables, "nodes_visited": list(self._visited), **outcome}

    def current_node_id(self) -> str:
        """Of the graph."""
        return self._node.id

    def _enter(self, node_id: str) -> Node:
        """Go to a node; a start without a prompt is left by its first edge at once."""
        node = self._graph.nodes[node_id]
        self._visited.append(node.id)
        if node.id == self._graph.start and not node.prompt and node.edges:
            return self._enter(node.edges[0].target)
        return node

    def _fill(self, text: str) -> str:
        return interpolate(text, {**self._variables, **self.call.variables}, datetime.now().astimezone())


def _read(graph: str, graph_spec: Mapping[str, Any] | None) -> GraphSpec:
    if bool(graph) == (graph_spec is not None):
        raise ConfigError(FIELD, "a declared brain needs a graph", "give either graph or graph_spec")
    try:
        if graph_spec is not None:
            return msgspec.convert(graph_spec, GraphSpec)
        return msgspec.json.decode(Path(graph).read_bytes(), type=GraphSpec)
    except OSError as problem:
        raise ConfigError(f"{FIELD}.graph", f"{graph} cannot be read: {problem.strerror}") from problem
    except msgspec.MsgspecError as problem:
        raise ConfigError(f"{FIELD}.graph", f"is no graph: {problem}") from problem
