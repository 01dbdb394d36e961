"""RemoteBrain against a scripted HTTP server: the contract to the byte, and what happens when the remote fails."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sipagent.brain import Caller, Decline, End, Stay, Tool, Transition
from sipagent.brain.remote import FAILED, RemoteBrain
from sipagent.stir.verdict import Verdict
from tests.brain.http_server import Request, answer, scripted_http

CALLER = Caller("call-1", "inbound", "+4930123", "+4930456")
PARAMS = {"type": "object", "properties": {}}
SESSION = {
    "system_prompt": "You sell tea.",
    "tools": [{"name": "order", "description": "Order tea.", "params": PARAMS, "future": True}],
    "node_id": "start",
    "collected_vars": {"shop": "tea"},
    "unknown": [1, 2],
}


class Remote:
    """A remote brain's server: `moved` is what /tool-call answers."""

    def __init__(self, moved: Any = None, status: str = "200 OK", session: Any = SESSION) -> None:
        self.moved, self.status, self.session = moved, status, session

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("/session"):
            answer(writer, self.session)
        elif self.moved == "hang":
            await asyncio.sleep(1)
        else:
            answer(writer, self.moved, self.status)


async def test_the_session_request_is_flowcats_and_its_answer_is_the_first_node() -> None:
    async with scripted_http(Remote()) as server:
        brain = RemoteBrain(server.url + "/brain//", "gemini", {"graph": 7}, token="s3cret")
        assert await brain.on_offer(CALLER) is None
        await brain.on_end("done")
    request = server.requests[0]
    assert request.path == "/brain/session"
    assert request.body == b'{"brain_config":{"graph":7},"provider":"gemini"}'
    assert request.headers["authorization"] == "Bearer s3cret"
    assert brain.system_prompt() == "You sell tea." and brain.current_node_id() == "start"
    assert brain.tools() == (Tool("order", "Order tea.", PARAMS),)
    assert brain.collected_vars() == {"shop": "tea"} and not brain.is_finished()


async def test_the_call_is_told_only_to_a_remote_that_wants_it() -> None:
    async with scripted_http(Remote()) as server:
        brain = RemoteBrain(server.url, send_call=True)
        await brain.on_offer(CALLER)
        await brain.on_end("done")
    assert server.requests[0].json()["call"] == {
        "id": "call-1",
        "direction": "inbound",
        "from": "+4930123",
        "to": "+4930456",
    }


async def test_a_remote_is_told_who_vouches_for_the_caller_when_that_was_checked() -> None:
    async with scripted_http(Remote()) as server:
        brain = RemoteBrain(server.url, send_call=True)
        await brain.on_offer(replace(CALLER, stir=Verdict("failed", status=438, reason="x")))
        await brain.on_end("done")
    assert server.requests[0].json()["call"]["stir"]["status"] == 438


@pytest.mark.parametrize("session", [{"system_prompt": "x"}, [], b"not json"])
async def test_a_session_that_cannot_be_opened_refuses_the_call(session: Any) -> None:
    async with scripted_http(Remote(session=session)) as server:
        brain = RemoteBrain(server.url)
        assert await brain.on_offer(CALLER) == Decline(503, "Service Unavailable")
        await brain.on_end("done")


async def test_a_remote_that_is_not_there_refuses_the_call() -> None:
    brain = RemoteBrain("http://127.0.0.1:9")
    assert await brain.on_offer(CALLER) == Decline(503, "Service Unavailable")
    await brain.on_end("done")


async def called(moved: Any, status: str = "200 OK", timeout_s: float = 5.0) -> tuple[Any, RemoteBrain, bytes]:
    async with scripted_http(Remote(moved, status)) as server:
        brain = RemoteBrain(server.url, timeout_s=timeout_s)
        await brain.on_offer(CALLER)
        outcome = await brain.on_tool_call("order", {"cups": 2})
        await brain.on_end("done")
    return outcome, brain, server.requests[1].body


async def test_stay_keeps_the_node_and_takes_the_variables() -> None:
    moved = {"action": "stay", "node_id": "start", "collected_vars": {"cups": 2}, "finished": False}
    outcome, brain, body = await called(moved)
    assert outcome == Stay({"status": "stay"}) and brain.collected_vars() == {"cups": 2}
    assert body == b'{"node_id":"start","tool":{"name":"order","args":{"cups":2}},"collected_vars":{"shop":"tea"}}'


async def test_a_transition_brings_prompt_and_tools() -> None:
    moved = {
        "action": "transition",
        "system_prompt": "Ask for milk.",
        "tools": [],
        "say": "Fine.",
        "node_id": "milk",
        "collected_vars": {},
        "finished": False,
    }
    outcome, brain, _ = await called(moved)
    assert outcome == Transition("Ask for milk.", (), "Fine.", {"status": "moved"})
    assert (brain.system_prompt(), brain.tools(), brain.current_node_id()) == ("Ask for milk.", (), "milk")


async def test_end_finishes_with_its_disposition() -> None:
    moved = {"action": "end", "disposition": "sold", "node_id": "end", "collected_vars": {}, "finished": True}
    outcome, brain, _ = await called(moved)
    assert outcome == End("sold") and brain.is_finished()


@pytest.mark.parametrize(
    ("moved", "status"),
    [
        ({"action": "stay", "node_id": "x", "collected_vars": {}, "finished": False}, "500 Internal Server Error"),
        ({"action": "stay"}, "200 OK"),
        ({"action": "transition", "node_id": "x", "collected_vars": {}, "finished": False}, "200 OK"),
        ({"action": "dance", "node_id": "x", "collected_vars": {}, "finished": False}, "200 OK"),
        (b"<html>", "200 OK"),
        ("hang", "200 OK"),
    ],
)
async def test_whatever_goes_wrong_in_a_tool_call_is_a_stay_that_changes_nothing(moved: Any, status: str) -> None:
    outcome, brain, _ = await called(moved, status, timeout_s=0.2)
    assert outcome == Stay(FAILED)
    assert brain.current_node_id() == "start" and brain.collected_vars() == {"shop": "tea"}
    assert brain.system_prompt() == "You sell tea." and not brain.is_finished()
