"""End of turn by sound with smart-turn v3.2: 8 s of audio in, the probability that the speaker has finished out."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.resample import resample
from sipagent.pipeline.services.inference import Inference
from sipagent.pipeline.services.log_mel import RATE_HZ, log_mel
from sipagent.pipeline.services.model_files import ModelFiles

MODEL: Final = ModelFiles(
    name="smart-turn-v3.2",
    package="pipecat",
    requirement="pipecat-ai==1.14.0",
    folder="audio/turn/smart_turn/data",
    files={"smart-turn-v3.2-cpu.onnx": "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"},
)
WINDOW_S: Final = 8.0  # fixed by the model


class SmartTurn:
    """An EndOfTurn; load it once for a worker. Raises ConfigError when the model is missing."""

    def __init__(self, model_path: str = "") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        file = MODEL.locate(model_path) / next(iter(MODEL.files))
        self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._inference = Inference("smart-turn")

    async def warm_up(self) -> None:
        """Run once, so that the first caller does not pay for it."""
        await self.probability(np.ones(8000, np.int16), 8000)

    async def probability(self, pcm: NDArray[np.int16], rate_hz: int) -> float:
        """Probability that the speaker in `pcm`, shape (n,), has finished; best 0.2–0.5 s after the voice."""
        return await self._inference.run(self._probability, pcm, rate_hz)

    def close(self) -> None:
        """End the thread."""
        self._inference.close()

    def _probability(self, pcm: NDArray[np.int16], rate_hz: int) -> float:
        features = log_mel(window(pcm, rate_hz))
        output = self._session.run(None, {"input_features": features[None]})[0]
        return float(output[0, 0])  # the model's last layer is a sigmoid already


def window(pcm: NDArray[np.int16], rate_hz: int) -> NDArray[np.float32]:
    """The last 8 s as f32[128000], silence in front, mean 0 and variance 1 over the whole window."""
    size = int(WINDOW_S * RATE_HZ)
    wave = resample(pcm[-int(WINDOW_S * rate_hz) :], rate_hz, RATE_HZ)[-size:].astype(np.float32) / 32768.0
    padded = np.pad(wave, (size - len(wave), 0))
    normal: NDArray[np.float32] = (padded - padded.mean()) / np.sqrt(padded.var() + 1e-7)
    return normal
