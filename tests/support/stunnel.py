"""stunnel (Debian): gives a far end that speaks only TCP, sipp 3.6, a TLS that we did not write either."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority

CONFIG = """\
foreground = yes
pid =
syslog = no
debug = info
[line]
client = {client}
accept = 127.0.0.1:{accept}
connect = 127.0.0.1:{connect}
CAfile = {authority}
{keys}
"""


@asynccontextmanager
async def stunnel(folder: Path, trusted: Authority, accept: int, connect: int, client: bool) -> AsyncIterator[None]:
    """From port `accept` to port `connect` of 127.0.0.1: `client` speaks TLS to `connect` and checks its certificate,
    else TLS is spoken at `accept`.
    """
    if shutil.which("stunnel") is None:
        pytest.skip("stunnel is not installed (apt-get install stunnel4)")
    keys = "verifyChain = yes\ncheckIP = 127.0.0.1"
    if not client:
        certificate, key = trusted.issue(f"stunnel{accept}", "IP:127.0.0.1")
        keys = f"cert = {certificate}\nkey = {key}"
    config = folder / f"stunnel{accept}.conf"
    config.write_text(
        CONFIG.format(
            client="yes" if client else "no", accept=accept, connect=connect, authority=trusted.certificate, keys=keys
        )
    )
    with (folder / f"stunnel{accept}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec("stunnel", str(config), stdout=log, stderr=log)
    try:
        async with asyncio.timeout(10):
            while "Configuration successful" not in (folder / f"stunnel{accept}.log").read_text():
                assert process.returncode is None, (folder / f"stunnel{accept}.log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        await process.wait()
