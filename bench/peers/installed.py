"""A virtual environment for each peer, with its wheel in the version that was read and tried."""

import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir
from typing import Final

CACHE: Final = Path(gettempdir()) / "sipagent-peers"
INSTALL_S: Final = 900


class NotInstalledError(Exception):
    """Why a peer cannot be had here, in one line."""


def python_with(package: str, version: str, folder: Path, built_here: str = ":none:") -> Path:
    """The interpreter of a virtual environment under `folder` that holds the package; made when it is not there yet.

    Everything comes as a wheel, but for the packages in `built_here`, of which there is none.
    """
    home = folder / f"{package}-{version}-py{sys.version_info.major}{sys.version_info.minor}"
    python = home / "bin" / "python"
    done = home / "complete"
    if done.exists():
        return python
    steps = (
        [sys.executable, "-m", "venv", str(home)],
        [
            *(str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--no-binary", built_here),
            f"{package}=={version}",
        ],
    )
    for step in steps:
        try:
            ran = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise NotInstalledError(f"{package} {version}: {problem}") from problem
        if ran.returncode:
            lines = [line for line in (ran.stderr or ran.stdout).splitlines() if line.strip()]
            reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "pip failed")
            raise NotInstalledError(f"{package} {version} cannot be installed: {reason[:200]}")
    done.touch()
    return python
