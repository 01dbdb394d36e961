"""The context of a conversation: what was said, heard and done. A turn is a transaction.

    begin ──► stage (tool calls and their results) ──► heard (as it is played) ──► commit
       └────► rollback: nothing of the turn remains

What the caller did not hear never enters the context, so a model does not refer to it. A turn that is interrupted
before anything was heard is merged with the next one: the caller merely went on speaking.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sipagent.errors import LocalError


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by a model; `arguments` is the JSON text that the model wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One entry; `role` is system, user, assistant or tool. An assistant's `content` is what was heard of it."""

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    interrupted: bool = False


class Context:
    """The messages so far; give `messages` to a model and nothing else."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._committed = list(messages)
        self._user: Message | None = None
        self._staged: list[Message] = []
        self._heard: list[str] = []
        self._cut = False

    @property
    def open(self) -> bool:
        """True from `begin` to `commit` or `rollback`."""
        return self._user is not None

    def messages(self) -> list[Message]:
        """Committed messages and those of the open turn, oldest first."""
        return self._committed + self._turn()

    def begin(self, user_text: str) -> None:
        """Open a turn with what the caller said; an open one is committed, or merged when none of it was heard."""
        if self._user is not None:
            if self._heard or self._complete_rounds():
                self.commit()
            else:
                user_text = f"{self._user.content} {user_text}".strip()
        self._user, self._staged, self._heard, self._cut = Message("user", user_text), [], [], False

    def stage(self, *messages: Message) -> None:
        """Add tool calls and their results to the open turn; LocalError when there is none."""
        if self._user is None:
            raise LocalError("no turn is open")
        self._staged.extend(messages)

    def heard(self, text: str, interrupted: bool = False) -> None:
        """The caller heard `text`; outside a turn (a greeting, a prompt) it stands for itself."""
        if self._user is not None:
            if text:
                self._heard.append(text)
            self._cut = self._cut or interrupted
        elif text:
            last = self._committed[-1] if self._committed else None
            if last is not None and last.role == "assistant" and not last.tool_calls and not last.interrupted:
                joined = f"{last.content} {text}"
                self._committed[-1] = replace(last, content=joined, interrupted=interrupted)
            else:
                self._committed.append(Message("assistant", text, interrupted=interrupted))

    def commit(self) -> None:
        """Close the turn: it stays, as far as it was heard. Without an open turn nothing happens."""
        self._committed += self._turn()
        self._close()

    def rollback(self) -> None:
        """Close the turn as if it had not been."""
        self._close()

    def _turn(self) -> list[Message]:
        if self._user is None:
            return []
        turn = [self._user, *self._complete_rounds()]
        if self._heard or self._cut:
            turn.append(Message("assistant", " ".join(self._heard), interrupted=self._cut))
        return turn

    def _complete_rounds(self) -> list[Message]:
        """Staged messages without tool calls that have no result: providers refuse those."""
        answered = {message.tool_call_id for message in self._staged if message.role == "tool"}
        kept: list[Message] = []
        for message in self._staged:
            calls = tuple(call for call in message.tool_calls if call.id in answered)
            if not message.tool_calls or calls:
                kept.append(replace(message, tool_calls=calls))
        return kept

    def _close(self) -> None:
        self._user, self._staged, self._heard, self._cut = None, [], [], False

    # ---- for records, and for a worker that takes a call over

    def to_records(self) -> list[dict[str, Any]]:
        """The messages as plain dicts."""
        return [
            {
                "role": message.role,
                "content": message.content,
                "tool_calls": [[call.id, call.name, call.arguments] for call in message.tool_calls],
                "tool_call_id": message.tool_call_id,
                "interrupted": message.interrupted,
            }
            for message in self.messages()
        ]

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> "Context":
        """The context that `to_records` wrote; entries with another role than user, assistant or tool are skipped."""
        return cls(
            Message(
                str(record["role"]),
                str(record.get("content", "")),
                tuple(ToolCall(*map(str, call)) for call in record.get("tool_calls", ())),
                str(record.get("tool_call_id", "")),
                bool(record.get("interrupted", False)),
            )
            for record in records
            if record.get("role") in ("user", "assistant", "tool")
        )
