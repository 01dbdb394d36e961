"""linphonec 5.1 (Debian), headless: a softphone that registers, calls, plays a WAV and records what it hears."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port

# sip_tcp_port = 0 switches TCP off; a bind_address would break UDP in this version.
CONFIG = """\
[sip]
sip_port={sip_port}
sip_tcp_port=0
sip_tls_port=0
default_proxy=0
contact="{user}" <sip:{user}@127.0.0.1>
guess_hostname=0
register_only_when_network_is_up=0
media_encryption=none
use_rfc2833=1
use_info=0
[rtp]
audio_rtp_port={rtp_first}-{rtp_last}
audio_jitt_comp=60
[sound]
echocancellation=0
mic_gain_db=0.0
playback_gain_db=0.0
[video]
enabled=0
capture=0
display=0
[proxy_0]
reg_proxy=<sip:127.0.0.1:{registrar};transport=udp>
reg_identity=sip:{user}@127.0.0.1
reg_expires=60
reg_sendregister=1
publish=0
[auth_info_0]
username={user}
userid={user}
passwd={user}-secret
realm=127.0.0.1
domain=127.0.0.1
"""


class Linphone:
    """One running linphonec, registered at 127.0.0.1 port `registrar`."""

    def __init__(self, process: asyncio.subprocess.Process, registrar: int) -> None:
        self.registrar = registrar
        self._process = process
        self._said = ""
        self._seen = 0  # of it, by `until`
        self._more = asyncio.Event()

    async def command(self, text: str) -> None:
        """A line of its menu, such as `call URI`, `answer`, `terminate`, `record WAV`, a digit to press."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()

    async def until(self, text: str, seconds: float = 30.0) -> None:
        """Wait until it says this, after what was waited for before."""
        async with asyncio.timeout(seconds):
            while (found := self._said.find(text, self._seen)) < 0:
                self._more.clear()
                await self._more.wait()
        self._seen = found + len(text)

    async def listen(self) -> None:
        """Collect what it says for ever."""
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(4096):
            self._said += data.decode(errors="replace")
            self._more.set()

    def __repr__(self) -> str:
        return self._said[-3000:]


@asynccontextmanager
async def linphone(folder: Path, user: str, registrar: int, speech: Path) -> AsyncIterator[Linphone]:
    """A linphonec that registers as `user` at 127.0.0.1 port `registrar`; it speaks `speech` (8 kHz mono 16 bit)."""
    if shutil.which("linphonec") is None:
        pytest.skip("linphonec is not installed (apt-get install linphone-cli)")
    for name in (".local/share/linphone", ".config/linphone"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rtp_first = free_port(count=20)
    (folder / "linphonerc").write_text(
        CONFIG.format(
            sip_port=free_port(), user=user, registrar=registrar, rtp_first=rtp_first, rtp_last=rtp_first + 18
        )
    )
    process = await asyncio.create_subprocess_exec(
        "linphonec", "-c", str(folder / "linphonerc"), env=os.environ | {"HOME": str(folder)}, cwd=folder,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    phone = Linphone(process, registrar)
    listening = asyncio.create_task(phone.listen())
    try:
        await phone.command("soundcard use files")
        await phone.command(f"play {speech}")
        yield phone
        await phone.command("quit")
        await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        listening.cancel()
