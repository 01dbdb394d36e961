"""A warm transfer between two softphones that we did not write: what each of them hears, and what it does not."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.service import service, workers_ready

pytestmark = [pytest.mark.peers, pytest.mark.models]

CONFIG = """
[conversation]
hold_music = "{music}"

[[trunk]]
name = "phones"
server = "sip:127.0.0.1:9"
username = "agent"
register = false
codecs = ["PCMU"]

[[route]]
to = "*"
brain = "line_brains:Plain"

[route.options]  # whatever else the machine has to do
end_of_turn = false
stt_seconds = 30.0
failures = 1000
"""
TUNE = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(400, 2500, 8000)) / 8000)
CALLER, COLLEAGUE = "I would like to have another appointment.", "Friday at ten would be fine."
TOLD, COACHED = "Mister Miller wants to come on another day.", "He prefers the early morning."
BACK = "You are back with me."
HALF = 4000


def found(heard: audio.Pcm, sentence: audio.Pcm) -> float:
    """How well half a second of a sentence is found in what a phone heard; somebody else may speak at other times."""
    pieces = (sentence[at : at + HALF] for at in range(0, len(sentence) - HALF, HALF // 2))
    return max(audio.best_match(piece, heard)[0] for piece in pieces)


async def test_each_side_hears_what_is_meant_for_it_and_the_caller_comes_back(tmp_path: Path) -> None:
    voices = {text: await audio.spoken(text) for text in (CALLER, COLLEAGUE, TOLD, COACHED, BACK)}
    pause = audio.silence(3)
    speech = {
        name: audio.write(tmp_path / f"{name}.wav", *[pause, voices[text]] * 20)
        for name, text in (("caller", CALLER), ("colleague", COLLEAGUE))
    }
    music = audio.write(tmp_path / "music.wav", TUNE, audio.silence(0.2))
    options = "regint=0;audio_codecs=pcmu"
    async with (
        service(tmp_path / "service", CONFIG.format(music=music)) as agent,
        baresip(tmp_path / "one", f"<sip:caller@127.0.0.1>;{options}", speech["caller"]) as caller,
        baresip(
            tmp_path / "two", f"<sip:colleague@127.0.0.1>;{options};answermode=auto", speech["colleague"]
        ) as colleague,
    ):
        await workers_ready(agent)
        await caller.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call_id = str((await agent.call_in_state("connected"))["id"])
        await agent.until(call_id, "transcript", role="user")
        wish = {
            "to": f"sip:colleague@127.0.0.1:{colleague.sip_port}",
            "mode": "bridged",
            "whisper": TOLD,
            "listen": True,
            "back_key": "*",
        }
        answer = await agent.http.post(f"/v1/calls/{call_id}/transfer", json=wish)
        assert answer.status_code == 202, answer.text
        await agent.until(call_id, "colleague", state="alone")
        told = await agent.until(call_id, "transcript", to="colleague")
        assert "Miller" in told["text"]
        await agent.until(call_id, "transfer", outcome="transferred")
        overheard = await agent.until(call_id, "transcript", role="colleague")
        assert "Friday" in overheard["text"]
        assert (await agent.http.post(f"/v1/calls/{call_id}/whisper", json={"text": COACHED})).status_code == 202
        await agent.until(call_id, "transcript", role="assistant", text=COACHED)
        await asyncio.sleep(5)  # in which both have their say
        await colleague.command("sndcode", "*")
        left = await agent.until(call_id, "colleague", state="left")
        assert left["reason"] == "the colleague handed the caller back"
        await colleague.until("CALL_CLOSED")
        await agent.until(call_id, "transcript", role="assistant", text=BACK)
        await caller.command("hangup")
        ended = await agent.call_in_state("ended", call_id)
        assert ended["outcome"] == "answered"
    heard = {phone: audio.read(phone.heard())[0] for phone in (caller, colleague)}
    by_caller = {text: found(heard[caller], voices[text]) for text in (COLLEAGUE, BACK, TOLD, COACHED)}
    by_colleague = {text: found(heard[colleague], voices[text]) for text in (CALLER, TOLD, COACHED, BACK)}
    by_caller["music"], by_colleague["music"] = (found(heard[phone], TUNE) for phone in (caller, colleague))
    assert {text for text, score in by_caller.items() if score > 0.9} == {COLLEAGUE, BACK, "music"}, by_caller
    assert {text for text, score in by_colleague.items() if score > 0.9} == {CALLER, TOLD, COACHED}, by_colleague
    assert max(by_caller[TOLD], by_caller[COACHED], by_colleague[BACK], by_colleague["music"]) < 0.8
