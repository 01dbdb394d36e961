"""`sipagent demo`: a trunk, a caller and the service on this machine; what they say is printed while they say it."""

import asyncio
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx
from rich.console import Console

from sipagent.demo import report, script
from sipagent.demo.registrar import Registrar
from sipagent.errors import ConfigError, LocalError

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "examples"
HOST: Final = "127.0.0.1"
CALLER: Final = "+4930111222"
START_S: Final = 120.0  # models are loaded and checked on the first start
CALL_S: Final = 120.0

MADE_BY: Final = "# Written by `sipagent demo`"
CONFIG: Final = (
    MADE_BY
    + """; a copy of this is a good start for a service of your own.
[sip]
listen = ["udp:{sip_address}"]
accept_unknown_sources = {open_door}

{trunk}
[media]
address = "{media_address}"
ports = [{first_port}, {last_port}]

[conversation]
workers = 1
brain_paths = ["{examples}"]

[[route]]
to = "*"
brain = "receptionist:Receptionist"
options = {{ keypad_digits = 1 }}
record = "wav"
capture = true

[[route]]
to = "nobody"    # reached by name only: POST /v1/calls with this brain
brain = "reminder:Reminder"
record = "wav"
capture = true

[http]
listen = "unix:{folder}/http.sock"

[limits]
max_calls = 4

[records]
directory = "{folder}/records"
"""
)

TRUNK: Final = """\
[[trunk]]
name = "demo"
server = "sip:{host}:{port}"
username = "agent"
password = "{password}"
expires = 60
"""


class Demo:
    """One run; everything that it leaves behind is in `folder`."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder.resolve()
        self.console = console
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.folder / "http.sock")),
            base_url="http://sipagent",
            timeout=30,  # on a machine that is busy loading models
        )

    @asynccontextmanager
    async def service(self, config: str) -> AsyncIterator[None]:
        """`sipagent serve` as its own process, from ready to drained."""
        path = self.folder / "sipagent.toml"
        path.write_text(config)
        with (self.folder / "service.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sipagent", "serve", "--config", str(path), stdout=log, stderr=log
            )
            try:
                try:
                    await asyncio.wait_for(self._until_ready(process), START_S)
                except TimeoutError as error:
                    log_file = self.folder / "service.log"
                    raise LocalError(f"the service was not ready within {START_S:.0f} s; see {log_file}") from error
                yield
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                await process.wait()

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        while True:
            if process.returncode is not None:
                raise LocalError(f"the service did not start; see {self.folder / 'service.log'}")
            try:
                if (await self._http.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)

    async def health(self) -> dict[str, Any]:
        """What /healthz says."""
        answer: dict[str, Any] = (await self._http.get("/healthz")).json()
        return answer

    async def place(self, to: str, brain: str, variables: dict[str, Any]) -> str:
        """Have the agent call somebody; the id of the call."""
        body = {"to": to, "brain": brain, "variables": variables}
        answer = await self._http.post("/v1/calls", json=body, headers={"Idempotency-Key": secrets.token_hex(8)})
        answer.raise_for_status()
        call_id: str = answer.json()["id"]
        return call_id

    async def next_call(self, known: set[str]) -> dict[str, Any]:
        """The next call that is not known yet."""
        while True:
            for call in (await self._http.get("/v1/calls")).json()["calls"]:
                if call["id"] not in known:
                    known.add(call["id"])
                    found: dict[str, Any] = call
                    return found
            await asyncio.sleep(0.05)

    async def follow(self, call: dict[str, Any]) -> report.CallReport:
        """Print what happens in a call until it is over."""
        story = report.CallReport(call["id"], call["direction"])
        async with self._http.stream("GET", f"/v1/calls/{call['id']}/events", timeout=None) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    story.events.append(event)
                    self._show(story, event)
        return story

    def _show(self, story: report.CallReport, event: dict[str, Any]) -> None:
        at = f"[dim]{event['at'] - (story.connected_at or event['at']):6.2f} s[/dim]"
        match event["type"]:
            case "transcript":
                who = "[cyan]caller[/cyan]" if event["role"] == "user" else "[green] agent[/green]"
                cut = " [red][interrupted][/red]" if event.get("interrupted") else ""
                self.console.print(f"{at}  {who}  {event['text']}{cut}", highlight=False)
            case "turn":
                self.console.print(f"{at}  [dim]answered in {event['response_ms']:.0f} ms[/dim]", highlight=False)
            case "dtmf":
                self.console.print(f"{at}  [magenta]key {event['digit']}[/magenta]", highlight=False)
            case "barge_in":
                self.console.print(f"{at}  [red]barge-in[/red]", highlight=False)
            case "state":
                more = f" ({event['outcome']})" if event.get("outcome") else ""
                self.console.print(f"{at}  [dim]{event['state']}{more}[/dim]", highlight=False)

    async def keep(self, story: report.CallReport, name: str) -> report.Kept:
        """Leave what there is of a call: recording, transcript, picture, SIP ladder, packets."""
        kept = report.Kept()
        ladder = await self._http.get(f"/v1/calls/{story.call_id}/ladder", params={"format": "svg"})
        if ladder.status_code == 200:
            kept.ladder = report.write_ladder(ladder.text, self.folder / f"{name}-sip.svg")
        kept.packets = self._copy(story, "capture", self.folder / f"{name}.pcapng")
        kept.recording = self._copy(story, "recording", self.folder / f"{name}.wav")
        report.write_transcript(story, kept, self.folder / f"{name}.txt")
        if kept.recording:
            report.draw(story, Path(kept.recording), self.folder / f"{name}.png")
        return kept

    def _copy(self, story: report.CallReport, kind: str, target: Path) -> str:
        """The file that an event of this type names, under another name; "" when there is none."""
        written = next((event["path"] for event in story.of(kind)), "")
        if not written:
            return ""
        shutil.copyfile(written, target)
        return str(target)

    async def caller(self, steps: tuple[dict[str, str], ...], name: str, **about: Any) -> asyncio.subprocess.Process:
        """pjsua2 in a process of its own, with its script."""
        prepared = await script.prepare(steps, self.folder, name)
        path = self.folder / f"{name}.json"
        record = str(self.folder / f"{name}-heard.wav")
        room = self.folder / "room.wav"
        script.write_wav(room, script.room_noise())
        path.write_text(
            json.dumps({"address": HOST, "record": record, "room": str(room), "steps": prepared, **about}, indent=2)
        )
        log = (self.folder / f"{name}.log").open("wb")
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sipagent.demo.caller", str(path), stdout=log, stderr=log
            )
        finally:
            log.close()


async def play(folder: Path, console: Console) -> dict[str, Any]:
    """The whole demo; what `--json` prints."""
    demo = Demo(folder, console)
    password = secrets.token_hex(8)
    registrar = await Registrar.start({"agent": password, CALLER: password}, HOST)
    port = registrar.address[1]
    config = CONFIG.format(
        sip_address=f"{HOST}:{free_port()}", open_door="false", media_address=HOST, folder=demo.folder,
        examples=EXAMPLES, **_port_range(), trunk=TRUNK.format(host=HOST, port=port, password=password),
    )  # fmt: skip
    calls = []
    known: set[str] = set()
    console.print("starting the service …")
    async with demo.service(config):
        try:
            await asyncio.wait_for(registrar.arrival("agent"), START_S)
        except TimeoutError:
            return {"registered": False, "calls": []}
        console.print(f"registered at the demo trunk on {HOST}:{port}; a caller (pjsua2) dials the agent")
        account = {"from": f"sip:{CALLER}@{HOST}:{port}"}
        caller = await demo.caller(script.STEPS, "call", to=f"sip:agent@{HOST}:{port}", **account)
        async with asyncio.timeout(CALL_S):
            story = await demo.follow(await demo.next_call(known))
            await caller.wait()
        calls.append(story.as_json((await demo.keep(story, "call")).recording))
        console.print("now a program has the agent phone the caller: POST /v1/calls")
        account |= {"registrar": f"sip:{HOST}:{port}", "username": CALLER, "password": password}
        called = await demo.caller(script.CALLBACK_STEPS, "callback", answer=True, **account)
        async with asyncio.timeout(CALL_S):
            await registrar.arrival(CALLER)
            await demo.place(CALLER, "reminder:Reminder", {"name": "Peter", "day": "Tuesday", "time": "ten o'clock"})
            story = await demo.follow(await demo.next_call(known))
            await called.wait()
        calls.append(story.as_json((await demo.keep(story, "callback")).recording))
    registrar.stop()
    return {"registered": True, "calls": calls}


async def listen(folder: Path, console: Console) -> None:
    """Wait for softphones until Ctrl-C."""
    demo = Demo(folder, console)
    address = own_address()
    port = 5060 if _is_free(address, 5060) else free_port()
    config = CONFIG.format(
        sip_address=f"{address}:{port}", open_door="true", media_address=address, folder=demo.folder, examples=EXAMPLES,
        **_port_range(), trunk="",
    )  # fmt: skip
    known: set[str] = set()
    async with demo.service(config):
        console.print(f"dial [bold]sip:agent@{address}:{port}[/bold] from a softphone (UDP, no account); Ctrl-C ends")
        async with asyncio.TaskGroup() as calls:
            while True:
                call = await demo.next_call(known)
                calls.create_task(_follow_and_keep(demo, call))


async def _follow_and_keep(demo: Demo, call: dict[str, Any]) -> None:
    story = await demo.follow(call)
    await demo.keep(story, f"call-{call['id']}")


def run(as_json: bool, wait_for_softphone: bool, output: Path) -> None:
    """What the command line calls."""
    console = Console(quiet=as_json, soft_wrap=True)
    _check_packages(wait_for_softphone)
    _empty(output)
    if wait_for_softphone:
        try:
            asyncio.run(listen(output, console))
        except KeyboardInterrupt:
            return
        return
    try:
        result = asyncio.run(play(output, console))
    except TimeoutError as error:
        logs = f"service.log, call.log and callback.log in {os.path.relpath(output)}/ say more"
        raise LocalError(f"a call of the demo did not come about or did not end in time; {logs}") from error
    if as_json:
        print(json.dumps(result, indent=2))
    if not result["registered"]:
        raise LocalError(f"the service did not register within {START_S:.0f} s; see {output / 'service.log'}")
    if not as_json:
        console.print(
            f"recording, transcript, picture, SIP ladder (SVG) and packets (pcapng) are in {os.path.relpath(output)}/"
        )


def _check_packages(wait_for_softphone: bool) -> None:
    """Raise ConfigError for a package without which the demo would fail halfway."""
    needed = [("hibari", "offline"), ("ctranslate2", "offline"), ("tokenizers", "offline"), ("matplotlib", "demo")]
    for module, extra in needed if wait_for_softphone else [*needed, ("pjsua2", "demo")]:
        if importlib.util.find_spec(module) is None:
            raise ConfigError("demo", f"the package {module} is missing", f"pip install 'sipagent[{extra}]'")


def _empty(folder: Path) -> None:
    """Make an empty folder in place of what an earlier demo left; whatever else is there, is somebody's."""
    written = folder / "sipagent.toml"
    ours = written.is_file() and written.read_text(encoding="utf-8").startswith(MADE_BY)
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("--output", f"{folder} is no folder of an earlier demo", "name another one, or empty it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def free_port(host: str = HOST) -> int:
    """A UDP port that nobody has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def own_address() -> str:
    """The address that other machines see, or loopback on a machine without a network. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: an address of nobody
        except OSError:
            return HOST
        address: str = probe.getsockname()[0]
        return address


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _port_range() -> dict[str, int]:
    first = 20000 + 2 * secrets.randbelow(10000)
    return {"first_port": first, "last_port": first + 98}
