"""A conversation as a graph: nodes with prompts, edges that the model takes as tools (after Flowcat's graph_spec).

    {"nodes": [{"id", "type", "data": {"prompt", "name", "add_global_prompt"}}],
     "edges": [{"id", "source", "target", "label", "data": {"condition"}}]}

Types: start, agent, end, global. Others (trigger, webhook, qa, tuner, …) may stand in a file and do nothing here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

ALIASES: Final = {"startCall": "start", "agentNode": "agent", "endCall": "end", "globalNode": "global"}
SPOKEN: Final = frozenset({"start", "agent", "end"})


class NodeSpec(msgspec.Struct, frozen=True):
    """A node as it is written."""

    id: str
    type: str
    data: dict[str, Any] = {}


class EdgeSpec(msgspec.Struct, frozen=True):
    """An edge as it is written."""

    id: str
    source: str
    target: str
    label: str = ""
    data: dict[str, Any] = {}


class GraphSpec(msgspec.Struct, frozen=True):
    """A graph as it is written; unknown fields are ignored."""

    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a graph; `kind` is node, edge or graph, `id` names which."""

    kind: str
    id: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}: {self.message}" if self.id else self.message


@dataclass(frozen=True, slots=True)
class Edge:
    """A way on: the tool that takes it, when to take it, and where it leads."""

    tool: str
    condition: str
    target: str


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the conversation; `prompt` has the global one in front of it already."""

    id: str
    name: str
    prompt: str
    ends: bool
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph without problems."""

    start: str
    nodes: Mapping[str, Node]


def problems_of(spec: GraphSpec) -> list[Problem]:
    """Everything that is wrong, in the order of the file."""
    kinds = {node.id: _kind(node) for node in spec.nodes}
    incoming = {edge.target for edge in spec.edges}
    outgoing = {edge.source for edge in spec.edges}
    problems: list[Problem] = []
    if list(kinds.values()).count("start") != 1:
        problems.append(Problem("graph", "", "there must be one start node"))
    if len(kinds) != len(spec.nodes):
        problems.append(Problem("graph", "", "two nodes have the same id"))
    for name, kind in kinds.items():
        if kind == "start" and name in incoming:
            problems.append(Problem("node", name, "nothing may lead to the start"))
        if kind in ("agent", "end") and name not in incoming:
            problems.append(Problem("node", name, "nothing leads here"))
        if kind == "end" and name in outgoing:
            problems.append(Problem("node", name, "an end leads nowhere"))
        if kind == "global" and name in incoming | outgoing:
            problems.append(Problem("node", name, "the global node stands alone"))
    for edge in spec.edges:
        for end in (edge.source, edge.target):
            if end not in kinds:
                problems.append(Problem("edge", edge.id, f"there is no node {end}"))
    return problems


def build(spec: GraphSpec) -> Graph:
    """The graph of a spec that has no problems."""
    directive = next((str(node.data.get("prompt", "")) for node in spec.nodes if _kind(node) == "global"), "")
    nodes = {node.id: _node(node, spec, directive) for node in spec.nodes if _kind(node) in SPOKEN}
    return Graph(next(node.id for node in spec.nodes if _kind(node) == "start"), nodes)


def _node(node: NodeSpec, spec: GraphSpec, directive: str) -> Node:
    data = node.data
    prompt = str(data.get("prompt", ""))
    if directive and prompt and data.get("add_global_prompt", data.get("inherit_global_directive", True)):
        prompt = f"{directive}\n\n{prompt}"
    edges: list[Edge] = []
    for number, edge in enumerate(edge for edge in spec.edges if edge.source == node.id):
        condition = edge.data.get("transition_criteria") or edge.data.get("condition") or edge.label
        tool = _slug(edge.label) or f"transition_{number}"
        if any(tool == other.tool for other in edges):
            tool = f"{tool}_{number}"
        edges.append(Edge(tool, str(condition), edge.target))
    name = str(data.get("name") or data.get("label") or data.get("title") or node.id)
    return Node(node.id, name, prompt, _kind(node) == "end", tuple(edges))


def _kind(node: NodeSpec) -> str:
    return ALIASES.get(node.type, node.type)


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
