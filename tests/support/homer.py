"""A capture server that we did not write: Kamailio's sipcapture reads HEP and writes what it understood to a file."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.kamailio import MODULE_FOLDERS
from tests.support.ports import free_port

CONFIG = """\
#!KAMAILIO
debug=2
log_stderror=yes
children=1
listen=udp:127.0.0.1:{port}
disable_tcp=yes
mpath="{modules}"
loadmodule "db_flatstore.so"
loadmodule "sipcapture.so"
modparam("db_flatstore", "flush", 1)
modparam("sipcapture", "db_url", "flatstore:{folder}")
modparam("sipcapture", "capture_on", 1)
modparam("sipcapture", "hep_capture_on", 1)
modparam("sipcapture", "insert_retries", 1)
request_route {{ sip_capture(); drop; }}
onreply_route {{ sip_capture(); drop; }}
"""


@dataclass(frozen=True, slots=True)
class Captured:
    """One message as the server stored it; `proto` is 1 for UDP and 2 for TCP, `node` ends in the capture id."""

    microseconds: int
    method: str  # or status
    call_id: str
    source: tuple[str, int]
    target: tuple[str, int]
    proto: int
    node: str
    correlation: str
    text: str


class Homer:
    """A running server."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder

    def messages(self) -> list[Captured]:
        """What has come so far."""
        lines = [line for path in self._folder.glob("sip_capture_*.log") for line in path.read_text().splitlines()]
        return [_captured(line.split("|")) for line in lines]

    async def until(self, count: int, seconds: float = 15.0) -> list[Captured]:
        """Wait for so many messages."""
        async with asyncio.timeout(seconds):
            while len(self.messages()) < count:
                await asyncio.sleep(0.05)
        return self.messages()


def _captured(row: list[str]) -> Captured:
    text = re.sub(r"\\x([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), row[40])
    source, target = (row[22], int(row[23])), (row[24], int(row[25]))
    return Captured(int(row[1]), row[2], row[13], source, target, int(row[30]), row[34], row[35], text)


@contextlib.asynccontextmanager
async def homer() -> AsyncIterator[Homer]:
    """Start one in a folder of its own, stop it at the end; skips the test when it is not installed."""
    modules = next((folder for folder in MODULE_FOLDERS if Path(folder, "sipcapture.so").exists()), None)
    if shutil.which("kamailio") is None or modules is None:
        pytest.skip("Kamailio with sipcapture is not installed")
    with tempfile.TemporaryDirectory(prefix="homer") as name:
        folder, port = Path(name), free_port()
        (folder / "kamailio.cfg").write_text(CONFIG.format(port=port, modules=modules, folder=folder))
        process = await asyncio.create_subprocess_exec(
            *("kamailio", "-f", str(folder / "kamailio.cfg"), "-DD", "-E", "-Y", name, "-P", f"{name}/pid"),
            *("-m", "32", "-M", "4"),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stderr is not None
        reading = None
        try:
            async with asyncio.timeout(20):  # the last thing that it says, shortly before it binds its socket
                while b"SO_RCVBUF is finally" not in (line := await process.stderr.readline()):
                    assert line, "Kamailio did not start"
                while f"0100007F:{port:04X} " not in Path("/proc/net/udp").read_text():
                    await asyncio.sleep(0.01)
            reading = asyncio.ensure_future(process.stderr.read())  # else it would wait for a full pipe
            yield Homer(folder, port)
        finally:
            # One that is asked to end while it starts may never do so, and its children would hold the pipe open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            if reading is not None:
                await reading
