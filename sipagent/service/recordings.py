"""Where the files of a call lie."""

from importlib import resources
from pathlib import Path

from sipagent.service.config.tree import Config


class RecordingPaths:
    """Names of recordings, and the clip that is played when a call loses its worker."""

    def __init__(self, config: Config) -> None:
        self.directory = Path(config.records.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        packaged = resources.files("sipagent.service") / "apology.wav"
        self.apology = config.conversation.apology or str(packaged)

    def path(self, call_id: str, suffix: str) -> str:
        """The recording of a call."""
        return str((self.directory / f"{call_id}.{suffix}").resolve())
