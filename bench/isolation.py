"""Pacing of the media plane while the other planes, and a far end, misbehave.

    python -m bench.isolation [--calls 100] [--io auto|epoll|io_uring] [--seconds 8] [--json]

Each disturbance runs in a process of its own, beside the echoing worker: a worker that blocks for half of each second,
one that spins in pure Python, one that collects a million objects again and again; a far end that floods its row, or
somebody who forges its address. `calm` is the comparison.

All packets of a tick leave together, so one tick that begins late is as many late packets as there are calls. Beside
the plane runs `timer.c`, one for each processor and above the plane in priority, which asks for nothing but to be woken
each millisecond: a moment in which it was late as well is counted as the machine's, the others as ours. `steal_ms` is
what the hypervisor says that it took.
"""

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.loadgen import Compiled
from bench.rig import Rig

Moments = Sequence[Sequence[float]]  # each: CLOCK_MONOTONIC, by how much late, in ms
PARTS: Final = ("p50", "p99", "p99_9", "max")
FLOOD_PER_MS: Final = 50
OPENING_S: Final = 4.0  # for the rows to open before the far ends talk
SAME_MS: Final = 2.0  # a late packet and a late timer so close belong together
SHARE: Final = 0.5  # … if the timer was late by this much of what the packet was


@dataclass(frozen=True, slots=True)
class Around:
    """What a disturbance can get at: the worker's eventfd, and the ports of a row of its own."""

    wake_fd: int
    far_port: int
    plane_port: int


def calm(around: Around) -> None:
    """Nothing."""
    while True:
        time.sleep(1)


def blocked(around: Around) -> None:
    """Take every wake-up away from the worker that shares the eventfd, and sleep on it for half a second."""
    while True:
        time.sleep(0.5)
        try:
            os.eventfd_read(around.wake_fd)
        except BlockingIOError:
            continue
        finally:
            time.sleep(0.5)


def spinning(around: Around) -> None:
    """Pure Python without end."""
    number = 0
    while True:
        number = (number * 1103515245 + 12345) & 0x7FFFFFFF


def collecting(around: Around) -> None:
    """A garbage collection of a million objects, again and again."""
    kept = [[index] for index in range(1_000_000)]
    while kept:
        gc.collect()


def flooding(around: Around) -> None:
    """A far end that sends a thousand times as much as it may."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", around.far_port))
        far.connect(("127.0.0.1", around.plane_port))
        number = 0
        while True:
            for _ in range(FLOOD_PER_MS):
                number += 1
                with contextlib.suppress(OSError):
                    far.send(struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, 1) + bytes(160))
            time.sleep(0.001)


DISTURBANCES: tuple[Callable[[Around], None], ...] = (calm, blocked, spinning, collecting, flooding)


def measure(calls: int, io: str, seconds: float) -> dict[str, Any]:
    """Pacing and gaps under each disturbance."""
    compiled = Compiled()
    context = multiprocessing.get_context("fork")
    figures: dict[str, Any] = {"calls": calls, "disturbances": {}}
    for disturbance in DISTURBANCES:
        rig = Rig(calls, io, spare=1)
        around = Around(rig.wake_fd, rig.far_port + 2 * calls, rig.plane_port + 2 * calls)
        worker = context.Process(target=disturbance, args=(around,), daemon=True)
        worker.start()
        timers, stolen = _timers(compiled, seconds), steal_ms()
        try:
            run = rig.figures(compiled, seconds)
            stolen = steal_ms() - stolen
            bare = [json.loads(timer.communicate()[0]) for timer in timers]
        finally:
            for timer in timers:
                timer.kill()
            worker.kill()
            worker.join()
            rig.close()
        figures["io"] = run.io
        late = run.far["late"]
        machine = sum(_is_machines(moment, [at for timer in bare for at in timer["late"]]) for moment in late)
        figures["disturbances"][disturbance.__name__] = {
            "pacing_ms": run.far["pacing_ms"],
            "timer_ms": {part: max(timer["late_ms"][part] for timer in bare) for part in PARTS},
            "late_moments": {"ours": len(late) - machine, "machine": machine},
            "steal_ms": stolen,
            "sequence_gaps": run.far["sequence_gaps"],
            "timestamp_gaps": run.far["timestamp_gaps"],
        }
    return figures


def _timers(compiled: Compiled, seconds: float) -> list[subprocess.Popen[str]]:
    """One for each processor, for as long as the run takes, and the opening of its rows."""
    program = compiled.program("timer")
    return [
        subprocess.Popen([program, str(cpu), str(seconds + OPENING_S)], stdout=subprocess.PIPE, text=True)
        for cpu in sorted(os.sched_getaffinity(0))
    ]


def _is_machines(moment: Sequence[float], timers: Moments) -> bool:
    """Whether a timer was late at the same time."""
    at, late = moment
    began = at - late
    return any(
        began - SAME_MS <= deadline <= at + SAME_MS and timer_late >= SHARE * late for deadline, timer_late in timers
    )


def steal_ms() -> int:
    """Time that the hypervisor has kept from this machine, of all processors, in ms since it started."""
    ticks = int(Path("/proc/stat").read_text().splitlines()[0].split()[8])
    return ticks * 1000 // os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--io", default="auto", choices=("auto", "epoll", "io_uring"))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    figures = measure(arguments.calls, arguments.io, arguments.seconds)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"{figures['calls']} calls, {figures['io']}; pacing in ms, gaps in packets")
    print(
        f"{'':12} {'p50':>7} {'p99':>7} {'p99.9':>7} {'max':>7} {'seq':>5} {'ts':>5}   > 2 ms late: ours, the machine's"
    )
    for name, run in figures["disturbances"].items():
        pacing = run["pacing_ms"]
        late = run["late_moments"]
        print(
            f"{name:12} {_row(pacing)} {run['sequence_gaps']:5} {run['timestamp_gaps']:5}   "
            f"{late['ours']}, {late['machine']}; {run['steal_ms']} ms stolen"
        )
        print(f"{'  a timer':12} {_row(run['timer_ms'])}")


def _row(parts: dict[str, float]) -> str:
    return " ".join(f"{parts[part]:7.3f}" for part in PARTS)


if __name__ == "__main__":
    main()
