"""The media plane against a bare C echo: processor time per packet pair, pacing, delay, loss, memory.

    python -m bench.media --calls 500 [--io epoll|io_uring] [--loss 0.01] [--seconds 10] [--json]

Every packet goes through all planes' shared memory: received, ordered, decoded, put into the ring, copied to the other
ring by a worker process, mixed, encoded, paced and sent. The floor is `floor.c` under the same far ends.
"""

import argparse
import json
from typing import Any, Final

from bench.loadgen import Compiled
from bench.rig import Rig, floor
from bench.stages import stages

PACKETS_PER_S: Final = 50
KEPT_UP: Final = 0.99  # else it is the machine that was measured, not the plane


def measure(calls: int, io: str, seconds: float, loss: float = 0.0) -> dict[str, Any]:
    """One run of the floor and one of the plane; only the plane's line loses that share of its packets."""
    compiled = Compiled()
    floor_us = floor(compiled, calls, seconds)
    rig = Rig(calls, io)
    try:
        figures = rig.figures(compiled, seconds, loss)
    finally:
        rig.close()
    dropped = sum(value for name, value in figures.counters.items() if name.startswith("dropped_"))
    sent, due = figures.far["sent"], int(calls * seconds * PACKETS_PER_S * (1 - loss))
    return {
        "calls": calls,
        "io": figures.io,
        "line_loss": loss,
        "us_per_pair": round(figures.us_per_pair, 2),
        "floor_us_per_pair": round(floor_us, 2),
        "ratio": round(figures.us_per_pair / floor_us, 2),
        "pacing_ms": figures.far["pacing_ms"],
        "added_delay_ms": {name: round(value, 2) for name, value in figures.age_ms.items()},
        "echo_ms": figures.far["echo_ms"],
        # Packets on their way: what the far ends should have sent, did send, what arrived of that and what came back.
        "packets": {
            "due": due,
            "sent": sent,
            "arrived": figures.counters["packets_received"],
            "returned": figures.far["received"],
        },
        "far_ends_kept_up": min(sent, figures.far["received"]) > KEPT_UP * due,
        "lost": max(sent - figures.counters["packets_received"], 0) + figures.far["sequence_gaps"],
        "dropped": dropped,
        "sequence_gaps": figures.far["sequence_gaps"],
        "timestamp_gaps": figures.far["timestamp_gaps"],
        "bytes_per_call": figures.bytes_per_call,
        "late_ticks": figures.plane["late_ticks"],
        "tick_lateness_us": {name: figures.plane[f"pacing_{name}_us"] for name in ("p50", "p99", "p999", "max")},
        "tick_us": stages(calls, loss),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--io", default="auto", choices=("auto", "epoll", "io_uring"))
    parser.add_argument("--loss", type=float, default=0.0, help="share of the packets to the plane")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments = parser.parse_args()
    figures = measure(arguments.calls, arguments.io, arguments.seconds, arguments.loss)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
