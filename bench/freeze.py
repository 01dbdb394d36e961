"""A media plane that the host stops for a moment: what is lost of what came meanwhile, and how soon it has caught up.

    python -m bench.freeze [--calls 1000] [--io auto|epoll|io_uring] [--freeze 0.4] [--json]

A virtual machine that is moved, a host that is overcommitted: nothing runs, and packets wait in the kernel. They are
not lost, and are not to be taken for lost.
"""

import argparse
import json
import os
import signal
import time
from typing import Any, Final

from bench.loadgen import Compiled, generate, result
from bench.rig import Rig
from bench.show import lines
from sipagent.rtp.table import COUNTERS

BEFORE_S: Final = 1.5
AFTER_S: Final = 2.0
COUNTED_S: Final = 0.3  # packets in order are counted ten times a second
SETTLED_S: Final = 0.5  # after that: what was given up is counted by then
BEHIND_MS: Final = 100.0  # of time on the slowest line: caught up
SAMPLES_PER_MS: Final = 8


def measure(calls: int, io: str, freeze_s: float) -> dict[str, Any]:
    """One freeze of a plane with so many calls."""
    compiled = Compiled()
    rig = Rig(calls, io)
    try:
        rig.open_rows()
        far = generate(compiled, calls, rig.far_port, rig.plane_port, BEFORE_S + freeze_s + AFTER_S, BEFORE_S)
        time.sleep(BEFORE_S)
        before, head, begun = _counters(rig), rig.table.rx_head.copy(), time.monotonic()
        os.kill(rig.plane.pid or 0, signal.SIGSTOP)
        time.sleep(freeze_s)
        thawed = time.monotonic()
        os.kill(rig.plane.pid or 0, signal.SIGCONT)
        while True:
            heard_ms = float((rig.table.rx_head - head).min()) / SAMPLES_PER_MS
            if heard_ms > (time.monotonic() - begun) * 1000 - BEHIND_MS or time.monotonic() > thawed + AFTER_S:
                break
            time.sleep(0.002)
        caught_up_ms = (time.monotonic() - thawed) * 1000
        time.sleep(SETTLED_S)
        moved = {name: count - before[name] for name, count in _counters(rig).items()}
        measured = result(far)
        time.sleep(COUNTED_S)
        heard = _counters(rig)["packets_received"]
    finally:
        rig.close()
        compiled.close()
    return {
        "calls": calls,
        "io": rig.io,
        "frozen_ms": round(freeze_s * 1000),
        "caught_up_ms": round(caught_up_ms),
        "sent": measured["sent"],
        "heard": heard - moved["dropped_late"],
        "dropped": {name: count for name, count in moved.items() if name.startswith("dropped_") and count},
        "made_up_ms_per_call": round(
            (moved["concealed_samples"] + moved["silence_samples"]) / calls / SAMPLES_PER_MS, 1
        ),
        "sequence_gaps": measured["sequence_gaps"],
        "timestamp_gaps": measured["timestamp_gaps"],
    }


def _counters(rig: Rig) -> dict[str, int]:
    return {name: int(rig.table.counters[:, index].sum()) for index, name in enumerate(COUNTERS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--io", default="auto", choices=("auto", "epoll", "io_uring"))
    parser.add_argument("--freeze", type=float, default=0.4, help="seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    figures = measure(arguments.calls, arguments.io, arguments.freeze)
    print(json.dumps(figures) if arguments.json else "\n".join(lines(figures)))


if __name__ == "__main__":
    main()
