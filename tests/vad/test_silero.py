from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from sipagent.errors import ConfigError, ParseError
from sipagent.rtp.vad import onnx_weights
from sipagent.rtp.vad.silero import CONTEXT, HIDDEN, WINDOW, Silero, model_path
from tests.vad import speech


def signals(rows: int, seconds: float) -> np.ndarray:
    """Bursts of noise whose colour and loudness change, so that every part of the network moves; i2."""
    rng = np.random.default_rng(3)
    pcm = rng.normal(0, 1, (rows, int(seconds * 8000)))
    envelope = np.repeat(rng.uniform(0, 1, (rows, int(seconds * 8) + 1)) ** 3, 1000, axis=1)[:, : pcm.shape[1]]
    pcm = np.cumsum(pcm, axis=1) * 0.2 + pcm
    pcm -= pcm.mean(axis=1, keepdims=True)
    return (pcm / np.abs(pcm).max() * envelope * 20000).astype(np.int16)


def windows_of(pcm: np.ndarray) -> list[np.ndarray]:
    padded = np.pad(pcm, ((0, 0), (CONTEXT, 0)))
    return [padded[:, at : at + CONTEXT + WINDOW] for at in range(0, pcm.shape[1] - WINDOW + 1, WINDOW)]


def test_the_network_in_numpy_says_what_onnxruntime_says() -> None:
    pcm = signals(5, 3.0)
    if speech.SOUNDS.is_dir():
        pcm = np.concatenate([pcm, np.stack([each[:24000] for each in speech.recordings(4, 3.0)])])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    reference = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
    ours = Silero(model_path())
    state = np.zeros((2, len(pcm), HIDDEN), np.float32)
    their_state = state.copy()
    for window in windows_of(pcm):
        probability = ours.step(window, state)
        inputs = {"input": window.astype(np.float32) / 32768, "state": their_state, "sr": np.array(8000)}
        expected, their_state = reference.run(None, inputs)
        np.testing.assert_allclose(probability, expected[:, 0], atol=1e-5)
        np.testing.assert_allclose(state, their_state, atol=1e-4)


def test_a_batch_says_of_each_row_what_the_row_alone_would() -> None:
    pcm = signals(133, 0.5)  # more than one chunk
    model = Silero(model_path())
    state = np.zeros((2, len(pcm), HIDDEN), np.float32)
    together = [model.step(window, state) for window in windows_of(pcm)]
    for row in (0, 64, 127, 128, 132):
        alone = np.zeros((2, 1, HIDDEN), np.float32)
        for window, expected in zip(windows_of(pcm[row : row + 1]), together, strict=True):
            np.testing.assert_allclose(model.step(window, alone)[0], expected[row], atol=1e-5)


def test_a_model_file_with_other_contents_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "silero_vad.onnx"
    other.write_bytes(model_path().read_bytes()[:-1])
    with pytest.raises(ConfigError, match="not Silero"):
        model_path(str(other))
    with pytest.raises(ConfigError, match="does not exist"):
        model_path(str(tmp_path / "nowhere.onnx"))


def test_weights_cut_short_are_a_parse_error() -> None:
    whole = model_path().read_bytes()
    for length in (1, 100, 10_000, len(whole) - 1):
        with pytest.raises(ParseError):
            onnx_weights.read(whole[:length])
