"""The conformance matrix: one row for each requirement, from the tests' own `rfc` markers and from what is not met."""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.not_met import NOT_MET

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/sip", "tests/sip_parts", "tests/sdp", "tests/rtp", "tests/rtcp", "tests/system")
LEVELS = ("MUST", "SHOULD", "MAY")
ROLES = ("UAC", "UAS", "both", "offerer", "answerer")
HEAD = """\
# Conformance

Made by `python -m tests.conformance > docs/conformance.md` from the markers of the tests; a test fails when this file
is older than they are. A row is **met** when its test passes: run `pytest` on the test's name. What we know that we do
not do stands here too, as **not met**, with the reason.

{summary}
"""


@dataclass(frozen=True, order=True)
class Row:
    """One requirement; `test` is "" when it is not met, and then `reason` says why."""

    rfc: str
    section: str
    role: str
    level: str
    text: str
    test: str = ""
    reason: str = ""

    @property
    def place(self) -> tuple[int, tuple[int, ...], str, str]:
        """Where the row stands in the matrix."""
        return int(self.rfc), tuple(int(part) for part in re.findall(r"\d+", self.section)), self.role, self.text


class _Collector:
    """A pytest plugin that reads the markers of what was collected."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for marker in item.iter_markers("rfc"):
                self.rows.append(_row(item.nodeid, *marker.args, **marker.kwargs))


def _row(node: str, rfc: str, section: str, level: str, *, role: str, text: str) -> Row:
    if level not in LEVELS or role not in ROLES:
        raise ValueError(f"{node}: {level!r} or {role!r} is not known")
    path, _, name = node.partition("::")
    function, _, parameters = name.partition("[")
    # of a test with parameters the function stands for all, of a table of flows the flow's name does
    flow = f"[{parameters.rstrip(']').rpartition('-')[0]}]" if function == "test_flow" else ""
    return Row(rfc, section, role, level, text, f"{Path(path).relative_to('tests')}::{function}{flow}")


def collect() -> list[Row]:
    """All rows, in order. Runs pytest's collection, so call it in a process of its own."""
    collector = _Collector()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = pytest.main(["--collect-only", "-q", *(str(ROOT / folder) for folder in FOLDERS)], plugins=[collector])
    if status != 0:
        raise RuntimeError(said.getvalue())
    missing = [Row(*values[:5], reason=values[5]) for values in NOT_MET]
    return sorted({*collector.rows, *missing}, key=lambda row: (row.place, row.test))


def markdown(rows: Iterable[Row]) -> str:
    """The whole document."""
    rows = list(rows)
    lines = ["| RFC | section | level | role | requirement | test |", "|---|---|---|---|---|---|"]
    for row in rows:
        proof = f"`{row.test}`" if row.test else f"**not met**: {row.reason}"
        lines.append(f"| {row.rfc} | {row.section} | {row.level} | {row.role} | {_cell(row.text)} | {_cell(proof)} |")
    return HEAD.format(summary=_summary(rows)) + "\n" + "\n".join(lines) + "\n"


def _summary(rows: list[Row]) -> str:
    counted = Counter((row.level, bool(row.test)) for row in rows)
    lines = ["| level | met | not met |", "|---|---|---|"]
    lines += [f"| {level} | {counted[level, True]} | {counted[level, False]} |" for level in LEVELS]
    total = sum(bool(row.test) for row in rows)
    lines.append(f"| **all** | {total} | {len(rows) - total} |")
    return "\n".join(lines) + f"\n\n{len({row.rfc for row in rows})} RFCs."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
