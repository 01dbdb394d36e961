"""A recording that is begun, paused and ended in mid-call, of a phone that plays a tone without a break."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.service import Service, service, workers_ready

pytestmark = [pytest.mark.peers]

BRAIN = """
[[route]]
to = "*"
brain = "line_brains:Discreet"
"""
ECHO = BRAIN + 'pipeline = "echo"\n'
ACCOUNT = "<sip:caller@127.0.0.1>;regint=0;audio_codecs=pcmu"
TONE = 0.4 * np.sin(2 * np.pi * 500 * np.arange(80_000) / 8000)
BLOCK = 400  # samples
LOUD = 3000


async def state(agent: Service, call_id: str, word: str) -> None:
    answer = await agent.http.request(*{
        "start": ("POST", f"/v1/calls/{call_id}/recording"),
        "pause": ("POST", f"/v1/calls/{call_id}/recording/pause"),
        "resume": ("POST", f"/v1/calls/{call_id}/recording/resume"),
        "stop": ("DELETE", f"/v1/calls/{call_id}/recording"),
    }[word])  # fmt: skip
    assert answer.status_code == 202, answer.text


def loud_s(leg: np.ndarray, between: tuple[float, float] = (0.0, 60.0)) -> float:
    """Seconds of a leg i2[n] that are as loud as the tone, from one moment to another."""
    first, last = (round(seconds * 8000) for seconds in between)
    part = leg[first:last]
    blocks = np.abs(part[: len(part) // BLOCK * BLOCK].reshape(-1, BLOCK)).max(axis=1)
    return float(np.count_nonzero(blocks > LOUD) * BLOCK / 8000)


async def test_a_recording_is_begun_paused_ended_fetched_and_begun_again(tmp_path: Path) -> None:
    async with service(tmp_path / "service", ECHO) as agent:
        tune = audio.write(tmp_path / "tone.wav", TONE)
        async with baresip(tmp_path / "phone", ACCOUNT, tune) as phone:
            await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
            call_id = (await agent.call_in_state("connected"))["id"]
            await asyncio.sleep(1.0)  # our echo is on its way as well
            for word in ("start", "pause", "resume", "stop"):
                await state(agent, call_id, word)
                await asyncio.sleep(1.0)
            ended = await agent.until(call_id, "recording")
            first = await agent.http.get(f"/v1/calls/{call_id}/recording")
            again = await agent.http.post(f"/v1/calls/{call_id}/recording", json={"format": "flac"})
            assert again.status_code == 202
            await asyncio.sleep(0.5)
            await phone.command("hangup")
            await agent.call_in_state("ended", call_id)
        second = await agent.http.get(f"/v1/calls/{call_id}/recording")
    assert ended["problem"] == "" and 2800 <= ended["duration_ms"] <= 3400
    legs, rate_hz = soundfile.read(io.BytesIO(first.content), dtype="int16")
    assert rate_hz == 8000 and first.headers["content-type"] == "audio/wav"
    for leg in legs.T:
        assert loud_s(leg) == pytest.approx(2.0, abs=0.4)
        assert loud_s(leg, (1.3, 1.8)) == 0.0, "heard in the pause"
    flac, _ = soundfile.read(io.BytesIO(second.content), dtype="int16")
    assert second.headers["content-type"] == "audio/flac" and loud_s(flac[:, 0]) > 0.2


@pytest.mark.models
async def test_a_brain_begins_a_recording_and_pauses_it(tmp_path: Path) -> None:
    async with service(tmp_path / "service", BRAIN) as agent:
        await workers_ready(agent)
        tune = audio.write(tmp_path / "tone.wav", TONE)
        async with baresip(tmp_path / "phone", ACCOUNT, tune) as phone:
            await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
            call_id = (await agent.call_in_state("connected"))["id"]
            await phone.command("sndcode", "7")
            await agent.until(call_id, "recording_state", state="paused")
            await asyncio.sleep(1.0)
            await phone.command("hangup")
            await agent.call_in_state("ended", call_id)
        file = await agent.http.get(f"/v1/calls/{call_id}/recording")
    legs, _ = soundfile.read(io.BytesIO(file.content), dtype="int16")
    assert file.headers["content-type"] == "audio/flac"
    assert len(legs) > 6000 and loud_s(legs[:, 0]) <= 0.1
