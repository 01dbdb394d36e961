"""Chat completions against a server on this machine that misbehaves as the real ones do."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from sipagent.errors import ServiceError
from sipagent.pipeline.chat import ChatEvent, ToolSpec, Usage
from sipagent.pipeline.context import Message, ToolCall
from sipagent.pipeline.services.openai_chat import ChatOptions, OpenAIChat, ToolCallAssembler

USER = [Message("user", "Hello")]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
Writer = asyncio.StreamWriter


@dataclass
class Server:
    port: int = 0
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    def chat(self, **options: Any) -> OpenAIChat:
        return OpenAIChat(ChatOptions(f"http://127.0.0.1:{self.port}/v1/", "a-model", **options))


@asynccontextmanager
async def serving(*answers: Callable[[Writer], Awaitable[None]]) -> AsyncIterator[Server]:
    """A server whose request n is answered by `answers[n]`, the last one for ever."""
    server = Server()

    async def handle(reader: asyncio.StreamReader, writer: Writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        server.requests.append((head[0], headers, json.loads(body or b"{}")))
        watch = asyncio.create_task(reader.read())
        watch.add_done_callback(lambda _: server.hung_up.set())
        try:
            await answers[min(len(server.requests), len(answers)) - 1](writer)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            watch.cancel()
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server


def sse(*chunks: dict[str, Any] | str | bytes) -> Callable[[Writer], Awaitable[None]]:
    async def answer(writer: Writer) -> None:
        writer.write(OK)
        for chunk in chunks:
            if isinstance(chunk, dict):
                chunk = "data: " + json.dumps(chunk, ensure_ascii=False) + "\n\n"
            writer.write(chunk.encode() if isinstance(chunk, str) else chunk)
            await writer.drain()

    return answer


def status(code: int, body: str = "{}", headers: str = "") -> Callable[[Writer], Awaitable[None]]:
    async def answer(writer: Writer) -> None:
        head = f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
        writer.write((head + body).encode())

    return answer


def text(piece: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": piece}}]}


def tool(**piece: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}


async def answer_of(chat: OpenAIChat, tools: tuple[ToolSpec, ...] = ()) -> list[ChatEvent]:
    async with chat:
        return [event async for event in chat.stream(USER, tools)]


async def test_text_comes_piece_by_piece_with_the_usage_at_its_end() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]}
    async with serving(sse(first, text("Good "), text("day"), usage, "data: [DONE]\n\n")) as server:
        assert await answer_of(server.chat()) == ["Good ", "day", Usage(5, 2)]


async def test_only_what_was_asked_for_is_sent() -> None:
    async with serving(sse(text("x"))) as server:
        await answer_of(server.chat(api_key="secret", parameters={"temperature": 0}), (ToolSpec("t", "d", {}),))
        line, headers, body = server.requests[0]
        assert line == "POST /v1/chat/completions HTTP/1.1"
        assert headers["authorization"] == "Bearer secret"
        assert sorted(body) == ["messages", "model", "stream", "stream_options", "temperature", "tools"]
        assert body["messages"] == [{"role": "user", "content": "Hello"}]


async def test_tool_calls_are_sent_back_as_the_interface_wants_them() -> None:
    messages = [
        Message("assistant", "", (ToolCall("7", "book", '{"day":1}'),)),
        Message("tool", "done", tool_call_id="7"),
    ]
    async with serving(sse(text("x"))) as server, server.chat() as chat:
        assert [event async for event in chat.stream(messages)] == ["x"]
        sent = server.requests[0][2]["messages"]
        call = {"id": "7", "type": "function", "function": {"name": "book", "arguments": '{"day":1}'}}
        assert sent == [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "done", "tool_call_id": "7"},
        ]


async def test_comments_line_ends_and_split_characters_do_not_matter() -> None:
    data = 'data: {"choices":[{"delta":{"content":"zwölf ✓"}}]}\r\n\r\n'.encode()
    cut = data.index("ö".encode()) + 1
    async with serving(sse(": OPENROUTER PROCESSING\n\n", data[:cut], data[cut:], "data:[DONE]\n\n")) as server:
        assert await answer_of(server.chat()) == ["zwölf ✓"]


async def test_two_tool_calls_in_pieces_are_put_together_by_index() -> None:
    chunks = (
        tool(index=0, id="a", function={"name": "book", "arguments": ""}),
        tool(index=1, id="b", function={"name": "mail", "arguments": '{"to"'}),
        tool(index=0, function={"arguments": '{"day": 1}'}),
        tool(index=1, id="b", function={"arguments": ': "x"}'}),
    )
    async with serving(sse(*chunks, "data: [DONE]\n\n")) as server:
        assert await answer_of(server.chat()) == [
            ToolCall("a", "book", '{"day": 1}'),
            ToolCall("b", "mail", '{"to": "x"}'),
        ]


def test_tool_calls_without_an_index_are_told_apart_by_id() -> None:
    calls = ToolCallAssembler()
    calls.add({"id": "a", "function": {"name": "one", "arguments": {"x": 1}}})
    calls.add({"id": "b", "function": {"name": "two", "arguments": "{"}})
    calls.add({"function": {"arguments": "}"}})
    assert calls.finished() == [ToolCall("a", "one", '{"x": 1}'), ToolCall("b", "two", "{}")]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    calls = ToolCallAssembler()
    calls.add({"index": 0, "function": {"name": "now"}})
    assert calls.finished() == [ToolCall("call_0", "now", "{}")]


async def test_a_stream_that_ends_without_done_is_complete() -> None:
    async with serving(sse(text("all"))) as server:
        assert await answer_of(server.chat()) == ["all"]


async def test_a_refusal_says_why_and_never_shows_the_key() -> None:
    async with serving(status(401, '{"error": {"message": "bad key"}}')) as server:
        chat = server.chat(api_key="s3cret")
        with pytest.raises(ServiceError, match="401 bad key") as caught:
            await answer_of(chat)
        assert not caught.value.retryable
        assert caught.value.status == 401
        assert len(server.requests) == 1
        assert "s3cret" not in repr(ChatOptions("http://x", "m", api_key="s3cret")) + str(caught.value)


async def test_a_busy_server_is_asked_again_after_its_retry_after() -> None:
    async with serving(status(429, headers="Retry-After: 0.05\r\n"), sse(text("now"))) as server:
        assert await answer_of(server.chat()) == ["now"]
        assert len(server.requests) == 2


async def test_nobody_waits_a_minute_on_the_phone() -> None:
    async with serving(status(429, headers="Retry-After: 60\r\n")) as server:
        with pytest.raises(ServiceError, match="429"):
            await answer_of(server.chat())
        assert len(server.requests) == 1


async def test_an_error_in_the_middle_of_a_stream_is_an_error_and_not_tried_again() -> None:
    async with serving(sse(text("half"), {"error": {"message": "overloaded"}})) as server:
        got: list[ChatEvent] = []
        async with server.chat() as chat:
            with pytest.raises(ServiceError, match="overloaded"):
                async for event in chat.stream(USER):
                    got.append(event)
        assert got == ["half"]
        assert len(server.requests) == 1


async def test_a_connection_that_breaks_before_the_first_piece_is_tried_again() -> None:
    async def reset(writer: Writer) -> None:
        writer.transport.abort()

    async with serving(reset, sse(text("second"))) as server:
        assert await answer_of(server.chat()) == ["second"]


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def silent(writer: Writer) -> None:
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(5)

    async with serving(silent) as server:
        with pytest.raises(ServiceError, match="in time"):
            await answer_of(server.chat(first_token_seconds=0.1, attempts=1))


async def test_closing_the_stream_hangs_up_at_the_server() -> None:
    async def endless(writer: Writer) -> None:
        await sse(text("a"))(writer)
        await asyncio.sleep(5)

    async with serving(endless) as server, server.chat() as chat:
        stream = chat.stream(USER)
        assert await anext(stream) == "a"
        await stream.aclose()
        await asyncio.wait_for(server.hung_up.wait(), 1.0)


async def test_something_that_is_not_json_is_an_error() -> None:
    async with serving(sse("data: <html>\n\n")) as server:
        with pytest.raises(ServiceError, match="not JSON"):
            await answer_of(server.chat())


async def test_nobody_there_is_an_error() -> None:
    chat = OpenAIChat(ChatOptions("http://127.0.0.1:9/v1", "m"))
    with pytest.raises(ServiceError, match="ConnectError"):
        await answer_of(chat)
