"""A voice that remembers what it has said: greetings and prompts cost nothing the second time, and outlive a fault."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from typing import Final

from sipagent.pipeline.speech import Speech, TextToSpeech

MAX_CHARACTERS: Final = 200  # longer texts are hardly said twice
PHRASES: Final = 64  # of 3 s each at 24 kHz: 10 MB


class CachedVoice:
    """A TextToSpeech around another one, for services that cost money or time."""

    def __init__(self, voice: TextToSpeech, phrases: int = PHRASES) -> None:
        self._voice, self._limit = voice, phrases
        self._said: OrderedDict[str, tuple[Speech, ...]] = OrderedDict()

    async def prepare(self, phrases: Iterable[str]) -> None:
        """Say these now, to nobody."""
        for phrase in phrases:
            async for _ in self.synthesize(phrase):
                pass

    async def synthesize(self, text: str) -> AsyncIterator[Speech]:
        """As the voice; a text that was said to its end before comes from memory."""
        known = self._said.get(text)
        if known is not None:
            self._said.move_to_end(text)
            for piece in known:
                yield piece
            return
        pieces: list[Speech] = []
        async for piece in self._voice.synthesize(text):
            pieces.append(piece)
            yield piece
        if len(text) <= MAX_CHARACTERS and pieces:
            self._said[text] = tuple(pieces)
            if len(self._said) > self._limit:
                self._said.popitem(last=False)
