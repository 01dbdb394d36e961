"""G.722 is negotiated where the far end offers it, and is heard in wideband."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.service import service

pytestmark = [pytest.mark.peers, pytest.mark.models]

ROUTE = """
[[trunk]]
name = "phone"
server = "sip:127.0.0.1:9"
register = false
allow = ["127.0.0.1"]

[[route]]
to = "*"
brain = "line_brains:Harmful"
record = "wav"
"""


async def test_baresip_talks_g722_and_the_agent_speaks_and_listens_in_wideband(tmp_path: Path) -> None:
    sentence = "Please send the invoice to my office tomorrow."
    speech = audio.write(
        tmp_path / "speech.wav",
        audio.silence(7, 16000),
        await audio.spoken(sentence, 16000),
        audio.silence(40, 16000),
        rate_hz=16000,
    )
    account = "<sip:bob@127.0.0.1>;regint=0;audio_codecs=g722/16000,pcmu"
    async with (
        service(tmp_path / "service", ROUTE) as agent,
        baresip(tmp_path / "phone", account, speech, rate_hz=16000) as phone,
    ):
        await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call = await agent.call_in_state("connected")
        heard = await agent.until(call["id"], "transcript", role="user")
        assert "invoice" in heard["text"] and "office" in heard["text"], heard["text"]
        await phone.command("hangup")
        await agent.call_in_state("ended", call["id"])
        recording = (await agent.http.get(f"/v1/calls/{call['id']}")).json()["recording"]
    samples, rate_hz = soundfile.read(recording, dtype="float64", always_2d=True)
    assert rate_hz == 16000
    greeting = await audio.spoken("Welcome to the line test.", 16000)
    score, place = audio.best_match(greeting, samples[:, 1])
    assert score > 0.95
    spectrum = np.abs(np.fft.rfft(samples[place : place + len(greeting), 1])) ** 2
    above = spectrum[int(len(spectrum) * 4200 / 8000) :].sum() / spectrum.sum()
    assert above > 0.001, "nothing above 4.2 kHz: that is narrowband"
