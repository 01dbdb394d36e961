"""Recorded sound for a caller: prompts of a brain, and the apology."""

from pathlib import Path

from sipagent.errors import ConfigError
from sipagent.pipeline.frames import AgentAudio
from sipagent.rtp.prompts import MAXIMUM_PROMPT_S
from sipagent.rtp.sound_file import read_mono


def read_clip(path: str | Path, field: str, *, interruptible: bool = True) -> AgentAudio:
    """A WAV file, mixed down to one channel; ConfigError that names `field` when it cannot be read."""
    try:
        pcm, rate_hz = read_mono(path, MAXIMUM_PROMPT_S)
    except (OSError, ValueError) as problem:
        raise ConfigError(field, f"{path} cannot be read: {problem}", "name a WAV file") from problem
    return AgentAudio(pcm, rate_hz, interruptible=interruptible)
