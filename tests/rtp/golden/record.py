"""Records the golden packets: `python -m tests.rtp.golden.record [baresip pjsua2 sipp rtpengine]`.

Each far end calls the service, sends a tone of our own making and presses digits; tcpdump writes what it sends to the
RTP and RTCP ports of the service. Needs root (to capture) and the far ends.
"""

import asyncio
import gzip
import struct
import sys
import tempfile
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.capture import capture
from tests.support.kamailio import kamailio
from tests.support.ports import free_port
from tests.support.rtpengine import rtpengine
from tests.support.scenario import Pause, ack, bye, caller, invite, recv
from tests.support.service import Service, service
from tests.support.sipp import sipp

HERE: Final = Path(__file__).parent
DIGITS: Final = "15#"
SECONDS: Final = 7.0  # baresip and pjsua2 report first after about five
CONFIG: Final = """
[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
TRUNK: Final = """
[[trunk]]
name = "proxy"
server = "sip:127.0.0.1:{registrar}"
username = "agent"
password = "agent-secret"
codecs = ["PCMU"]
"""
SIPP_SDP: Final = """v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8 96
a=rtpmap:8 PCMA/8000
a=rtpmap:96 telephone-event/8000
a=fmtp:96 0-16
"""
PJSUA2: Final = """
import sys, time
import pjsua2 as pj
uri, clip, digits, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
endpoint = pj.Endpoint(); endpoint.libCreate()
config = pj.EpConfig(); config.uaConfig.threadCnt = 0; config.uaConfig.mainThreadOnly = True
config.medConfig.noVad = True; config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
config.logConfig.level = config.logConfig.consoleLevel = 1
endpoint.libInit(config); endpoint.audDevManager().setNullDev()
transport = pj.TransportConfig(); transport.boundAddress = "127.0.0.1"
endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport); endpoint.libStart()
for codec in endpoint.codecEnum2():
    endpoint.codecSetPriority(codec.codecId, 200 if codec.codecId.startswith("PCMU") else 0)
player = pj.AudioMediaPlayer(); player.createPlayer(clip)
class Call(pj.Call):
    up = over = False
    def onCallState(self, prm):
        self.over = self.getInfo().state == pj.PJSIP_INV_STATE_DISCONNECTED
    def onCallMediaState(self, prm):
        info = self.getInfo()
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                player.startTransmit(self.getAudioMedia(index)); self.up = True
account_config = pj.AccountConfig(); account_config.idUri = "sip:caller@127.0.0.1"
account_config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
account = pj.Account(); account.create(account_config)
call = Call(account); call.makeCall(uri, pj.CallOpParam(True))
def turn(until):
    while not until(): endpoint.libHandleEvents(10)
turn(lambda: call.up)
begin = time.monotonic()
turn(lambda: time.monotonic() > begin + 1)
call.dialDtmf(digits)
turn(lambda: time.monotonic() > begin + seconds)
call.hangup(pj.CallOpParam(True)); turn(lambda: call.over)
end = time.monotonic() + 0.5
turn(lambda: time.monotonic() > end)
del call, player; account.shutdown(); endpoint.libDestroy()
"""


def tone(folder: Path) -> Path:
    """440 Hz, faint enough for digits to be told from it: 8 kHz, so 200 samples are 11 periods."""
    time_s = np.arange(8000 * 20) / 8000
    return audio.write(folder / "tone.wav", 0.25 * np.sin(2 * np.pi * 440 * time_s))


async def of_baresip(folder: Path, agent: Service, uri: str) -> None:
    async with baresip(folder / "phone", "<sip:caller@127.0.0.1>;regint=0;audio_codecs=pcmu", tone(folder)) as phone:
        await phone.command("dial", uri)
        call = await agent.call_in_state("connected")
        await asyncio.sleep(1)
        for digit in DIGITS:
            await phone.command("sndcode", digit)
            await asyncio.sleep(0.2)
            await phone.command("sndcode", "\x00")  # the key is released
            await agent.until(call["id"], "dtmf", digit=digit, by="rtp")
        await asyncio.sleep(SECONDS - 3)
        await phone.command("hangup")
        await agent.call_in_state("ended", call["id"])


async def of_pjsua2(folder: Path, agent: Service, uri: str) -> None:
    words = (sys.executable, "-c", textwrap.dedent(PJSUA2), uri, str(tone(folder)), DIGITS, str(SECONDS))
    process = await asyncio.create_subprocess_exec(*words)
    await process.wait()


async def of_sipp(folder: Path, agent: Service, uri: str) -> None:
    clip = folder / "tone.al"
    time_s = np.arange(8000 * 10) / 8000
    from sipagent.codecs import g711

    clip.write_bytes(g711.alaw_encode((8000 * np.sin(2 * np.pi * 440 * time_s)).astype(np.int16)).tobytes())
    stream = f'<nop><action><exec rtp_stream="{clip},1,8"/></action></nop>'
    stop = '<nop><action><exec rtp_stream="pause"/></action></nop>'
    press = f'<nop><action><exec play_dtmf="{DIGITS}"/></action></nop>'
    steps = (invite(body=SIPP_SDP), recv(100, optional=True), recv(180, optional=True), recv(200), ack())
    scenario = caller(*steps, stream, Pause(1500), stop, press, Pause(2500), bye(), recv(200))
    async with sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end:
        assert await far_end.finished(30) == 0, far_end.errors()


FAR_ENDS: Final[dict[str, Callable[[Path, Service, str], Awaitable[None]]]] = {
    "baresip": of_baresip,
    "pjsua2": of_pjsua2,
    "sipp": of_sipp,
    "rtpengine": of_baresip,
}


async def record(name: str, folder: Path) -> None:
    """One call, and its packets into NAME.pcap.gz beside this file."""
    if name != "rtpengine":
        async with service(folder / "service", CONFIG) as agent, capture(folder / "line.pcap") as line:
            await FAR_ENDS[name](folder, agent, f"sip:agent@127.0.0.1:{agent.sip_port}")
            ports = agent.rtp_ports
    else:
        registrar = free_port(tcp=True)
        async with (
            rtpengine(folder / "rtpengine") as proxy,
            kamailio(registrar, options=("WITH_RTPENGINE",), rtpengine=proxy.control) as trunk,
            service(folder / "service", CONFIG + TRUNK.format(registrar=registrar)) as agent,
            capture(folder / "line.pcap") as line,
        ):
            await trunk.registered("agent")
            await FAR_ENDS[name](folder, agent, f"sip:agent@127.0.0.1:{registrar}")
            ports = agent.rtp_ports
    kept = [packet for packet in packets(line.path) if int.from_bytes(packet[16 + 36 : 16 + 38], "big") in ports]
    header = line.path.read_bytes()[:24]
    (HERE / f"{name}.pcap.gz").write_bytes(gzip.compress(header + b"".join(kept), mtime=0))
    print(name, len(kept), "packets")


def packets(path: Path) -> Iterator[bytes]:
    """Records of a classic pcap file of Ethernet, 16 octets of header each, UDP over IPv4 only."""
    data, at = path.read_bytes(), 24
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        packet = data[at : at + 16 + size]
        if packet[16 + 12 : 16 + 14] == b"\x08\x00" and packet[16 + 23] == 17:
            yield packet
        at += 16 + size


def main() -> None:
    for name in sys.argv[1:] or FAR_ENDS:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(record(name, Path(folder)))


if __name__ == "__main__":
    main()
