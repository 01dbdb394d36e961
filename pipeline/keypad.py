"""The caller's keypad: keys become one entry, closed by #, by its length, or by a pause."""

from dataclasses import dataclass

from sipagent.pipeline.frames import DigitPressed, Frame, KeysEntered, Tick
from sipagent.pipeline.processor import Push


@dataclass(frozen=True, slots=True)
class KeypadOptions:
    """When an entry is complete."""

    keypad_pause_seconds: float = 1.5
    keypad_digits: int = 0  # so many keys are an entry; 0 = any number


class Keypad:
    """Processor: `DigitPressed` goes by and is collected; `KeysEntered` follows when the entry is complete."""

    def __init__(self, options: KeypadOptions) -> None:
        self._options = options
        self._keys = ""
        self._due: float | None = None
        self._now = 0.0

    async def process(self, frame: Frame, push: Push) -> None:
        """See the class."""
        await push(frame)
        if isinstance(frame, Tick):
            self._now = frame.now
            if self._due is not None and frame.now >= self._due:
                await self._close(push)
        elif isinstance(frame, DigitPressed):
            if frame.digit != "#":
                self._keys += frame.digit
                self._due = self._now + self._options.keypad_pause_seconds
            if frame.digit == "#" or len(self._keys) == self._options.keypad_digits:
                await self._close(push)

    async def _close(self, push: Push) -> None:
        keys, self._keys, self._due = self._keys or "#", "", None
        await push(KeysEntered(keys))
