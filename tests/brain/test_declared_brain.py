"""A brain declared as a graph: its rules, its walk, and the variables in its prompts."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sipagent.brain import End, Stay, Transition
from sipagent.brain.declared import DeclaredBrain
from sipagent.brain.interpolate import interpolate
from sipagent.errors import ConfigError
from sipagent.pipeline.frames import EndCall
from tests.brain.fake_call import FakeCall
from tests.brain.http_server import scripted_http
from tests.brain.test_responder import Endpoint, answers, calling, chat_of, responder_of, text

SPEC: dict[str, Any] = {
    "nodes": [
        {"id": "s", "type": "startCall", "data": {}},
        {"id": "g", "type": "globalNode", "data": {"prompt": "Be brief."}},
        {"id": "ask", "type": "agentNode", "data": {"prompt": "Ask {{name | fallback:the caller}} for an order."}},
        {"id": "pay", "type": "agent", "data": {"prompt": "Ask for the card.", "add_global_prompt": False}},
        {"id": "bye", "type": "end", "data": {"prompt": "Say goodbye.", "name": "sold"}},
        {"id": "gone", "type": "end", "data": {}},
        {"id": "w", "type": "webhook", "data": {"url": "x"}},
    ],
    "edges": [
        {"id": "e0", "source": "s", "target": "ask"},
        {"id": "e1", "source": "ask", "target": "pay", "label": "Order taken!", "data": {"condition": "They ordered."}},
        {"id": "e2", "source": "ask", "target": "gone", "data": {"transition_criteria": "They are rude."}},
        {"id": "e3", "source": "pay", "target": "bye", "label": "Paid"},
    ],
}


def brain(**options: Any) -> DeclaredBrain:
    made = DeclaredBrain(**(options or {"graph_spec": SPEC, "variables": {"name": "Ann"}}))
    made.call = FakeCall()
    return made


async def test_the_graph_is_walked_by_tools_and_ends_after_the_goodbye() -> None:
    walk = brain()
    assert walk.current_node_id() == "ask", "a start without a prompt is left at once"
    assert walk.system_prompt() == "Be brief.\n\nAsk Ann for an order."
    assert [(tool.name, tool.description) for tool in walk.tools()][:2] == [
        ("order_taken", "They ordered."),
        ("transition_1", "They are rude."),
    ]
    moved = await walk.on_tool_call("order_taken", {})
    assert isinstance(moved, Transition) and moved.system_prompt == "Ask for the card."
    assert [tool.name for tool in moved.tools] == ["paid", "endCall"] and not walk.is_finished()
    moved = await walk.on_tool_call("paid", {})
    assert isinstance(moved, Transition) and moved.tools == () and walk.is_finished()
    assert walk.collected_vars() == {
        "name": "Ann",
        "nodes_visited": ["s", "ask", "pay", "bye"],
        "call_disposition": "sold",
    }


async def test_an_end_without_a_prompt_and_end_call_end_at_once() -> None:
    assert await brain().on_tool_call("transition_1", {}) == End("gone")
    assert await brain().on_tool_call("endCall", {"disposition": "bored"}) == End("bored")
    assert await brain().on_tool_call("paid", {}) == Stay({"error": "there is no tool paid"})


async def test_the_call_tells_variables_too_and_the_greeting_uses_them() -> None:
    walk = brain(graph_spec=SPEC, greeting="Hello {{name | there}}.")
    assert await walk.greeting() == "Hello there."
    walk.call.set_variable("name", "Bob")
    assert await walk.greeting() == "Hello Bob." and "Ask Bob" in walk.system_prompt()


async def test_a_model_walks_the_graph_and_its_goodbye_ends_the_call() -> None:
    endpoint = Endpoint(calling("order_taken"), text("Which card?"), calling("paid"), text("Goodbye."))
    async with scripted_http(endpoint) as server, chat_of(server) as chat:
        responder = responder_of(brain(), chat)
        assert await answers(responder, "Tea.") == ["Which card?"]
        assert await answers(responder, "This one.") == ["Goodbye.", EndCall("finished")]
    prompts = [request.json()["messages"][0]["content"] for request in server.requests]
    assert prompts[1:] == ["Ask for the card.", "Ask for the card.", "Be brief.\n\nSay goodbye."]


def test_a_graph_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "flow.json").write_text(json.dumps(SPEC))
    assert brain(graph=str(tmp_path / "flow.json")).current_node_id() == "ask"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"nodes": []}, "one start node"),
        ({"nodes": [{"id": "a", "type": "start"}, {"id": "b", "type": "agent"}]}, "node b: nothing leads here"),
        (
            {"nodes": [{"id": "a", "type": "start"}], "edges": [{"id": "e", "source": "a", "target": "x"}]},
            "edge e: there is no node x",
        ),
        (
            {
                "nodes": [{"id": "a", "type": "start"}, {"id": "b", "type": "end"}],
                "edges": [{"id": "e", "source": "a", "target": "b"}, {"id": "f", "source": "b", "target": "a"}],
            },
            "nothing may lead to the start; node b: an end leads nowhere",
        ),
        ({"nodes": [{"id": 1}]}, "is no graph"),
    ],
)
def test_what_is_wrong_with_a_graph_is_named(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        DeclaredBrain(graph_spec=spec)


def test_a_missing_file_and_a_missing_graph_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        DeclaredBrain(graph=str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="either graph or graph_spec"):
        DeclaredBrain()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{a.b.1}}", "y"),
        ("{{a.b.7 | none}}", "none"),
        ("{{ x | fallback: dear caller }}!", "dear caller!"),
        ("{{x}}", ""),
        ("one\\ntwo", "one\ntwo"),
        ("{{current_time}} {{current_date}} {{current_weekday}}", "23:30 2026-11-20 Friday"),
        ("{{current_time_Europe/Berlin}} {{current_weekday_Europe/Berlin}}", "00:30 Saturday"),
        ("{{current_time_Nowhere/Land | ?}}", "?"),
    ],
)
def test_places_in_a_text_are_filled(template: str, expected: str) -> None:
    now = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    assert interpolate(template, {"a": {"b": ["x", "y"]}}, now) == expected
