"""baresip 1.0 (Debian), headless: a softphone that registers, calls, speaks a WAV and records what it hears."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.netem import connect_within, within
from tests.support.ports import free_port

CONFIG = """\
poll_method epoll
net_interface {host}
sip_listen {listen}:{sip_port}
call_local_timeout 120
call_max_calls 4
audio_path /usr/share/baresip
audio_source aufile,{speech}
audio_player aubridge,nil
audio_alert aubridge,nil
ausrc_srate {rate_hz}
auplay_srate {rate_hz}
ausrc_channels 1
auplay_channels 1
audio_txmode thread
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
audio_buffer 20-160
rtp_ports {rtp_first}-{rtp_last}
rtcp_mux no
jitter_buffer_type off
rtp_stats yes
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module g722.so
module sndfile.so
module ausine.so
module aufile.so
module aubridge.so
module srtp.so
module_tmp uuid.so
module_tmp account.so
module_app contact.so
module_app ctrl_tcp.so
module_app menu.so
ctrl_tcp_listen 127.0.0.1:{control_port}
snd_path {folder}
"""


class Baresip:
    """One running baresip; `heard()` is the WAV of what came from the far end."""

    def __init__(self, folder: Path, control_port: int, sip_port: int, namespace: str = "") -> None:
        self.folder = folder
        self.sip_port = sip_port
        self._control_port = control_port
        self._namespace = namespace
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None  # it talks with one only
        self.events: list[dict[str, Any]] = []

    async def command(self, command: str, parameters: str = "") -> None:
        """Send one command of its menu, such as dial, hangup, hold, resume, sndcode."""
        assert self._streams is not None
        message = json.dumps({"command": command, "params": parameters, "token": "t"}).encode()
        _, writer = self._streams
        writer.write(b"%d:%s," % (len(message), message))
        await writer.drain()

    async def connect(self) -> None:
        """Open the connection for commands and events; OSError while it is not there yet."""
        if self._namespace:
            within = connect_within(self._namespace, ("127.0.0.1", self._control_port))
            self._streams = await asyncio.open_connection(sock=within)
        else:
            self._streams = await asyncio.open_connection("127.0.0.1", self._control_port)

    async def watch(self) -> None:
        """Collect its events for ever."""
        assert self._streams is not None
        reader, writer = self._streams
        try:
            while True:
                size = await reader.readuntil(b":")
                message = json.loads((await reader.readexactly(int(size[:-1]) + 1))[:-1])
                if message.get("event"):
                    self.events.append(message)
        except asyncio.IncompleteReadError:
            pass  # it has ended
        finally:
            writer.close()

    async def until(self, kind: str, seconds: float = 20.0) -> dict[str, Any]:
        """Wait for an event of a type, such as REGISTER_OK, CALL_ESTABLISHED, CALL_CLOSED."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.events:
                    if event.get("type") == kind:
                        return event
                await asyncio.sleep(0.02)

    def heard(self) -> Path:
        """The recording of the far end."""
        found = sorted(self.folder.glob("dump-*-dec.wav"))
        assert found, "baresip has recorded nothing"
        return found[-1]


@asynccontextmanager
async def baresip(
    folder: Path,
    account: str,
    speech: Path | None = None,
    rate_hz: int = 8000,
    config: str = "",
    host: str = "127.0.0.1",
    namespace: str = "",
) -> AsyncIterator[Baresip]:
    """A baresip with one `account` line; it speaks `speech` (8 kHz mono 16 bit) once a call is up, else silence."""
    if shutil.which("baresip") is None:
        pytest.skip("baresip is not installed (apt-get install baresip-core)")
    folder.mkdir(parents=True, exist_ok=True)
    sip_port, control_port, rtp_first = free_port(), free_port(tcp=True), free_port(count=20)
    if speech is None:
        speech = folder / "silence.wav"
        _write_silence(speech, 60)
    (folder / "config").write_text(
        CONFIG.format(
            host=host,
            listen=f"[{host}]" if ":" in host else host,
            sip_port=sip_port,
            rate_hz=rate_hz,
            speech=speech,
            rtp_first=rtp_first,
            rtp_last=rtp_first + 18,
            control_port=control_port,
            folder=folder,
        )
        + config
    )
    (folder / "accounts").write_text(account + "\n")
    (folder / "contacts").write_text("")
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*within(namespace), "baresip", "-f", str(folder), "-s"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    phone = Baresip(folder, control_port, sip_port, namespace)
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    await phone.connect()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        watcher = asyncio.create_task(phone.watch())
        yield phone
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


def _write_silence(path: Path, seconds: int) -> None:
    import wave

    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(8000)
        clip.writeframes(bytes(16000 * seconds))
