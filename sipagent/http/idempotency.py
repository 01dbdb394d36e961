"""Answers by Idempotency-Key: a request that is sent twice places one call (draft-ietf-httpapi-idempotency-key-header).

A table of bounded size; what is older than its time to live is forgotten, and the oldest goes when it is full.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from sipagent.errors import LocalError

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Answer]):
    fingerprint: bytes
    answer: Answer
    expires_at: float


class IdempotencyTable(Generic[Answer]):
    """Answers by key; `now` is monotonic seconds, given by the caller."""

    def __init__(self, capacity: int = 10_000, ttl_seconds: float = 24 * 3600.0) -> None:
        self._capacity, self._ttl_seconds = capacity, ttl_seconds
        self._entries: OrderedDict[str, _Entry[Answer]] = OrderedDict()  # oldest first, so that the first expire first

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str, fingerprint: bytes, now: float) -> Answer | None:
        """The answer given before, None for a new key; LocalError when the key came with another request."""
        self._expire(now)
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.fingerprint != fingerprint:
            raise LocalError("the key was used for another request")
        return entry.answer

    def keep(self, key: str, fingerprint: bytes, answer: Answer, now: float) -> None:
        """Remember the answer to a new key."""
        self._entries[key] = _Entry(fingerprint, answer, now + self._ttl_seconds)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def _expire(self, now: float) -> None:
        while self._entries and next(iter(self._entries.values())).expires_at <= now:
            self._entries.popitem(last=False)
