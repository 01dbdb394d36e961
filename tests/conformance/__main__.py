"""Print the conformance matrix: `python -m tests.conformance > docs/conformance.md`."""

import sys

from tests.conformance.matrix import collect, markdown

sys.stdout.write(markdown(collect()))
