"""Hold, both ways: who hears what, what the SDP says, and that silence ends no held call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from sipagent.codecs import g711
from tests.support import audio
from tests.support.baresip import baresip
from tests.support.capture import capture
from tests.support.ports import free_port
from tests.support.scenario import SDP, Pause, ack, bye, caller, invite, recv, reinvite, reply
from tests.support.service import Service, service
from tests.support.sipp import sipp

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[conversation]
hold_music = "{music}"

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
UP = (invite(), recv(100, optional=True), recv(180, optional=True), recv(200), ack())
RTP_TIMEOUT_S = 2
HELD_S = RTP_TIMEOUT_S + 3
TUNE = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(400, 2500, 8000)) / 8000)  # one second upwards


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    music = audio.write(folder / "music.wav", TUNE, audio.silence(0.2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIPAGENT__MEDIA__RTP_TIMEOUT_SECONDS", str(RTP_TIMEOUT_S))
        async with service(folder, CONFIG.format(music=music), ports=80) as running:
            yield running


def description(version: int, direction: str) -> str:
    return SDP.format(version=version) + f"a={direction}\n"


async def connected(agent: Service) -> str:
    return str((await agent.call_in_state("connected"))["id"])


async def test_the_far_end_is_put_on_hold_with_sendonly_and_taken_back_with_sendrecv(agent: Service) -> None:
    scenario = caller(
        *UP,
        recv("INVITE", has="a=sendonly"),
        reply(200, body=description(2, "recvonly")),
        recv("ACK"),
        recv("INVITE", has="a=sendrecv"),
        reply(200, body=description(3, "sendrecv")),
        recv("ACK"),
        bye(),
        recv(200),
    )
    async with sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end:
        call_id = await connected(agent)
        for path in ("hold", "resume"):  # the second one waits for the answer to the first
            assert (await agent.http.post(f"/v1/calls/{call_id}/{path}")).status_code == 202
            await asyncio.sleep(0.5)
        assert await far_end.finished() == 0, far_end.errors()
        await agent.call_in_state("ended", call_id)


async def test_a_hold_that_is_refused_leaves_the_call_as_it_was(agent: Service) -> None:
    scenario = caller(*UP, recv("INVITE", has="a=sendonly"), reply(488), recv("ACK"), Pause(800), bye(), recv(200))
    async with sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end:
        call_id = await connected(agent)
        await agent.http.post(f"/v1/calls/{call_id}/hold")
        await agent.until(call_id, "warning")
        assert await far_end.finished() == 0, far_end.errors()
        await agent.call_in_state("ended", call_id)


@pytest.mark.parametrize("direction", ["sendonly", "inactive"])
async def test_a_call_that_is_held_is_not_ended_for_its_silence(agent: Service, direction: str) -> None:
    answered = {"sendonly": "recvonly", "inactive": "inactive"}[direction]
    scenario = caller(
        *UP,
        Pause(500),
        reinvite(2, body=description(2, direction)),
        recv(100, optional=True),
        recv(200, has=f"a={answered}"),
        ack(2),
        Pause(HELD_S * 1000),
        reinvite(3, body=description(3, "sendrecv")),
        recv(100, optional=True),
        recv(200, has="a=sendrecv"),
        ack(3),
        Pause(300),
        bye(4),
        recv(200),
    )
    async with sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end:
        call_id = str((await agent.call_in_state("connected"))["id"])
        await agent.until(call_id, "hold", held=True)
        await agent.until(call_id, "hold", held=False)
        assert await far_end.finished() == 0, far_end.errors()
        ended = await agent.call_in_state("ended", call_id)
        assert (ended["outcome"], ended["reason"]) == ("answered", "")


async def test_a_silent_call_that_is_not_held_is_ended_and_told_once(agent: Service) -> None:
    scenario = caller(*UP, recv("BYE"), reply(200))
    async with sipp(scenario, f"127.0.0.1:{agent.sip_port}", port=free_port(count=16)) as far_end:
        call_id = await connected(agent)
        assert await far_end.finished() == 0, far_end.errors()
        ended = await agent.call_in_state("ended", call_id)
        assert ended["reason"] == "no RTP from the far end"
        assert len([event async for event in agent.events(call_id) if event["type"] == "no_media"]) == 1


async def test_music_is_sent_to_baresip_on_hold_and_its_echo_before_and_after(tmp_path: Path, agent: Service) -> None:
    # Captured on the wire: baresip 1.0 stops its own recording at the first re-INVITE.
    speech = audio.write(tmp_path / "speech.wav", *[0.3 * TUNE[::-1], audio.silence(0.3)] * 30)
    async with (
        baresip(tmp_path / "phone", "<sip:a@127.0.0.1>;regint=0;audio_codecs=pcmu", speech) as phone,
        capture(tmp_path / "line.pcap", agent.rtp_filter) as line,
    ):
        await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call_id = await connected(agent)
        await asyncio.sleep(2)
        await agent.http.post(f"/v1/calls/{call_id}/hold")
        await asyncio.sleep(4)
        await agent.http.post(f"/v1/calls/{call_id}/resume")
        await asyncio.sleep(3)
        await phone.command("hangup")
        await agent.call_in_state("ended", call_id)
    octets = b"".join(packet.payload for packet in await line.rtp(agent.rtp_ports))
    received = g711.ulaw_decode(np.frombuffer(octets, np.uint8)) / 32768
    part = slice(2000, 6000)
    score, place = audio.best_match(TUNE[part], received)
    assert score > 0.95, f"no music ({score:.2f})"
    # An echo has no cushion: where the machine was late it has a hole, and is whole between two of them.
    said = [TUNE[::-1][at : at + 1600] for at in range(0, 8000, 800)]
    for heard in (received[:place], received[place:]):
        score = max(audio.best_match(piece, heard)[0] for piece in said)
        assert score > 0.98, f"no echo ({score:.2f})"


async def test_baresip_puts_us_on_hold_for_longer_than_silence_is_borne(tmp_path: Path, agent: Service) -> None:
    async with baresip(tmp_path / "phone", "<sip:a@127.0.0.1>;regint=0;audio_codecs=pcmu") as phone:
        await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call_id = await connected(agent)
        await phone.command("hold")
        await agent.until(call_id, "hold", held=True)
        await asyncio.sleep(HELD_S)
        assert (await agent.http.get(f"/v1/calls/{call_id}")).json()["state"] == "connected"
        await phone.command("resume")
        await agent.until(call_id, "hold", held=False)
        await phone.command("hangup")
        ended = await agent.call_in_state("ended", call_id)
        assert ended["outcome"] == "answered"
