import asyncio
import json

import pytest

from sipagent.http import events as sse
from sipagent.http.control import CallEvent, CallRequest
from tests.http.fake import FakeControl


@pytest.fixture
def call_id(control: FakeControl) -> str:
    return control.place(CallRequest("+4930123456")).id


async def test_kept_events_come_first_and_the_stream_ends_with_the_call(control: FakeControl, call_id: str) -> None:
    control.happen("state", state="ringing")
    stream = sse.stream(control.events(call_id), asyncio.Event(), 10)
    assert await anext(stream) == sse.RETRY
    assert await anext(stream) == b'id: 1\nevent: state\ndata: {"type": "state", "at": 1.5, "state": "ringing"}\n\n'
    control.happen("transcript", role="caller", text="good\nmorning")
    assert (await anext(stream)).startswith(b"id: 2\nevent: transcript\n")
    control.finish()
    assert [chunk async for chunk in stream] == []
    assert control.watching == 0


async def test_a_client_that_comes_back_misses_nothing_and_hears_nothing_twice(
    control: FakeControl, call_id: str
) -> None:
    for _ in range(3):
        control.happen("state")
    control.finish()
    stream = sse.stream(control.events(call_id, sse.resume_after("2")), asyncio.Event(), 10)
    assert [chunk.split(b"\n")[0] async for chunk in stream][1:] == [b"id: 3"]


@pytest.mark.parametrize(
    ("header", "after"), [(None, 0), ("", 0), ("7", 7), ("-1", 0), ("x", 0), ("9" * 99, 0), ("²", 0)]
)
def test_an_event_id_that_is_none_of_ours_starts_from_the_beginning(header: str | None, after: int) -> None:
    assert sse.resume_after(header) == after


async def test_silence_is_filled_with_comments_and_no_event_is_lost(control: FakeControl, call_id: str) -> None:
    stream = sse.stream(control.events(call_id), asyncio.Event(), 0.001)
    await anext(stream)
    for _ in range(3):
        assert await anext(stream) == sse.KEEPALIVE
    control.happen("dtmf", digit="5")
    chunks = [await anext(stream), await anext(stream)]
    assert any(b"event: dtmf" in chunk for chunk in chunks)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_service_that_stops_ends_the_stream(control: FakeControl, call_id: str) -> None:
    stopping = asyncio.Event()
    stream = sse.stream(control.events(call_id), stopping, 10)
    await anext(stream)
    stopping.set()
    assert [chunk async for chunk in stream] == []
    assert control.watching == 0


async def test_a_client_that_leaves_frees_what_its_stream_held(control: FakeControl, call_id: str) -> None:
    stream = sse.stream(control.events(call_id), asyncio.Event(), 0.001)
    await anext(stream)
    await anext(stream)
    assert control.watching == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert control.watching == 0


def test_an_event_is_one_line_of_json_whatever_it_holds() -> None:
    block = sse.encode(CallEvent(1, "transcript", 0.0, {"text": "a\n\ndata: b\r\u2028", "other": object}))
    assert block.count(b"\n") == 4
    assert json.loads(block.split(b"\n")[2].removeprefix(b"data: "))["text"] == "a\n\ndata: b\r\u2028"
