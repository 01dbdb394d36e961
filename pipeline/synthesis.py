"""Synthesis: speaks what is to be said, sentence by sentence, ahead of the line."""

import asyncio

import numpy as np

from sipagent.errors import ServiceError
from sipagent.pipeline.deadlines import Deadlines, within
from sipagent.pipeline.frames import AgentAudio, ErrorFrame, Frame, Metric, ResponseStarted, Speak, Word
from sipagent.pipeline.ledger import audible
from sipagent.pipeline.processor import Push
from sipagent.pipeline.speech import Speech, TextToSpeech

SILENCE = np.zeros(0, np.int16)
LEAD_MS = 20  # kept before the first sound: a soft consonant may hide there


class Synthesis:
    """Wrap it in a `Mailbox`: while one sentence is played the next is made, and an interruption cancels it.

    When the service is mute, `fallback` is played instead, once an answer: a clip made beforehand.
    """

    def __init__(self, tts: TextToSpeech, deadlines: Deadlines, fallback: AgentAudio | None = None) -> None:
        self._tts, self._deadlines, self._fallback = tts, deadlines, fallback
        self._fell_back = False

    async def process(self, frame: Frame, push: Push) -> None:
        """`Speak` becomes `AgentAudio`; all else goes by."""
        if not isinstance(frame, Speak):
            if isinstance(frame, ResponseStarted):
                self._fell_back = False
            await push(frame)
            return
        try:
            await self._speak(frame, push)
        except ServiceError as error:
            await push(ErrorFrame("tts", error.problem))
            if self._fallback is not None and not self._fell_back:
                self._fell_back = True
                await push(self._fallback)

    async def _speak(self, frame: Speak, push: Push) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        pieces = self._tts.synthesize(frame.text)
        seconds = self._deadlines.first_audio_seconds
        said: Speech | None = None
        try:
            while (piece := await within(seconds, "tts", anext(pieces, None))) is not None:
                seconds = self._deadlines.next_audio_seconds
                if said is None:
                    await push(Metric("tts_ms", (loop.time() - begun) * 1e3))
                    piece = without_lead(piece)
                await push(_audio(frame, piece, continues=said is not None, more=True))
                said = piece
            if said is None:
                raise ServiceError("tts", "no sound for a text")
        except ServiceError:
            if said is not None:
                await push(_end_of(frame, said))
            raise
        await push(_end_of(frame, said))


def without_lead(piece: Speech) -> Speech:
    """`piece` from shortly before its first sound on: voices begin with up to 0.3 s of silence."""
    lead = max(audible(piece.pcm)[0] - piece.rate_hz * LEAD_MS // 1000, 0)
    words = tuple(Word(word.text, max(word.end_sample - lead, 0)) for word in piece.words)
    return Speech(piece.pcm[lead:], piece.rate_hz, words)


def _audio(frame: Speak, piece: Speech, *, continues: bool, more: bool) -> AgentAudio:
    return AgentAudio(
        piece.pcm,
        piece.rate_hz,
        "" if continues else frame.text,
        piece.words,
        frame.interruptible,
        continues=continues,
        more=more,
    )


def _end_of(frame: Speak, said: Speech) -> AgentAudio:
    """Tells the ledger that the text is complete, without sound."""
    return _audio(frame, Speech(SILENCE, said.rate_hz), continues=True, more=False)
