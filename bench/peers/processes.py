"""What a program and all its children cost, read from /proc."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


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
    """Processor time of the threads of one process, in seconds: /proc/…/stat has no more than hundredths."""
    spent_ns = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that ended while we looked
            spent_ns += int(path.read_text().split()[0])
    return spent_ns / 1e9


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
