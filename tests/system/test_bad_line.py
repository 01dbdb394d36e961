"""A real call over a bad line: baresip in one network namespace, the service in another, an emulator between them.

What is asserted are counts: of packets that the emulator lost, repeated or held back, and of samples of call time.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import audio
from tests.support.baresip import Baresip, baresip
from tests.support.netem import FAR, NEAR, BadLine, bad_line
from tests.support.service import Service, service

pytestmark = [pytest.mark.peers]

RATE_HZ = 8000
PACKET = 160
SIP_PORT = 5062
CONFIG = """
[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
record = "wav"
"""


@asynccontextmanager
async def call_over(
    line: BadLine, folder: Path, speech: audio.Pcm, patch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Service, Baresip, str]]:
    """A connected call of a far end that speaks without a pause; left, it has been hung up."""
    patch.setenv("SIPAGENT__SIP__LISTEN", f'["udp:{NEAR}:{SIP_PORT}"]')
    patch.setenv("SIPAGENT__MEDIA__ADDRESS", NEAR)
    folder.mkdir(exist_ok=True)
    clip = audio.write(folder / "speech.wav", speech)
    account = f"<sip:caller@{FAR}>;regint=0;audio_codecs=pcmu"
    async with (
        service(folder / "service", CONFIG, namespace=line.near) as agent,
        baresip(folder / "phone", account, clip, host=FAR, namespace=line.far) as phone,
    ):
        await phone.command("dial", f"sip:agent@{NEAR}:{SIP_PORT}")
        call = await agent.call_in_state("connected")
        yield agent, phone, call["id"]
        await phone.command("hangup")
        ended = await agent.call_in_state("ended", call["id"])
        assert ended["outcome"] == "answered"


def counters(folder: Path, call_id: str) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "service" / "records" / f"{call_id}.json").read_text())["counters"]
    return found


async def progress(agent: Service, packets: int) -> None:
    """Wait until so many more packets have been received."""

    async def received() -> float:
        metrics = (await agent.http.get("/metrics")).text
        name = 'sipagent_media_total{plane="0",what="packets_received"} '
        return float(metrics.partition(name)[2].partition("\n")[0])

    until = await received() + packets
    async with asyncio.timeout(60):
        while await received() < until:
            await asyncio.sleep(0.1)


def call_time_adds_up(found: dict[str, int], recorded: int) -> None:
    """Received and made up samples are the time of the call, of which the recording has all from its connection on."""
    heard = found["packets_received"] - found["dropped_duplicate"] - found["dropped_late"]
    samples = heard * PACKET + found["concealed_samples"] + found["silence_samples"]
    assert recorded - RATE_HZ // 2 <= samples <= recorded + 3 * RATE_HZ, (found, samples, recorded)


def tone(seconds: int) -> audio.Pcm:
    time_s = np.arange(RATE_HZ * seconds) / RATE_HZ
    return 0.3 * np.sin(2 * np.pi * 440 * time_s) + 0.2 * np.sin(2 * np.pi * 577 * time_s)


def longest_silence(pcm: audio.Pcm) -> int:
    """Samples of the longest stretch without sound."""
    block = PACKET // 2
    blocks = np.abs(pcm[: len(pcm) // block * block]).reshape(-1, block).max(axis=1) < 0.02
    edges = np.flatnonzero(np.diff(np.concatenate([[0], blocks.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0)) * block


async def test_what_a_bad_line_does_is_counted_and_after_a_cut_of_five_seconds_the_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bad_line() as line, call_over(line, tmp_path, tone(60), monkeypatch) as (agent, phone, call_id):
        await progress(agent, 50)
        await line.set(loss=0.05, bursts=(0.01, 0.4), delay_ms=30, jitter_ms=8, reorder=0.03, duplicate=0.03)
        await progress(agent, 250)
        await line.set(loss=0, bursts=(0.0, 1.0), delay_ms=0, jitter_ms=0, reorder=0, duplicate=0)
        await progress(agent, 50)
        before = await line.set(cut=True)
        await asyncio.sleep(5)
        after = await line.set(cut=False)
        await progress(agent, 100)
        heard_begin = len(audio.read(phone.heard())[0])
        await progress(agent, 50)
        assert len(audio.read(phone.heard())[0]) > heard_begin, "the far end hears us again"
        assert await agent.call_in_state("connected", call_id)
        done = await line.set()
    cut = after["cut"] - before["cut"]
    assert cut > 200 and done["lost"] > 5 and done["duplicated"] > 2 and done["held_back"] > 2
    found = counters(tmp_path, call_id)
    came = done["sent"] - done["lost"] + done["duplicated"]
    assert abs(found["packets_received"] - came) <= 10, (found, done)  # the last ones came after the BYE
    assert abs(found["lost"] - done["lost"] - cut) <= 10, (found, done)
    assert abs(found["dropped_duplicate"] - done["duplicated"]) <= 2
    assert found["reordered"] > 0 and found["dropped_malformed"] == found["dropped_ssrc"] == 0
    pcm, _ = audio.read(tmp_path / "service" / "records" / f"{call_id}.wav")
    call_time_adds_up(found, len(pcm))
    assert abs(longest_silence(pcm) - cut * PACKET) <= RATE_HZ // 5, "audio is back within 200 ms"


@pytest.mark.parametrize("io", ["epoll", "io_uring"])
async def test_a_cable_that_is_pulled_at_our_end_and_put_back_leaves_the_call_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, io: str
) -> None:
    monkeypatch.setenv("SIPAGENT__MEDIA__IO", io)
    async with bad_line() as line, call_over(line, tmp_path, tone(60), monkeypatch) as (agent, phone, call_id):
        await progress(agent, 50)
        line.link("down")  # the kernel refuses what we send, with an error for each packet
        await asyncio.sleep(4)
        line.link("up")
        await progress(agent, 100)
        heard_begin = len(audio.read(phone.heard())[0])
        await progress(agent, 50)
        assert len(audio.read(phone.heard())[0]) > heard_begin, "the far end hears us again"
        assert await agent.call_in_state("connected", call_id)
    found = counters(tmp_path, call_id)
    assert found["send_errors"] > 100
    pcm, _ = audio.read(tmp_path / "service" / "records" / f"{call_id}.wav")
    call_time_adds_up(found, len(pcm))


SCENARIOS: dict[str, tuple[dict[str, Any], float]] = {
    "loss of 3 %": ({"loss": 0.03}, 2.7),
    "bursts": ({"bursts": (0.01, 0.35)}, 2.0),
    "jitter of 40 ± 10 ms": ({"delay_ms": 40.0, "jitter_ms": 10.0}, 3.5),
    "5 % reordered by 60 ms": ({"reorder": 0.05}, 3.3),
    "10 % twice": ({"duplicate": 0.1}, 3.7),
}


@pytest.mark.long
@pytest.mark.models
@pytest.mark.parametrize("name", SCENARIOS)
async def test_speech_over_a_bad_line_is_as_good_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from pesq import pesq

    harm, least = SCENARIOS[name]
    text = "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. "
    speech = np.concatenate([await audio.spoken(text), audio.silence(0.5)])
    async with (
        bad_line() as line,
        call_over(line, tmp_path, np.tile(speech, 20), monkeypatch) as (agent, _, call_id),
    ):
        await line.set(**harm)
        await progress(agent, int(5 * len(speech) / PACKET))
        done = await line.set()
    found = counters(tmp_path, call_id)
    assert abs(found["lost"] - done["lost"]) <= 10 and abs(found["dropped_duplicate"] - done["duplicated"]) <= 2
    pcm, _ = audio.read(tmp_path / "service" / "records" / f"{call_id}.wav")
    call_time_adds_up(found, len(pcm))
    scores = []
    while len(pcm) > 2 * len(speech):
        _, start = audio.best_match(speech[:RATE_HZ], pcm[: 2 * len(speech)])
        scores.append(pesq(RATE_HZ, speech, pcm[start : start + len(speech)], "nb"))
        pcm = pcm[start + len(speech) // 2 :]
    print(name, [round(score, 2) for score in scores], found)
    assert max(scores) >= least, scores  # a busy machine adds its own pauses to some
