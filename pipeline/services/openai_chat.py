"""Any endpoint that speaks OpenAI's chat completions, streamed: OpenAI, Azure, Groq, vLLM, llama.cpp, Ollama, …

What differs between them and is met here: tool calls whose pieces come without an index or repeat their id, comment
lines that keep the stream alive, streams without a last `[DONE]`, errors in the middle of a stream, and parameters
that some models refuse; so only what the user set is sent.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import httpx2

from sipagent.errors import ServiceError
from sipagent.pipeline.chat import ChatEvent, ToolSpec, Usage
from sipagent.pipeline.context import Message, ToolCall

SERVICE: Final = "chat"
RETRYABLE: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_RETRY_AFTER_S: Final = 2.0  # nobody waits longer on the phone
MAX_ERROR_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """An endpoint. `base_url` ends before /chat/completions; `parameters` are sent as they are (temperature, …)."""

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    include_usage: bool = True
    connect_seconds: float = 3.0
    first_token_seconds: float = 8.0
    between_tokens_seconds: float = 8.0
    attempts: int = 2  # of a request that failed before its first token


class OpenAIChat:
    """A ChatModel. Share one among the calls of a worker: it keeps its connections open. Close it at the end."""

    def __init__(self, options: ChatOptions) -> None:
        self._options = options
        headers = {"Accept": "text/event-stream", **options.headers}
        if options.api_key:
            headers["Authorization"] = f"Bearer {options.api_key}"
        self._url = options.base_url.rstrip("/") + "/chat/completions"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(options.first_token_seconds, connect=options.connect_seconds),
        )

    async def __aenter__(self) -> "OpenAIChat":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def warm_up(self) -> None:
        """Open a connection, so that the first turn does not pay for TLS; a failure is left to the first turn."""
        with contextlib.suppress(httpx2.HTTPError):
            await self._client.get(self._options.base_url.rstrip("/") + "/models")

    async def stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> AsyncGenerator[ChatEvent, None]:
        """The answer, as it comes. Closing the iterator closes the response, which cancels it at the provider.

        A request that fails before its first piece is tried again; raises ServiceError after the last attempt.
        """
        body = self._body(messages, tools)
        for attempt in range(1, self._options.attempts + 1):
            begun = False
            try:
                async with contextlib.aclosing(self._once(body)) as events:
                    async for event in events:
                        begun = True
                        yield event
                return
            except ServiceError as error:
                if begun or not error.retryable or attempt == self._options.attempts:
                    raise

    def _body(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": [message_to_json(message) for message in messages],
            "stream": True,
            **self._options.parameters,
        }
        if self._options.include_usage:
            body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": dict(tool.parameters),
                    },
                }
                for tool in tools
            ]
        return body

    async def _once(self, body: Mapping[str, Any]) -> AsyncGenerator[ChatEvent, None]:
        calls = ToolCallAssembler()
        try:
            async with self._client.stream("POST", self._url, json=body) as response:
                if response.status_code != httpx2.codes.OK:
                    await self._refuse(response)
                events = aiter(httpx2.EventSource(response))
                limit = self._options.first_token_seconds
                while True:
                    try:
                        async with asyncio.timeout(limit):
                            event = await anext(events)
                    except StopAsyncIteration:
                        break
                    if event.data.strip() == "[DONE]":
                        break
                    for item in _read(event.data, calls):
                        limit = self._options.between_tokens_seconds
                        yield item
        except TimeoutError:
            raise ServiceError(SERVICE, "no token came in time", retryable=True) from None
        except httpx2.HTTPError as error:
            raise ServiceError(SERVICE, type(error).__name__, retryable=True) from None
        for call in calls.finished():
            yield call

    async def _refuse(self, response: httpx2.Response) -> None:
        """Raise what an answer other than 200 says; after Retry-After, when that is bearable."""
        await response.aread()
        status = response.status_code
        retryable = status in RETRYABLE
        wait_s = _retry_after_s(response.headers)
        if retryable and wait_s is not None:
            if wait_s > MAX_RETRY_AFTER_S:
                retryable = False
            else:
                await asyncio.sleep(wait_s)
        raise ServiceError(SERVICE, f"{status} {_error_text(response.text)}", status=status, retryable=retryable)


class ToolCallAssembler:
    """Puts tool calls together from their pieces: by index, and where a server gives none, by id."""

    def __init__(self) -> None:
        self._calls: dict[Any, dict[str, str]] = {}
        self._last: Any = None

    def add(self, piece: Mapping[str, Any]) -> None:
        """One element of a delta's `tool_calls`."""
        key = piece.get("index")
        if key is None:
            key = piece.get("id") or (self._last if self._last is not None else 0)
        self._last = key
        call = self._calls.setdefault(key, {"id": "", "name": "", "arguments": ""})
        function = piece.get("function") or {}
        call["id"] = call["id"] or piece.get("id") or ""
        call["name"] = call["name"] or function.get("name") or ""
        arguments = function.get("arguments") or ""
        call["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def finished(self) -> list[ToolCall]:
        """All calls, in the order in which they began; those without a name are dropped."""
        return [
            ToolCall(call["id"] or f"call_{number}", call["name"], call["arguments"] or "{}")
            for number, call in enumerate(self._calls.values())
            if call["name"]
        ]


def message_to_json(message: Message) -> dict[str, Any]:
    """A message as chat completions want it."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        out["content"] = message.content or None
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        out["tool_call_id"] = message.tool_call_id
    return out


def _read(data: str, calls: ToolCallAssembler) -> list[ChatEvent]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise ServiceError(SERVICE, "the stream holds something that is not JSON") from None
    if not isinstance(chunk, dict):
        return []
    if chunk.get("error"):
        raise ServiceError(SERVICE, _error_text(data), retryable=True)
    out: list[ChatEvent] = []
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        if delta.get("content"):
            out.append(delta["content"])
        for piece in delta.get("tool_calls") or ():
            calls.add(piece)
    usage = chunk.get("usage")
    if usage:
        out.append(Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)))
    return out


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            return float(headers[name]) * scale
    return None


def _error_text(body: str) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        error = json.loads(body).get("error", body)
        body = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    return body[:MAX_ERROR_CHARACTERS]
