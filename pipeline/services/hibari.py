"""Text to speech with Hibari: US English, 24 kHz, a sentence in about 20 ms on one thread."""

import importlib.util
from collections.abc import AsyncIterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sipagent.errors import ConfigError
from sipagent.pipeline.ledger import audible
from sipagent.pipeline.services.inference import Inference
from sipagent.pipeline.services.model_files import ModelFiles
from sipagent.pipeline.speech import Speech

MODEL: Final = ModelFiles(
    name="hibari",
    package="hibari",
    requirement="hibari-tts==0.2.1",
    folder="assets",
    files={"hibari.onnx": "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"},
)
RATE_HZ: Final = 24000
PAUSE_MS: Final = 250  # between two sentences; the model itself leaves 0.8 s
PEAK: Final = 0.7  # of full scale: leaves room for the companding of G.711


class HibariVoice:
    """A TextToSpeech; load it once for a worker. `seed` makes the same text sound the same, to the bit."""

    def __init__(self, model_path: str = "", *, speed: float = 1.0, seed: int | None = 0) -> None:
        if importlib.util.find_spec("hibari") is None:
            raise ConfigError("pipeline", "text to speech needs hibari-tts", "pip install sipagent[offline]")
        file = MODEL.locate(model_path) / "hibari.onnx"
        from hibari import Hibari

        self._voice: Any = Hibari(model=str(file), threads=1)
        self._speed, self._seed = speed, seed
        self._inference = Inference("hibari")

    async def warm_up(self) -> None:
        """Load the dictionaries and run once, so that the first caller does not pay for it."""
        async for _ in self.synthesize("Hello, I am ready."):
            pass

    async def synthesize(self, text: str) -> AsyncIterator[Speech]:
        """One piece per sentence of `text`."""
        rng = np.random.default_rng(self._seed)
        for phonemes in await self._inference.run(self._voice.phonemize, text):
            wave = await self._inference.run(self._speak, phonemes, rng)
            if len(wave):
                yield Speech(wave, RATE_HZ)

    def close(self) -> None:
        """End the thread."""
        self._inference.close()

    def _speak(self, phonemes: str, rng: np.random.Generator) -> NDArray[np.int16]:
        wave = self._voice.from_ids(self._voice.ids(phonemes), self._speed, rng)
        peak = float(np.abs(wave).max()) if len(wave) else 0.0
        gain = min(1.0, PEAK / peak) if peak else 1.0
        pcm: NDArray[np.int16] = (wave * (gain * 32767.0)).astype(np.int16)
        return pcm[: audible(pcm)[1] + RATE_HZ * PAUSE_MS // 1000]
