"""Two media planes: calls are spread over them, joined calls share one, and one that dies takes nobody along."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import audio
from tests.support.baresip import Baresip, baresip
from tests.support.service import Service, service
from tests.system.test_two_phones import CALLER, CONFIG, HUMAN, RATE_HZ, melody, transfer

pytestmark = [pytest.mark.peers]

RECORDED = CONFIG.replace('to = "*"', 'to = "*"\nrecord = "wav"')
NEIGHBOUR = melody(3)
ENCRYPTED = """
[[trunk]]
name = "carrier"
server = "sip:127.0.0.1:5999"
register = false
allow = ["127.0.0.1"]
srtp = "required"

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""


def planes_of(health: dict[str, Any], what: str) -> list[Any]:
    return [plane[what] for plane in health["planes"]]


async def phone(stack: AsyncExitStack, folder: Path, name: str, tune: audio.Pcm, options: str = "") -> Baresip:
    """A softphone that repeats its tune for ever."""
    folder.mkdir(parents=True, exist_ok=True)
    speech = audio.write(folder / f"{name}.wav", *[tune, audio.silence(0.4)] * 30)
    account = f"<sip:{name}@127.0.0.1>;regint=0;audio_codecs=pcmu{options}"
    return await stack.enter_async_context(baresip(folder / name, account, speech))


async def hears(listener: Baresip, tune: audio.Pcm, seconds: float = 30.0) -> None:
    """Wait until it has heard 0.6 s of the tune, anywhere in what comes from now on."""
    begin = len(audio.read(listener.heard())[0])
    part = 3 * RATE_HZ // 5
    async with asyncio.timeout(seconds):
        while True:
            await asyncio.sleep(0.5)
            received = audio.read(listener.heard())[0][begin:]
            pieces = range(0, len(tune) - part, part // 3)
            if len(received) > part and max(audio.best_match(tune[at : at + part], received)[0] for at in pieces) > 0.9:
                return


async def kill(agent: Service, plane: int) -> None:
    """Kill a media plane, and wait until it is back."""
    restarts = planes_of(await agent.health(), "restarts")[plane]
    os.kill(planes_of(await agent.health(), "media")[plane], signal.SIGKILL)
    async with asyncio.timeout(20):
        while not ((health := await agent.health())["planes"][plane]["ready"]) or (
            planes_of(health, "restarts")[plane] == restarts
        ):
            await asyncio.sleep(0.02)


async def test_calls_outlive_their_media_plane_and_those_of_the_other_notice_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIPAGENT__MEDIA__PLANES", "2")
    async with service(tmp_path / "service", RECORDED, ports=80) as agent, AsyncExitStack() as stack:
        known: list[str] = []
        caller = await phone(stack, tmp_path, "caller", CALLER)
        neighbour = await phone(stack, tmp_path, "neighbour", NEIGHBOUR)
        human = await phone(stack, tmp_path, "human", HUMAN, ";answermode=auto")
        for each in (caller, neighbour):
            await each.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
            await each.until("CALL_ESTABLISHED", 60)
            (call_id,) = {call["id"] for call in await agent.calls()} - set(known)
            known.append(call_id)
            await agent.call_in_state("connected", call_id)
        health = await agent.health()
        assert planes_of(health, "calls") == [1, 1], "calls are spread over the planes"

        # Its media plane dies under a call with the agent, here an echo.
        await hears(caller, CALLER)
        await kill(agent, 0)
        await agent.until(known[0], "media_resumed")
        await hears(caller, CALLER)
        await hears(neighbour, NEIGHBOUR)
        metrics = (await agent.http.get("/metrics")).text
        assert 'sipagent_rows{plane="0"} 1.0' in metrics and 'sipagent_rows{plane="1"} 1.0' in metrics

        # … and under two that were joined, which lie in the same plane.
        assert await transfer(agent, known[0], human, "bridged") == "transferred"
        async with asyncio.timeout(10):  # a row is open with the plane's next tick
            while planes_of(await agent.health(), "calls") != [2, 1]:
                await asyncio.sleep(0.05)
        await hears(caller, HUMAN)
        await kill(agent, 0)
        await hears(caller, HUMAN)
        await hears(human, CALLER)
        assert {call["state"] for call in await agent.calls()} == {"connected"}

        await caller.command("hangup")
        await human.until("CALL_CLOSED")
        await neighbour.command("hangup")
        for call_id in known:
            ended = await agent.call_in_state("ended", call_id)
            assert ended["outcome"] == "answered"
        resumed = [[event["type"] async for event in agent.events(each)].count("media_resumed") for each in known]
        assert resumed == [2, 0]
        parts = sorted(path.name for path in (tmp_path / "service" / "records").glob(f"{known[0]}*.wav"))
        assert parts == [f"{known[0]}-2.wav", f"{known[0]}-3.wav", f"{known[0]}.wav"]
        for part in parts:
            heard, _ = audio.read(tmp_path / "service" / "records" / part)
            assert len(heard) > RATE_HZ // 2


async def test_an_encrypted_call_outlives_its_media_plane(tmp_path: Path) -> None:
    async with service(tmp_path / "service", ENCRYPTED) as agent, AsyncExitStack() as stack:
        caller = await phone(stack, tmp_path, "caller", CALLER, ";mediaenc=srtp-mand")
        await caller.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        await caller.until("CALL_ESTABLISHED", 60)
        call = await agent.call_in_state("connected")
        await hears(caller, CALLER)
        await kill(agent, 0)
        await agent.until(call["id"], "media_resumed")
        await hears(caller, CALLER)
        await caller.command("hangup")
        ended = await agent.call_in_state("ended", call["id"])
        assert ended["outcome"] == "answered"
