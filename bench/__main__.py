"""Every benchmark in turn: a table of each on the screen, all figures in bench-results.json.

    python -m bench [--quick] [--only NAME]... [--output bench-results.json]

Each runs in a process of its own, so that one that fails is told and the others go on; the exit status is 1 then.
`--quick` takes less than five minutes. Single benchmarks: `python -m bench.NAME --help`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.plan import BENCHMARKS, Benchmark
from bench.show import lines

ROOT: Final = Path(__file__).resolve().parents[1]
LONGEST_S: Final = 3600.0
LONGEST_QUICK_S: Final = 120.0


def run(benchmark: Benchmark, arguments: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """One run: {"arguments", "seconds", "load_average", "result"}, or "problem" in place of the result."""
    command = [sys.executable, "-m", f"bench.{benchmark.name}", *arguments, "--json"]
    began, load = time.monotonic(), os.getloadavg()[0]
    facts = {"arguments": list(arguments), "load_average": round(load, 2)}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its own children
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        return facts | {"seconds": round(timeout_s, 1), "problem": f"stopped after {timeout_s:.0f} s"}
    facts["seconds"] = round(time.monotonic() - began, 1)
    if process.returncode:
        said = [line for line in errors.splitlines() if line.strip()]
        return facts | {"problem": f"exit status {process.returncode}: {said[-1] if said else 'it said nothing'}"}
    try:
        return facts | {"result": json.loads(output.strip().splitlines()[-1])}
    except (json.JSONDecodeError, IndexError):
        return facts | {"problem": "printed no JSON object"}


def run_all(chosen: Sequence[Benchmark], *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Every run of every benchmark, shown as it comes."""
    results: dict[str, list[dict[str, Any]]] = {}
    for benchmark in chosen:
        print(f"\n== {benchmark.name}: {benchmark.says}", flush=True)
        results[benchmark.name] = []
        for arguments in benchmark.runs(quick):
            done = run(benchmark, arguments, LONGEST_QUICK_S if quick else LONGEST_S)
            results[benchmark.name].append(done)
            print(f"-- python -m bench.{benchmark.name} {' '.join(arguments)}  ({done['seconds']} s)")
            for line in lines(done["result"]) if "result" in done else [f"FAILED: {done['problem']}"]:
                print(line, flush=True)
    return results


def main() -> int:
    there = [benchmark for benchmark in BENCHMARKS if benchmark.exists]
    names = [benchmark.name for benchmark in there]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--output", type=Path, default=Path("bench-results.json"))
    arguments = parser.parse_args()
    chosen = [benchmark for benchmark in there if not arguments.only or benchmark.name in arguments.only]
    results = run_all(chosen, quick=arguments.quick)
    machine: dict[str, Any] = {"cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release()}
    machine |= {"python": platform.python_version(), "load_average": round(os.getloadavg()[0], 2)}
    report = {"machine": machine, "quick": arguments.quick, "benchmarks": results}
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    failed = [name for name, runs in results.items() if any("problem" in done for done in runs)]
    print(f"\nFigures in {arguments.output}." + (f" FAILED: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
