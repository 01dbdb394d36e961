"""The document says what the tests say."""

import subprocess
import sys

from tests.conformance.matrix import ROOT


def test_the_committed_matrix_is_that_of_the_tests() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "tests.conformance"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    committed = (ROOT / "docs" / "conformance.md").read_text()
    assert committed == made.stdout, "run: python -m tests.conformance > docs/conformance.md"
