"""Runs the far ends in C (`loadgen.c`), and tells what a process costs."""

import json
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent


class Compiled:
    """The C programs of this folder, compiled into a folder that lives as long as this object."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="sipagent-bench-")

    def program(self, name: str) -> str:
        """Path of the program `name`, compiled from `name`.c; RuntimeError when there is no compiler."""
        path = Path(self._folder.name) / name
        if not path.exists():
            compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
            if compiler is None:
                raise RuntimeError("the benchmarks compile their far ends: install a C compiler (cc)")
            subprocess.run([compiler, "-O2", "-o", str(path), str(HERE / f"{name}.c")], check=True)
        return str(path)

    def close(self) -> None:
        """Remove the folder; otherwise that is done at the end of the process."""
        self._folder.cleanup()


def generate(
    compiled: Compiled, calls: int, local: int, remote: int, seconds: float, warm_up: float = 2.0, loss: float = 0.0
) -> subprocess.Popen[str]:
    """Far ends at work, on lines that lose that share of what they send; `result` waits for what they measured."""
    arguments = [compiled.program("loadgen"), *map(str, (calls, local, remote, seconds, warm_up, loss))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def result(generator: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that the generator prints."""
    output, _ = generator.communicate(timeout=600)
    if generator.returncode:
        raise RuntimeError(f"the load generator failed with {generator.returncode}")
    return dict(json.loads(output))


def cpu_ns(pid: int) -> int:
    """Processor time of all threads of a process, in nanoseconds."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def memory_bytes(pid: int) -> int:
    """Memory of a process, shared pages counted by their share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
