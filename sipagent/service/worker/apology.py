"""What a caller hears when a conversation fails: a clip, since the voice may be what failed."""

from importlib import resources

import numpy as np
import soundfile

from sipagent.errors import ConfigError
from sipagent.pipeline.frames import AgentAudio


def load_apology(path: str = "") -> AgentAudio:
    """The WAV file, "" = the packaged one, mixed down to one channel; raises ConfigError when it cannot be read."""
    with resources.as_file(resources.files("sipagent.service") / "apology.wav") as packaged:
        try:
            pcm, rate_hz = soundfile.read(path or packaged, dtype="int16", always_2d=True)
        except (OSError, soundfile.SoundFileError) as problem:
            raise ConfigError(
                "conversation.apology", f"{path} cannot be read: {problem}", "name a WAV file"
            ) from problem
    return AgentAudio(pcm.mean(axis=1).astype(np.int16), int(rate_hz), interruptible=False)
