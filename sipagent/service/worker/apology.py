"""What a caller hears when a conversation fails: a clip, since the voice may be what failed."""

from importlib import resources

from sipagent.pipeline.frames import AgentAudio
from sipagent.service.worker.clip import read_clip


def load_apology(path: str = "") -> AgentAudio:
    """The WAV file, "" = the packaged one; raises ConfigError when it cannot be read."""
    with resources.as_file(resources.files("sipagent.service") / "apology.wav") as packaged:
        return read_clip(path or packaged, "conversation.apology", interruptible=False)
