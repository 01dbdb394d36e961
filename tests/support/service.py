"""`sipagent serve` as its own process, with the HTTP client that a user would have."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.support.netem import within
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

BASE = """\
[sip]
listen = ["udp:127.0.0.1:{sip_port}", "tcp:127.0.0.1:{sip_port}"]
accept_unknown_sources = true
keepalive_seconds = 0

[media]
address = "127.0.0.1"
ports = [{first}, {last}]
{media}
[http]
listen = "unix:{folder}/http.sock"

[records]
directory = "{folder}/records"
"""


class Service:
    """A running service under test."""

    def __init__(self, folder: Path, sip_port: int, rtp_ports: range, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.sip_port = sip_port
        self.rtp_ports = rtp_ports
        self.process = process
        self.http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(folder / "http.sock")), base_url="http://sipagent", timeout=30
        )

    @property
    def rtp_filter(self) -> str:
        """For a capture of our calls' media alone: tcpdump loses packets when it has to look at everybody's."""
        return f"udp portrange {self.rtp_ports.start}-{self.rtp_ports.stop - 1}"

    async def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.http.get("/healthz")).json()
        return answer

    async def calls(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = (await self.http.get("/v1/calls")).json()["calls"]
        return answer

    async def place(self, to: str, **body: Any) -> str:
        answer = await self.http.post("/v1/calls", json={"to": to, **body})
        assert answer.status_code == 202, answer.text
        call_id: str = answer.json()["id"]
        return call_id

    async def call_in_state(self, state: str, call_id: str = "", seconds: float = 20.0) -> dict[str, Any]:
        """The (first) call once it is in that state."""
        async with asyncio.timeout(seconds):
            while True:
                for call in await self.calls():
                    if call["state"] == state and call_id in ("", call["id"]):
                        return call
                await asyncio.sleep(0.05)

    async def events(self, call_id: str) -> AsyncIterator[dict[str, Any]]:
        """Every event of a call, to its end."""
        async with self.http.stream("GET", f"/v1/calls/{call_id}/events", timeout=None) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    async def until(self, call_id: str, kind: str, seconds: float = 30.0, **fields: Any) -> dict[str, Any]:
        """The first event of that type whose fields are these."""
        async with asyncio.timeout(seconds):
            async for event in self.events(call_id):
                if event["type"] == kind and all(event.get(name) == value for name, value in fields.items()):
                    return event
        raise AssertionError(f"call {call_id} ended without {kind} {fields}")

    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 30)


@asynccontextmanager
async def service(
    folder: Path, extra: str, ports: int = 40, start_seconds: float = 60.0, namespace: str = "", media: str = ""
) -> AsyncIterator[Service]:
    """The service with BASE and TOML: `extra` behind it (routes, trunks, limits), `media` in [media]; till stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    sip_port, first = free_port(tcp=True), free_port(count=ports)
    config = folder / "sipagent.toml"
    last = first + ports - 2
    config.write_text(BASE.format(sip_port=sip_port, first=first, last=last, folder=folder, media=media) + extra)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support" / "brains"), "PYTHONUNBUFFERED": "1"}
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):  # else each process compiles every module anew
        environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "sipagent-tests-pycache")
    if "max_pacing_ms" not in extra:  # the machine may be busy with other tests
        environment["SIPAGENT__LIMITS__MAX_PACING_MS"] = "0"
    if "max_calls" not in extra:
        environment["SIPAGENT__LIMITS__MAX_CALLS"] = str(ports // 4)
    with (folder / "service.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *within(namespace), sys.executable, "-m", "sipagent", "serve", "--config", str(config),
            stdout=log, stderr=log, env=environment, cwd=folder, process_group=0,
        )  # fmt: skip
    running = Service(folder, sip_port, range(first, first + ports), process)
    try:
        async with asyncio.timeout(start_seconds):
            while True:
                assert process.returncode is None, running.log()
                try:
                    if not (await running.http.get("/readyz")).json().get("missing"):
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        yield running
    except BaseException:
        print(running.log()[-6000:])
        raise
    finally:
        try:
            await running.stop()
        except TimeoutError:
            process.kill()
            await process.wait()
        await running.http.aclose()


async def workers_ready(agent: Service, seconds: float = 60.0) -> None:
    """Wait until every worker has loaded its models."""
    async with asyncio.timeout(seconds):
        while not all(worker["ready"] for worker in (await agent.health())["workers"]):
            await asyncio.sleep(0.1)
