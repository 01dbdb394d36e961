"""sipp as a far end: one scenario, its exit status, and what it said.

async with sipp("uas_echo.xml", "127.0.0.1:25060", port=25110, transport="u1") as far_end: …
assert (await far_end.finished()) == 0
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).parents[1] / "sip" / "scenarios"


@dataclass(frozen=True)
class Sipp:
    """A running sipp."""

    process: asyncio.subprocess.Process
    folder: Path

    async def finished(self, limit_s: float = 20.0) -> int:
        """Its exit status: 0 = every call went as the scenario says."""
        return await asyncio.wait_for(self.process.wait(), limit_s)

    def errors(self) -> str:
        """What it complained of."""
        found = [path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*errors.log"))]
        return "\n".join(found)


@contextlib.asynccontextmanager
async def sipp(
    scenario: str,
    remote: str = "",
    *,
    port: int,
    transport: str = "u1",
    calls: int = 1,
    rate: float = 10,
    keys: Mapping[str, str] | None = None,
    service: str = "agent",
    limit_s: float = 20,
    extra: tuple[str, ...] = (),
) -> AsyncIterator[Sipp]:
    """Run a scenario: a file's name, XML text, or "uac"/"uas", the built-in ones; skips without sipp."""
    if shutil.which("sipp") is None:
        pytest.skip("sipp is not installed")
    words = [word for key, value in (keys or {}).items() for word in ("-key", key, value)]
    with tempfile.TemporaryDirectory(prefix="sipp") as name:
        which = ("-sf", str(SCENARIOS / scenario)) if scenario.endswith(".xml") else ("-sn", scenario)
        if scenario.startswith("<?xml"):
            (Path(name) / "scenario.xml").write_text(scenario)
            which = ("-sf", "scenario.xml")
        process = await asyncio.create_subprocess_exec(
            *("sipp", *([remote] if remote else []), *which, "-i", "127.0.0.1", "-p", str(port), "-t", transport),
            *("-m", str(calls), "-r", str(rate), "-s", service, "-nostdin", "-timeout", str(limit_s), "-timeout_error"),
            *("-trace_err", "-mp", str(port + 400), *words, *extra),
            cwd=name,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        far_end = Sipp(process, Path(name))
        try:
            if not remote:
                await _bound(port, "tcp" if transport.startswith("t") else "udp", process)
            yield far_end
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _bound(port: int, kind: str, process: asyncio.subprocess.Process, limit_s: float = 10.0) -> None:
    """Wait until somebody listens at the port: sipp says nowhere that its socket is bound."""
    state = {"tcp": "0A", "udp": "07"}[kind]  # listening, unconnected: Linux's include/net/tcp_states.h
    async with asyncio.timeout(limit_s):
        while True:
            sockets = [line.split()[1:4] for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
            if any(local.endswith(f":{port:04X}") and now == state for local, _, now in sockets):
                return
            assert process.returncode is None, "sipp has ended"
            await asyncio.sleep(0.01)
