"""Where the files of a call lie."""

import itertools
import re
from importlib import resources
from pathlib import Path

from sipagent.service.config.tree import Config


class RecordingPaths:
    """Names of recordings, and the clip that is played when a call loses its worker."""

    def __init__(self, config: Config) -> None:
        self.directory = Path(config.records.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.capture_octets = config.records.capture_megabytes * 1_000_000
        packaged = resources.files("sipagent.service") / "apology.wav"
        self.apology = config.conversation.apology or str(packaged)

    def path(self, call_id: str, suffix: str) -> str:
        """A file for a call with this suffix, which is not there yet."""
        first = (self.directory / f"{call_id}.{suffix}").resolve()
        return self.next(str(first)) if first.exists() else str(first)

    def next(self, path: str) -> str:
        """A file beside `path` that is not there yet: x.wav, x-2.wav, x-3.wav."""
        first = Path(path)
        stem = re.sub(r"-[0-9]+$", "", first.stem)
        names = (first.with_name(f"{stem}-{number}{first.suffix}") for number in itertools.count(2))
        return str(next(name for name in names if not name.exists()))
