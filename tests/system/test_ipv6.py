"""A call of baresip over IPv6: signalling, SDP and media."""

import asyncio
from pathlib import Path

import pytest

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.ports import free_port
from tests.support.service import service
from tests.system.test_planes import hears
from tests.system.test_two_phones import CALLER, CONFIG

pytestmark = [pytest.mark.peers]


async def test_a_caller_with_ipv6_hears_itself_through_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port(tcp=True)
    monkeypatch.setenv("SIPAGENT__SIP__LISTEN", f'["udp:[::1]:{port}"]')
    monkeypatch.setenv("SIPAGENT__MEDIA__ADDRESS", "::1")
    speech = audio.write(tmp_path / "speech.wav", *[CALLER, audio.silence(0.4)] * 30)
    account = "<sip:caller@[::1]>;regint=0;audio_codecs=pcmu"
    async with (
        service(tmp_path / "service", CONFIG) as agent,
        baresip(tmp_path / "phone", account, speech, host="::1") as phone,
    ):
        await phone.command("dial", f"sip:agent@[::1]:{port}")
        call = await agent.call_in_state("connected")
        await asyncio.sleep(1)
        await hears(phone, CALLER)
        ladder = (await agent.http.get(f"/v1/calls/{call['id']}/ladder")).text
        assert ladder.count("c=IN IP6 ::1") == 2, "offer and answer"
        metrics = (await agent.http.get("/metrics")).text
        assert 'sipagent_media_total{plane="0",what="dropped_source"} 0.0' in metrics
        await phone.command("hangup")
        assert (await agent.call_in_state("ended", call["id"]))["outcome"] == "answered"
