"""How long a start takes: from `sipagent serve` to REGISTERed at a real Kamailio, and to the workers being ready.

    python -m bench.startup --json
    python -m bench.startup --runs 5 --pipeline echo

The clock starts before the process does and reads the service's own log lines as they come.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.support.kamailio import kamailio
from tests.support.ports import free_port

ROOT: Final = Path(__file__).parents[1]
CONFIG: Final = """
[sip]
listen = ["udp:127.0.0.1:{sip}", "tcp:127.0.0.1:{sip}"]
[media]
address = "127.0.0.1"
ports = [{rtp}, {last}]
[limits]
max_calls = {calls}
[http]
listen = "unix:{folder}/http.sock"
[records]
directory = "{folder}/records"
[log]
format = "json"
[[trunk]]
name = "kamailio"
server = "sip:127.0.0.1:{kamailio}"
username = "agent"
password = "agent-secret"
[[route]]
brain = "line_brains:Plain"
pipeline = "{pipeline}"
"""
STEPS: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "media_ready": lambda line: line["event"] == "media plane ready",
    "registered": lambda line: line["event"] == "registration" and line["state"] == "registered",
    "listening": lambda line: line["event"] == "listening",
    "worker_ready": lambda line: line["event"] == "worker ready",
}


async def start(registrar: int, calls: int, pipeline: str, compiled: str) -> dict[str, float]:
    """Start the service once; seconds by step."""
    with tempfile.TemporaryDirectory(prefix="startup") as folder:
        sip, rtp = free_port(tcp=True), free_port(count=4 * calls)
        config = Path(folder) / "sipagent.toml"
        config.write_text(
            CONFIG.format(
                sip=sip, rtp=rtp, last=rtp + 4 * calls - 2, calls=calls, folder=folder, kamailio=registrar,
                pipeline=pipeline,
            )
        )  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support" / "brains")}
        # An installed package is compiled; here the first start compiles, into a folder of its own.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = compiled
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sipagent", "serve", "-c", str(config), stderr=-1, env=environment, cwd=folder
        )
        assert process.stderr is not None
        seconds: dict[str, float] = {}
        try:
            async with asyncio.timeout(60):
                while len(seconds) < len(STEPS):
                    text = await process.stderr.readline()
                    assert text, "the service has ended"
                    if not text.startswith(b"{"):
                        continue
                    line = json.loads(text)
                    for step, is_done in STEPS.items():
                        if step not in seconds and is_done(line):
                            seconds[step] = round(time.monotonic() - begun, 3)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()
    return seconds


async def measure(runs: int, calls: int, pipeline: str) -> list[dict[str, float]]:
    """`runs` starts, after one that compiles the modules and warms the disk's cache."""
    port = free_port(tcp=True)
    with tempfile.TemporaryDirectory(prefix="pyc") as compiled:
        async with kamailio(port):
            return [await start(port, calls, pipeline, compiled) for _ in range(runs + 1)][1:]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--calls", type=int, default=100, help="max_calls, which decides how many ports are bound")
    parser.add_argument("--pipeline", default="cascaded", choices=["cascaded", "echo"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = asyncio.run(measure(options.runs, options.calls, options.pipeline))
    middle = {step: statistics.median(run[step] for run in runs) for step in STEPS}
    if options.json:
        print(json.dumps({"benchmark": "startup", "cores": os.cpu_count(), "median_s": middle, "runs": runs}))
        return
    print(" ".join(f"{step:>13}" for step in STEPS))
    for run in (*runs, middle):
        print(" ".join(f"{run[step]:>12.3f}s" for step in STEPS))


if __name__ == "__main__":
    main()
