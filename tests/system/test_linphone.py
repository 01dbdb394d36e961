"""linphone, a softphone that we did not write, with the service behind one Kamailio: both call, talk and press keys."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support import audio
from tests.support.kamailio import kamailio
from tests.support.linphone import Linphone, linphone
from tests.support.ports import free_port
from tests.support.service import Service, service
from tests.system.test_two_phones import RATE_HZ, melody

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[[trunk]]
name = "kamailio"
server = "sip:127.0.0.1:{registrar}"
username = "agent"
password = "agent-secret"
codecs = ["PCMU"]

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
record = "wav"
"""
TUNE = melody(3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, Linphone]]:
    """A service and a softphone, both registered; the phone answers by itself and plays TUNE over and over."""
    folder, registrar = tmp_path_factory.mktemp("linphone"), free_port(tcp=True)
    speech = audio.write(folder / "speech.wav", *[TUNE, audio.silence(0.4)] * 15)
    async with (
        kamailio(registrar) as proxy,
        service(folder / "service", CONFIG.format(registrar=registrar)) as agent,
        linphone(folder / "phone", "carol", registrar, speech) as phone,
    ):
        await proxy.registered("carol")
        await proxy.registered("agent")
        yield agent, phone


def parts(tune: audio.Pcm) -> list[audio.Pcm]:
    """0.6 s each; a busy machine may be late for a packet in one of them."""
    size = 3 * RATE_HZ // 5
    return [tune[at : at + size] for at in range(0, len(tune) - size, size // 3)]


def heard(path: Path) -> float:
    """How much of TUNE is in the first channel of a recording."""
    pcm, rate_hz = audio.read(path)
    assert rate_hz == RATE_HZ
    return max(audio.best_match(part, pcm)[0] for part in parts(TUNE))


async def talk(agent: Service, phone: Linphone, call_id: str, recording: Path) -> None:
    """Some seconds of melody and echo, a key, the end by the phone; then both recordings must hold the melody."""
    await phone.until("Media streams established")
    await asyncio.sleep(4)
    await phone.command("5")
    await agent.until(call_id, "dtmf", digit="5", by="rtp")
    await phone.command("terminate")
    await phone.until("ended (No error)")
    await agent.until(call_id, "state", state="ended", outcome="answered")
    record = (await agent.http.get(f"/v1/calls/{call_id}")).json()
    assert heard(Path(record["recording"])) > 0.95, "we do not hear linphone"
    assert heard(recording) > 0.95, "linphone does not hear us"


async def test_linphone_calls_the_agent_and_both_hear_each_other(
    line: tuple[Service, Linphone], tmp_path: Path
) -> None:
    agent, phone = line
    await phone.command(f"record {tmp_path}/heard.wav")
    await phone.command(f"call sip:agent@127.0.0.1:{phone.registrar}")
    call = await agent.call_in_state("connected")
    assert (call["from"], call["trunk"]) == ("carol", "kamailio")
    await talk(agent, phone, call["id"], tmp_path / "heard.wav")


async def test_agent_calls_linphone_and_both_hear_each_other(line: tuple[Service, Linphone], tmp_path: Path) -> None:
    agent, phone = line
    await phone.command(f"record {tmp_path}/heard.wav")
    call_id = await agent.place(f"sip:carol@127.0.0.1:{phone.registrar}")
    await phone.until("Receiving new incoming call")
    await phone.command("answer")
    await agent.call_in_state("connected", call_id)
    await talk(agent, phone, call_id, tmp_path / "heard.wav")
