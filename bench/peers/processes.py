"""What a program and all its children cost, read from /proc."""

import os
from collections.abc import Iterator
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> Iterator[int]:
    """The process and all that descend from it and live."""
    yield pid
    try:
        children = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it ended while we looked
        return
    for child in " ".join(children).split():
        yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """User and system time of one process, threads that ended included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def resident_bytes(pid: int) -> int:
    """Resident memory of one process, shared pages counted by their share (Pss)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def name(pid: int) -> str:
    """Its name, as the kernel shows it."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def costs(pid: int) -> dict[int, float]:
    """CPU seconds so far of each process of the tree."""
    return {member: cpu_s(member) for member in tree(pid)}


def threads(pid: int) -> int:
    """Threads of the whole tree."""
    return sum(len(list(Path(f"/proc/{member}/task").glob("*"))) for member in tree(pid))
