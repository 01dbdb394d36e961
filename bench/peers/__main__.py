"""The same calls through ours and through its peers, in one run, measured from outside.

    python -m bench.peers [--calls 100,200] [--seconds 15] [--peers sipagent,baresip-python] [--cache FOLDER] [--json]

Each contender answers SIP calls and echoes G.711 RTP. One load generator calls them all: SIP by `caller.py`, RTP by
`bench/talker.c`. Processor time is that of the whole process tree from /proc, less what it takes without calls. Peers
are installed from their wheels, in pinned versions, each into a virtual environment of its own in the cache folder.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

from bench.loadgen import Compiled
from bench.peers import installed
from bench.peers.contenders import CONTENDERS
from bench.peers.measure import Row, measure

DEFAULT_CALLS: Final = (100, 200)
COLUMNS: Final = ("peer", "calls", "CPU %/call", "ours is", "p50", "p99", "p99.9", "max", "delay", "lost",
                  "KB/call", "threads", "failed", "remarks")  # fmt: skip


async def run(calls: tuple[int, ...], seconds: float, peers: tuple[str, ...], cache: Path) -> list[Row]:
    """Every contender under every number of calls; one that takes few calls is measured with as many as it takes."""
    compiled = Compiled()
    rows = []
    few = sorted({contender.most_calls for contender in CONTENDERS if contender.most_calls < min(calls)})
    for contender in CONTENDERS:
        if contender.name in peers:
            for count in (*few, *calls):
                if count in calls or contender.most_calls <= count or contender.name == CONTENDERS[0].name:
                    print(f"{contender.name}, {count} calls …", file=sys.stderr)
                    rows.append(await measure(contender, count, seconds, cache, compiled))
    return rows


def report(rows: list[Row]) -> dict[str, Any]:
    """The JSON object: rows, and for each number of calls how ours compares with the best peer."""
    against: dict[str, dict[str, float]] = {}
    for count in sorted({row.calls for row in rows}):
        ours = _ours(rows, count)
        others = [row for row in rows if row.calls == count and row is not ours and row.heard]
        if ours is None or not ours.heard or not others:
            continue
        best_cpu = min(row.cpu_percent_per_call for row in others)
        best_pacing = min(row.heard["pacing_ms"].get("p99_9", float("inf")) for row in others)
        against[str(count)] = {
            "cpu_of_the_best_peer": _share(ours.cpu_percent_per_call, best_cpu),
            "pacing_p99_9_ms": ours.heard["pacing_ms"].get("p99_9", 0.0),
            "best_peer_pacing_p99_9_ms": best_pacing,
        }
    return {
        "benchmark": "peers",
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "rows": [row.as_dict() for row in rows],
        "against_the_best_peer": against,
    }


def table(rows: list[Row]) -> str:
    """Rows for reading; pacing and delay in ms, `ours is`: our CPU per call as a share of theirs."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for row in rows:
        ours = _ours(rows, row.calls)
        heard = row.heard
        if not heard:
            lines.append((row.peer, str(row.calls), *[""] * 11, row.problem))
            continue
        share = ours.cpu_percent_per_call / row.cpu_percent_per_call if ours and row.cpu_percent_per_call > 0 else 0.0
        pacing = heard["pacing_ms"]
        lines.append((
            row.peer, str(row.calls), f"{row.cpu_percent_per_call:.3f}", f"{share:.2f} ×" if share else "",
            *(f"{pacing.get(part, 0):.2f}" for part in ("p50", "p99", "p99_9", "max")),
            f"{heard['delay_ms'].get('p50', 0):.1f}", f"{100 * heard['speech_lost']:.2f} %",
            f"{row.kilobytes_per_call:.0f}", str(row.threads), str(row.failed_calls),
            row.problem or ", ".join(f"{count} × {why}" for why, count in row.failures.items()),
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, len(COLUMNS) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _share(ours: float, theirs: float) -> float:
    return round(ours / theirs, 3) if theirs > 0 else 0.0


def _ours(rows: list[Row], calls: int) -> Row | None:
    return next((row for row in rows if row.peer == CONTENDERS[0].name and row.calls == calls), None)


def main() -> None:
    names = tuple(contender.name for contender in CONTENDERS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default=",".join(map(str, DEFAULT_CALLS)), help="numbers of calls, with commas")
    parser.add_argument("--seconds", type=float, default=15.0, help="that are measured of each run")
    parser.add_argument("--peers", default=",".join(names), help="whom to measure, with commas")
    parser.add_argument("--cache", type=Path, default=installed.CACHE, help="for the wheels")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    peers = tuple(arguments.peers.split(","))
    if unknown := set(peers) - set(names):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two sockets for each call, here and there
    calls = tuple(int(count) for count in arguments.calls.split(","))
    rows = asyncio.run(run(calls, arguments.seconds, peers, arguments.cache))
    print(json.dumps(report(rows)) if arguments.json else table(rows))
    if not arguments.json:
        print("pacing and delay in ms; CPU in % of one core; load average now", round(os.getloadavg()[0], 2))


if __name__ == "__main__":
    main()
