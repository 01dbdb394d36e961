"""What the maker of answers asks of a call, and tells it."""

import asyncio
from collections.abc import Mapping
from typing import Any

from sipagent.pipeline.chat import Usage
from sipagent.service.worker.controls import Controls
from sipagent.service.worker.notes import Notes


class AnsweredCall:
    """See `sipagent.brain.answering.AnsweredCall`."""

    def __init__(self, controls: Controls, notes: Notes) -> None:
        self._controls, self._notes = controls, notes
        self._over = asyncio.Event()

    @property
    def ending(self) -> str | None:
        """The disposition, once the brain has hung up."""
        return self._controls.ending

    @property
    def transferring(self) -> bool:
        """True while a transfer is under way."""
        return self._controls.transferring

    @property
    def aside(self) -> bool:
        """True while the caller does not hear us, but a colleague."""
        return self._controls.aside

    def say(self, text: str) -> None:
        """Speak outside of an answer."""
        self._controls.say(text)

    def answered(self) -> None:
        """An answer is complete, or was interrupted."""
        self._over.set()

    async def wait_for_answer(self) -> None:
        """Returns when the next answer is complete, or was interrupted."""
        self._over.clear()
        await self._over.wait()

    def tool_called(self, name: str, arguments: Mapping[str, Any], result: Any, took_ms: float) -> None:
        """For the record."""
        self._notes.tool_called(name, arguments, result, took_ms)

    def tokens_used(self, usage: Usage) -> None:
        """For the record."""
        self._notes.tokens_used(usage)
