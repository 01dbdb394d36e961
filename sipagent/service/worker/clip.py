"""Recorded sound for a caller: prompts of a brain, and the apology."""

from pathlib import Path

import numpy as np
import soundfile

from sipagent.errors import ConfigError
from sipagent.pipeline.frames import AgentAudio


def read_clip(path: str | Path, field: str, *, interruptible: bool = True) -> AgentAudio:
    """A WAV file, mixed down to one channel; ConfigError that names `field` when it cannot be read."""
    try:
        pcm, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    except (OSError, soundfile.SoundFileError) as problem:
        raise ConfigError(field, f"{path} cannot be read: {problem}", "name a WAV file") from problem
    return AgentAudio(pcm.mean(axis=1).astype(np.int16), int(rate_hz), interruptible=interruptible)
