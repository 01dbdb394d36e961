"""A softphone that we did not write registers at Kamailio, calls the agent there, listens and speaks."""

from pathlib import Path

import pytest

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.kamailio import kamailio
from tests.support.ports import free_port
from tests.support.service import service

pytestmark = [pytest.mark.peers, pytest.mark.models]

GREETING = "Welcome to the line test."
TRUNK = """
[[trunk]]
name = "kamailio"
server = "sip:127.0.0.1:{port};transport={transport}"
username = "agent"
password = "agent-secret"
expires = 60
codecs = ["{codec}"]

[[route]]
to = "agent"
brain = "line_brains:Harmful"
record = "wav"
"""


@pytest.mark.parametrize(("transport", "codec"), [("udp", "PCMU"), ("tcp", "PCMA")])
async def test_baresip_hears_the_greeting_and_the_goodbye_and_is_understood(
    tmp_path: Path, transport: str, codec: str
) -> None:
    port = free_port(tcp=True)
    sentence = "Please send the invoice to my office tomorrow."
    speech = audio.write(tmp_path / "speech.wav", audio.silence(7), await audio.spoken(sentence), audio.silence(40))
    account = f"<sip:bob@127.0.0.1:{port}>;auth_user=bob;auth_pass=bob-secret;regint=60;audio_codecs={codec.lower()}"
    async with (
        kamailio(port) as proxy,
        service(tmp_path / "service", TRUNK.format(port=port, transport=transport, codec=codec)) as agent,
        baresip(tmp_path / "phone", account, speech) as phone,
    ):
        assert (await agent.health())["registrations"]["kamailio"]["state"] == "registered"
        assert len(await proxy.contacts("agent")) == 1
        await proxy.registered("bob")
        await phone.command("dial", f"sip:agent@127.0.0.1:{port}")
        call = await agent.call_in_state("connected")
        heard = await agent.until(call["id"], "transcript", role="user")
        assert "invoice" in heard["text"] and "office" in heard["text"], heard["text"]
        await agent.until(call["id"], "turn")
        await phone.command("sndcode", "5")
        ended = await agent.until(call["id"], "state", state="ended")
        assert ended["outcome"] == "answered"
        record = (await agent.http.get(f"/v1/calls/{call['id']}")).json()
        assert record["from"] == "bob" and record["to"] == "agent"
        assert await agent.stop() == 0
        assert await proxy.contacts("agent") == []
    received, rate_hz = audio.read(phone.heard())
    assert rate_hz == 8000
    greeting = await audio.spoken(GREETING)
    score, place = audio.best_match(greeting, received)
    assert score > 0.95, f"the greeting is not what baresip heard ({score:.3f})"
    first_syllable, _ = audio.best_match(greeting[:1600], received[max(0, place - 80) : place + 1760])
    assert first_syllable > 0.95
    goodbye = await audio.spoken("Goodbye, and thank you for calling.")
    score, place = audio.best_match(goodbye, received)
    assert score > 0.95, f"the goodbye is not what baresip heard ({score:.3f})"
    assert len(received) >= place + len(goodbye), "the last syllable was cut"
