"""Pacing of the media plane while the other planes misbehave.

    python -m bench.isolation [--calls 100] [--io auto|epoll|io_uring] [--seconds 8] [--json]

Each disturbance runs in a worker process of its own, beside the echoing one: a worker that blocks for half of each
second, one that spins in pure Python, one that collects a million objects again and again. `calm` is the comparison.
"""

import argparse
import gc
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

from bench.loadgen import Compiled
from bench.rig import Rig


def calm(wake_fd: int) -> None:
    """Nothing."""
    while True:
        time.sleep(1)


def blocked(wake_fd: int) -> None:
    """Take every wake-up away from the worker that shares the eventfd, and sleep on it for half a second."""
    while True:
        time.sleep(0.5)
        try:
            os.eventfd_read(wake_fd)
        except BlockingIOError:
            continue
        finally:
            time.sleep(0.5)


def spinning(wake_fd: int) -> None:
    """Pure Python without end."""
    number = 0
    while True:
        number = (number * 1103515245 + 12345) & 0x7FFFFFFF


def collecting(wake_fd: int) -> None:
    """A garbage collection of a million objects, again and again."""
    kept = [[index] for index in range(1_000_000)]
    while kept:
        gc.collect()


DISTURBANCES: tuple[Callable[[int], None], ...] = (calm, blocked, spinning, collecting)


def measure(calls: int, io: str, seconds: float) -> dict[str, Any]:
    """Pacing and gaps under each disturbance."""
    compiled = Compiled()
    context = multiprocessing.get_context("fork")
    figures: dict[str, Any] = {"calls": calls, "disturbances": {}}
    for disturbance in DISTURBANCES:
        rig = Rig(calls, io)
        worker = context.Process(target=disturbance, args=(rig.wake_fd,), daemon=True)
        worker.start()
        try:
            run = rig.figures(compiled, seconds)
        finally:
            worker.kill()
            worker.join()
            rig.close()
        figures["io"] = run.io
        figures["disturbances"][disturbance.__name__] = {
            "pacing_ms": run.far["pacing_ms"],
            "sequence_gaps": run.far["sequence_gaps"],
            "timestamp_gaps": run.far["timestamp_gaps"],
        }
    return figures


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
    print(f"{'':12} {'p50':>7} {'p99':>7} {'p99.9':>7} {'max':>7} {'seq':>5} {'ts':>5}")
    for name, run in figures["disturbances"].items():
        pacing = run["pacing_ms"]
        values = " ".join(f"{pacing[part]:7.3f}" for part in ("p50", "p99", "p99_9", "max"))
        print(f"{name:12} {values} {run['sequence_gaps']:5} {run['timestamp_gaps']:5}")


if __name__ == "__main__":
    main()
