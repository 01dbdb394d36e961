"""The stages of a tick, as the benchmark runs them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import sipagent.rtp.process
from bench.stages import stages
before = set(sys.modules)
figures = stages(4)
print(sorted(set(sys.modules) - before), sorted(figures))
"""


def test_no_tick_imports_a_module() -> None:
    """An import in the first tick with a packet was a pause of 50 ms in the first call."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("[] ["), ran.stdout
    assert "'tick'" in ran.stdout
