"""A line with rtpengine in between: a caller, Kamailio with the media proxy, the service; in the clear and by SRTP."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.kamailio import kamailio
from tests.support.ports import free_port
from tests.support.rtpengine import rtpengine
from tests.support.service import service
from tests.system.test_two_phones import hears, melody

pytestmark = pytest.mark.peers

CONFIG = """
[[trunk]]
name = "kamailio"
server = "sip:127.0.0.1:{registrar}"
username = "agent"
password = "agent-secret"
srtp = "{srtp}"

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
TUNE = melody(4)
WEAK = ("NULL", "_32", "UNENCRYPTED", "UNAUTHENTICATED")


@pytest.mark.rfc(
    "4568",
    "7.1.2",
    "MUST",
    role="UAS",
    text="of rtpengine's twelve suites, NULL ones among them, a strong one is taken",
)
@pytest.mark.parametrize("srtp", ["off", "required"])
async def test_audio_and_keys_pass_both_ways_through_the_media_proxy(tmp_path: Path, srtp: str) -> None:
    registrar = free_port(tcp=True)
    speech = audio.write(tmp_path / "speech.wav", *[TUNE, audio.silence(0.4)] * 15)
    options = ("WITH_RTPENGINE",) if srtp == "off" else ("WITH_RTPENGINE", "WITH_SRTP")
    async with (
        rtpengine(tmp_path / "rtpengine") as proxy,
        kamailio(registrar, options=options, rtpengine=proxy.control) as trunk,
        service(tmp_path / "service", CONFIG.format(registrar=registrar, srtp=srtp)) as agent,
        baresip(tmp_path / "phone", "<sip:bob@127.0.0.1>;regint=0;audio_codecs=pcmu", speech) as phone,
    ):
        await trunk.registered("agent")
        await phone.command("dial", f"sip:agent@127.0.0.1:{registrar}")
        call = await agent.call_in_state("connected")
        await asyncio.sleep(4)
        await phone.command("sndcode", "7")
        await agent.until(call["id"], "dtmf", digit="7", by="rtp")
        await phone.command("hangup")
        await agent.until(call["id"], "state", state="ended", outcome="answered")
        ladder = (await agent.http.get(f"/v1/calls/{call['id']}/ladder")).text
    media = re.findall(r"m=audio (\d+) (RTP/S?AVP)", ladder)
    offered, answered = media[0], media[-1]
    assert int(offered[0]) in proxy.rtp_ports, "the offer names the proxy"
    assert int(answered[0]) in agent.rtp_ports
    assert offered[1] == answered[1] == ("RTP/AVP" if srtp == "off" else "RTP/SAVP")
    if srtp == "required":
        suites = re.findall(r"a=crypto:\d+ (\S+)", ladder)
        assert len(suites) > 8 and any("NULL" in suite for suite in suites)
        assert not any(word in suites[-1] for word in WEAK), suites[-1]
    assert hears(phone, TUNE), "the echo did not come back through the proxy"
