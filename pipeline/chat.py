"""The seam to a language model that chats."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sipagent.pipeline.context import Message, ToolCall


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool offered to the model; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, as the provider counts them."""

    prompt_tokens: int
    completion_tokens: int


ChatEvent = str | ToolCall | Usage
"""A piece of text, a complete tool call, or (last, and not always) the usage."""


class ChatModel(Protocol):
    """Answers a list of messages."""

    def stream(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> AsyncGenerator[ChatEvent, None]:
        """The answer, as it comes; closing the iterator cancels it at the provider. Raises ServiceError."""
