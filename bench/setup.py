"""How fast calls are set up: INVITE → 200 OK as sipp sees it, at several rates, with the engine's CPU time.

    python -m bench.setup --json
    python -m bench.setup --rates 50 100 150 200 --seconds 5

The engine runs in a process of its own and answers at once (180, then 200); sipp calls, acknowledges, hangs up.
Response times are sipp's own (its -trace_rtt file, in ms), CPU is that of the engine's process.
"""

import argparse
import asyncio
import csv
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sipagent.sip.engine import EngineEvent, EngineSettings, IncomingCall
from sipagent.sip.native import NativeEngine

ENGINE_PORT, SIPP_PORT = 25900, 25910
SCENARIO = Path(__file__).parents[1] / "tests" / "sip" / "scenarios" / "uac_setup_time.xml"
SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 27990 RTP/AVP 0\r\n"


def serve(ready: Any, stop: Any, figures: Any) -> None:
    """The engine's process; puts CPU seconds and counters when told to stop."""

    async def main() -> None:
        engine = NativeEngine(EngineSettings(listen=(f"udp:127.0.0.1:{ENGINE_PORT}", f"tcp:127.0.0.1:{ENGINE_PORT}")))

        def react(event: EngineEvent) -> None:
            if isinstance(event, IncomingCall):
                engine.ring(event.handle)
                engine.answer(event.handle, SDP)

        await engine.start(react)
        ready.set()
        before = _cpu_s()
        while not stop.is_set():  # noqa: ASYNC110 - the event belongs to another process
            await asyncio.sleep(0.05)
        figures.put((_cpu_s() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, dict(engine.stats())))
        await engine.stop()

    asyncio.run(main())


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(rate: int, seconds: float, transport: str) -> dict[str, Any]:
    """One run; all times in ms."""
    context = multiprocessing.get_context("spawn")
    ready, stop, figures = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=serve, args=(ready, stop, figures))
    process.start()
    ready.wait(10)
    calls = int(rate * seconds)
    with tempfile.TemporaryDirectory(prefix="setup") as folder:
        started = time.monotonic()
        sipp = subprocess.run(
            [
                *("sipp", f"127.0.0.1:{ENGINE_PORT}", "-sf", str(SCENARIO), "-i", "127.0.0.1", "-p", str(SIPP_PORT)),
                *("-t", transport, "-m", str(calls), "-r", str(rate), "-l", str(calls), "-d", "500", "-nostdin"),
                *("-trace_rtt", "-rtt_freq", "1", "-timeout", str(int(seconds) + 20), "-trace_stat", "-fd", "1"),
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        elapsed_s = time.monotonic() - started
        times_ms = sorted(_response_times(Path(folder)))
        retransmitted = _retransmissions(Path(folder))
    stop.set()
    cpu_s, rss_kb, stats = figures.get(timeout=10)
    process.join(10)
    return {
        "rate": rate,
        "transport": transport,
        "calls": calls,
        "ok": sipp.returncode == 0,
        "measured": len(times_ms),
        "p50_ms": _percentile(times_ms, 0.50),
        "p95_ms": _percentile(times_ms, 0.95),
        "p99_ms": _percentile(times_ms, 0.99),
        "max_ms": _percentile(times_ms, 1.0),
        "retransmitted_by_sipp": retransmitted,
        "cpu_core": round(cpu_s / elapsed_s, 3),
        "cpu_ms_per_call": round(1000 * cpu_s / calls, 3),
        "rss_mb": round(rss_kb / 1024, 1),
        "messages": stats["messages_in"] + stats["messages_out"],
    }


def _response_times(folder: Path) -> list[float]:
    found = []
    for path in folder.glob("*_rtt.csv"):
        with path.open(newline="") as file:
            found += [float(row["response_time_ms"]) for row in csv.DictReader(file, delimiter=";")]
    return found


def _retransmissions(folder: Path) -> int:
    for path in folder.glob("*_.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        if rows and "Retransmissions(C)" in rows[-1]:
            return int(rows[-1]["Retransmissions(C)"])
    return -1


def _percentile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else float("nan")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rates", type=int, nargs="+", default=[50, 100, 150, 200])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--transport", default="u1", choices=["u1", "t1"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if shutil.which("sipp") is None:
        sys.exit("sipp is not installed (package sip-tester)")
    rows = [measure(rate, options.seconds, options.transport) for rate in options.rates]
    if options.json:
        print(json.dumps({"benchmark": "setup", "cores": os.cpu_count(), "runs": rows}))
        return
    titles = ("calls/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "core", "ms/call", "again")
    print(" ".join(f"{title:>{6 if title in ('core', 'again') else 8}}" for title in titles))
    for row in rows:
        print(
            f"{row['rate']:>8} {row['p50_ms']:>8} {row['p95_ms']:>8} {row['p99_ms']:>8} {row['max_ms']:>8}"
            f" {row['cpu_core']:>6} {row['cpu_ms_per_call']:>8} {row['retransmitted_by_sipp']:>6}"
        )


if __name__ == "__main__":
    main()
