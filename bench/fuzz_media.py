"""Mutation fuzzing of the media plane: damaged RTP, RTCP, SRTP and telephone events into real rows, in virtual time.

    nice -n 19 python -m bench.fuzz_media --packets 10000000 --json

Every row has a far end that sends what it should every 20 ms; in between, damaged copies of that come by every way
that a datagram can take. Rows are closed and opened again every five seconds of line. Exit status 1 and the seed of the
round when anything was raised, a counter fell below zero, a gauge is no number, a row's clock stood still, a packet
of ours was missing from the line, or a secured row heard more than was sent to it with its key.
"""

import argparse
import json
import random
import resource
import sys
import time
import traceback
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from sipagent.rtp.control import CloseRow
from sipagent.rtp.table import COUNTERS
from tests.rtp.line import Line
from tests.support.damaged_media import FORMS, FarEnd, Way, deliver

ROWS: Final = 512
ROUND_TICKS: Final = 1000
DAMAGED: Final = 5  # packets in a tick without a genuine one
MAX_COUNT: Final = 1 << 40  # what is above has been below zero
MOST_AHEAD_S: Final = 2.5  # a second, and what one packet may still jump
LEEWAY_S: Final = 0.5  # for what is waited for at the end
LEAST_SHARE: Final = 0.5  # of call time in the ring: each time line that is laid anew may cost a gap deadline
GROWTH_MB: Final = 20.0  # what the allocator may keep between the first tenth and the end


class Storm:
    """A plane whose rows all have a far end; `round` is five seconds of it."""

    def __init__(self, rows: int = ROWS) -> None:
        self.line = Line(rows=rows, rtcp_interval_ms=1000)
        self.rows = rows
        self.packets = 0
        self.generation = 0

    def round(self, seed: int, ticks: int = ROUND_TICKS) -> str:
        """Open every row, let packets rain, look, close; "" when all was well, else what was not."""
        rng = random.Random(seed)
        line, self.generation = self.line, self.generation + 1
        far_ends = [
            FarEnd(line, row, self.generation, FORMS[(row + seed) % len(FORMS)], rng) for row in range(self.rows)
        ]
        for far_end in far_ends:
            far_end.open()
        for tick in range(ticks):
            for far_end in far_ends:
                if far_end.row % 4 == tick % 4:
                    self.packets += deliver(line, far_end, far_end.genuine(), Way.CONNECTED)
                else:
                    for _ in range(DAMAGED):
                        self.packets += deliver(line, far_end, *far_end.damaged())
            if rng.random() < 0.02:
                rng.choice(far_ends).renegotiate()
            line.tick()
        problem = self._look(far_ends, ticks)
        for row in range(self.rows):
            line.do(CloseRow(row, self.generation))
        line.tick()
        line.events.clear()
        line.io.sent.clear()
        line.sockets.control.clear()
        return problem

    def _look(self, far_ends: list[FarEnd], ticks: int) -> str:
        table, elapsed_s = self.line.table, ticks * 0.005
        if not table.active.all():
            return f"rows {np.flatnonzero(table.active == 0).tolist()} have closed"
        wrapped = np.argwhere(table.counters > MAX_COUNT)
        if len(wrapped):
            return f"{COUNTERS[wrapped[0][1]]} of row {wrapped[0][0]} fell below zero"
        if not np.isfinite(table.gauges).all():
            return f"gauges that are no numbers: {np.argwhere(~np.isfinite(table.gauges)).tolist()[:5]}"
        for far_end in far_ends:
            if problem := self._look_at(far_end, elapsed_s):
                return f"row {far_end.row} ({far_end.form.name}): {problem}"
        return ""

    def _look_at(self, far_end: FarEnd, elapsed_s: float) -> str:
        table, row = self.line.table, far_end.row
        heard_s = int(table.rx_head[row]) / int(table.rate_hz[row])
        if not elapsed_s * LEAST_SHARE - LEEWAY_S <= heard_s <= elapsed_s + MOST_AHEAD_S:
            return f"{heard_s:.2f} s in the ring after {elapsed_s:.2f} s"
        sent = [packet for packet in self.line.sent(row) if not 192 <= packet.data[1] <= 223]
        if any((after.sequence - before.sequence) % 65536 != 1 for before, after in pairwise(sent)):
            return "our sequence has a gap"
        if abs(len(sent) - elapsed_s * 50) > 3:
            return f"{len(sent)} packets sent in {elapsed_s:.2f} s"
        received = self.line.counter("packets_received", row)
        if far_end.form.profile and received > far_end.authentic:
            return f"{received} packets heard, {far_end.authentic} were sent with its key"
        return ""


def fuzz(packets: int, seed: int = 0, rows: int = ROWS, ticks: int = ROUND_TICKS) -> dict[str, Any]:
    """Rounds until `packets` have come."""
    storm, rounds, problem, after_a_tenth = Storm(rows), 0, "", 0.0
    started = time.monotonic()
    while storm.packets < packets and not problem:
        try:
            problem = storm.round(seed + rounds, ticks)
        except Exception:
            problem = traceback.format_exc()
        rounds += 1
        print(f"{storm.packets} packets, {_resident_mb():.1f} MB {problem}", file=sys.stderr, flush=True)
        if not after_a_tenth and storm.packets >= packets / 10:
            after_a_tenth = _resident_mb()
    resident = _resident_mb()
    if not problem and resident > after_a_tenth + GROWTH_MB:
        problem = f"memory has grown from {after_a_tenth:.1f} to {resident:.1f} MB"
    return {
        "benchmark": "fuzz_media",
        "packets": storm.packets,
        "rounds": rounds,
        "line_hours": round(rounds * ticks * rows * 0.005 / 3600, 2),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "rss_after_a_tenth_mb": round(after_a_tenth, 1),
        "rss_mb": round(resident, 1),
        "problem": problem and f"seed {seed + rounds - 1}: {problem}",
    }


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    warnings.simplefilter("error")  # numpy only warns of an overflow
    result = fuzz(options.packets, options.seed)
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    sys.exit(1 if result["problem"] else 0)


if __name__ == "__main__":
    main()
