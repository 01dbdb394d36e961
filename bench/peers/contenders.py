"""Who is measured: how each is started, how it is called, how many calls it takes."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.peers import installed
from bench.peers.caller import Caller, as_registrar, over_udp

PROGRAMS: Final = Path(__file__).parent / "programs"
ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
REGISTRAR: Final = ("127.77.0.1", 5060)  # agent-transport knows no other port than 5060
START_S: Final = 60.0

CONFIG: Final = """\
[sip]
listen = ["udp:{host}:{port}"]
accept_unknown_sources = true
[media]
address = "{host}"
ports = [50000, {last_port}]
[limits]
max_calls = {calls}
[http]
listen = ""
[log]
level = "error"
[records]
directory = "{folder}/records"
[[route]]
brain = "none:None"
pipeline = "echo"
"""


class UnableError(Exception):
    """Why a contender cannot be measured, in one line."""


@dataclass(frozen=True, slots=True)
class Contender:
    """`argument` is what its program is given: where it listens, or where its registrar is."""

    name: str
    kind: str  # what carries its media
    package: str = ""
    version: str = ""
    program: str = ""
    argument: Callable[[int], str] = str
    most_calls: int = 1_000_000
    registers: bool = False


CONTENDERS: Final = (
    Contender("sipagent", "Python, all planes"),
    Contender(
        "agent-transport", "Rust", "agent-transport", "0.2.2", "agent_transport_echo.py", lambda port: REGISTRAR[0],
        registers=True,
    ),
    Contender(
        "baresip-python", "C", "baresip-python", "0.5.2a3", "baresip_echo.py", lambda port: f"{HOST}:{port}"
    ),
    Contender(
        "pjsua2", "C", "pjsua2-python", "2.15.1.post1", "pjsua2_echo.py", most_calls=4,
    ),
)  # fmt: skip


@asynccontextmanager
async def running(contender: Contender, calls: int, cache: Path, folder: Path) -> AsyncIterator[tuple[int, Caller]]:
    """The contender, ready for that many calls, and a caller for it: (process id, caller). Raises UnableError."""
    log_path = folder / "log"
    server: asyncio.Server | None = None
    transport: asyncio.BaseTransport | None = None
    process: asyncio.subprocess.Process | None = None
    with log_path.open("wb") as log:
        try:
            if contender.registers:
                try:
                    caller, server = await as_registrar(*REGISTRAR)
                except OSError as problem:
                    raise UnableError(
                        f"cannot listen on {REGISTRAR[0]}:{REGISTRAR[1]}: {problem.strerror}"
                    ) from problem
            port = _free_port()
            command = await asyncio.to_thread(_command, contender, port, calls, cache, folder)
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE if contender.program else log, stderr=log, cwd=folder,
                env=os.environ | {"PYTHONPATH": "" if contender.program else str(ROOT)}, start_new_session=True,
            )  # fmt: skip
            if not contender.registers:
                caller, transport = await over_udp(HOST, (HOST, port))
            await _ready(contender, process, caller, port, log_path)
            yield process.pid, caller
        finally:
            await _end(process)
            if transport is not None:
                transport.close()
            if server is not None:
                server.close()


def _command(contender: Contender, port: int, calls: int, cache: Path, folder: Path) -> list[str]:
    if not contender.program:
        config = folder / "sipagent.toml"
        last_port = 50000 + 4 * calls + 40
        config.write_text(CONFIG.format(host=HOST, port=port, calls=calls, folder=folder, last_port=last_port))
        return [sys.executable, "-m", "sipagent", "serve", "--config", str(config)]
    try:
        python = installed.python_with(contender.package, contender.version, cache)
    except installed.NotInstalledError as problem:
        raise UnableError(str(problem)) from problem
    return [str(python), str(PROGRAMS / contender.program), contender.argument(port)]


async def _ready(
    contender: Contender, process: asyncio.subprocess.Process, caller: Caller, port: int, log_path: Path
) -> None:
    """Wait until it takes calls."""
    try:
        async with asyncio.timeout(START_S):
            if process.stdout is not None:
                while (line := await process.stdout.readline()).strip() != b"READY":
                    if not line:
                        raise UnableError(f"ended at its start: {last_line(log_path)}")
                if contender.registers:
                    await caller.registered.wait()
                return
            while not await _answers_options(caller, port):
                if process.returncode is not None:
                    raise UnableError(f"ended at its start: {last_line(log_path)}")
                await asyncio.sleep(0.2)
    except TimeoutError as problem:
        raise UnableError(f"not ready after {START_S:.0f} s: {last_line(log_path)}") from problem


async def _answers_options(caller: Caller, port: int) -> bool:
    """Whether a user agent answers OPTIONS there with 200; one that has no worker yet does not."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.bind((HOST, 0))
        here = f"{HOST}:{asking.getsockname()[1]}"
        request = (
            f"OPTIONS sip:echo@{HOST}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{here}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:bench@{here}>;tag=1\r\nTo: <sip:echo@{HOST}:{port}>\r\n"
            f"Call-ID: {here}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:bench@{here}>\r\nContent-Length: 0\r\n\r\n"
        )
        try:
            asking.connect((HOST, port))
            await loop.sock_sendall(asking, request.encode())
            answer = await asyncio.wait_for(loop.sock_recv(asking, 4096), 0.5)
        except (OSError, TimeoutError):
            return False
        return answer.startswith(b"SIP/2.0 200")


async def _end(process: asyncio.subprocess.Process | None) -> None:
    """End the process and all that it started."""
    if process is None:
        return
    for sign, wait_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        if process.returncode is not None:
            break
        process.send_signal(sign)
        try:
            await asyncio.wait_for(process.wait(), wait_s)
        except TimeoutError:
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def last_line(path: Path) -> str:
    """The last line of a log, in so far as it fits a table."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        trial.bind((HOST, 0))
        return int(trial.getsockname()[1])
