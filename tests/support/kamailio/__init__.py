"""A real Kamailio for a test: registrar and proxy on loopback.

    async with kamailio(port=25500, pstn="127.0.0.1:25510", options=("WITH_407",)) as proxy:
        await proxy.contacts("agent")

Users alice, bob, carol and agent have the password NAME-secret; numbers of four digits and more go to `pstn`.
The user "down" gets 503 with Retry-After. Options: WITH_SHA256 (RFC 8760), WITH_407 (INVITEs of users are challenged).
With `tls` (certificate and key) it speaks TLS on the next port too. WITH_RTPENGINE sends the media of all calls through
the one at `rtpengine`, and WITH_SRTP encrypts it towards the callee.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).with_name("kamailio.cfg")
MODULE_FOLDERS = ("/usr/lib/x86_64-linux-gnu/kamailio/modules/", "/usr/lib/kamailio/modules/")
TLS = """\
[server:default]
method = TLSv1.2+
certificate = {certificate}
private_key = {key}
verify_certificate = no
require_certificate = no
[client:default]
method = TLSv1.2+
verify_certificate = no
require_certificate = no
"""


@dataclass(frozen=True)
class Kamailio:
    """A running one."""

    port: int
    folder: Path

    @property
    def uri(self) -> str:
        return f"sip:127.0.0.1:{self.port}"

    async def rpc(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "kamcmd", "-s", f"unix:{self.folder}/ctl", *words, stdout=-1, stderr=-1
        )
        out, _ = await process.communicate()
        return out.decode()

    async def contacts(self, user: str) -> list[str]:
        """The Contact URIs that a user is registered with."""
        dump = await self.rpc("ul.dump")
        found, current = [], ""
        for line in dump.splitlines():
            key, _, value = line.strip().partition(": ")
            if key == "AoR":
                current = value
            elif key == "Address" and current.partition("@")[0] == user:
                found.append(value)
        return found

    async def registered(self, user: str, seconds: float = 15.0) -> None:
        """Wait until a user is registered."""
        async with asyncio.timeout(seconds):
            while not await self.contacts(user):
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def kamailio(
    port: int,
    pstn: str = "127.0.0.1:9",
    options: tuple[str, ...] = (),
    tls: tuple[str, str] | None = None,
    rtpengine: str = "127.0.0.1:9",
) -> AsyncIterator[Kamailio]:
    """Start one in a folder of its own, stop it at the end; skips the test when it is not installed."""
    modules = next((folder for folder in MODULE_FOLDERS if Path(folder).is_dir()), None)
    if shutil.which("kamailio") is None or modules is None:
        pytest.skip("Kamailio is not installed")
    with tempfile.TemporaryDirectory(prefix="kam") as name:
        folder = Path(name)
        text = TEMPLATE.read_text()
        values = {"RUN": name, "PORT": str(port), "TLSPORT": str(port + 1), "PSTN": pstn, "MODULES": modules}
        values["NG"] = rtpengine
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        config = folder / "kamailio.cfg"
        config.write_text(text)
        if tls is not None:
            if not Path(modules, "tls.so").exists():
                pytest.skip("Kamailio's TLS module is not installed (apt-get install kamailio-tls-modules)")
            options = (*options, "WITH_TLS")
            (folder / "tls.cfg").write_text(TLS.format(certificate=tls[0], key=tls[1]))
        defines = [word for option in options for word in ("-A", option)]
        log = (folder / "log").open("wb")
        process = await asyncio.create_subprocess_exec(
            *("kamailio", "-f", str(config), "-DD", "-E", "-Y", name, "-P", f"{name}/pid", "-m", "32", "-M", "4"),
            *defines,
            stdout=log,
            stderr=log,
            process_group=0,
        )
        try:
            await _answers(port, folder)
            yield Kamailio(port, folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children hold the port, also when it has hung
            await process.wait()
            log.close()


async def _answers(port: int, folder: Path) -> None:
    """Wait until it answers OPTIONS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.setblocking(False)
        own = probe.getsockname()[1]
        for attempt in range(100):
            ping = (
                f"OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bKp{attempt}\r\n"
                f"From: <sip:p@127.0.0.1>;tag={os.getpid()}\r\nTo: <sip:127.0.0.1:{port}>\r\n"
                f"Call-ID: {own}-{attempt}\r\n"
                f"CSeq: 1 OPTIONS\r\nMax-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
            )
            with contextlib.suppress(OSError):
                probe.sendto(ping.encode(), ("127.0.0.1", port))
            await asyncio.sleep(0.1)
            with contextlib.suppress(OSError):
                if probe.recv(2000).startswith(b"SIP/2.0 "):
                    return
    raise AssertionError(f"Kamailio does not answer:\n{(folder / 'log').read_text()[-2000:]}")
