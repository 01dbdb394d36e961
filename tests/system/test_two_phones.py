"""Transfers between two softphones that we did not write: who hears whom."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from tests.support import audio
from tests.support.baresip import Baresip, baresip
from tests.support.service import Service, service

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[[trunk]]
name = "phones"
server = "sip:127.0.0.1:9"
username = "agent"
register = false
codecs = ["PCMU"]

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
RATE_HZ = 8000


def melody(seed: int) -> audio.Pcm:
    """1.6 s of notes that no other seed has."""
    time_s = np.arange(RATE_HZ // 5) / RATE_HZ
    notes_hz = np.random.default_rng(seed).uniform(300, 3000, 8)
    return np.concatenate([0.3 * np.sin(2 * np.pi * note_hz * time_s) for note_hz in notes_hz])


CALLER, HUMAN = melody(1), melody(2)


def beside(phone: Baresip, tune: audio.Pcm) -> float:
    """How much else than the tune the phone heard in its last 4 s, at the same time; 1 = as loud as the tune."""
    received = audio.read(phone.heard())[0][-4 * RATE_HZ :]
    _, place = audio.best_match(tune, received)
    rest = received[place : place + len(tune)] - tune
    return float(np.sum(rest**2) / np.sum(tune**2))


def hears(phone: Baresip, tune: audio.Pcm) -> int | None:
    """Where in what the phone heard half of the tune came as it was sent; None when it never did."""
    received, _ = audio.read(phone.heard())
    half = len(tune) // 2
    score, place = max(audio.best_match(part, received) for part in (tune[:half], tune[half:]))
    return place if score > 0.98 else None


def echoed(phone: Baresip, tune: audio.Pcm, after: int = 0) -> bool:
    """Whether half of the notes came, behind sample `after`; an echo has holes where its worker was late."""
    received = audio.read(phone.heard())[0][after:]
    pieces = (tune[at : at + RATE_HZ // 5] for at in range(0, len(tune), RATE_HZ // 5))  # a note each
    return sum(audio.best_match(piece, received)[0] > 0.95 for piece in pieces) >= len(tune) // (2 * RATE_HZ // 5)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIPAGENT__SIP__REFER", "allow")
        async with service(tmp_path_factory.mktemp("service"), CONFIG, ports=80) as running:
            yield running


@asynccontextmanager
async def phones(folder: Path, agent: Service) -> AsyncIterator[tuple[Baresip, Baresip, str]]:
    """A caller who talks with the agent, a human who answers every call, and the id of the call."""
    repeated = {name: [tune, audio.silence(0.4)] * 15 for name, tune in (("caller", CALLER), ("human", HUMAN))}
    speech = {name: audio.write(folder / f"{name}.wav", *pieces) for name, pieces in repeated.items()}
    options = "regint=0;audio_codecs=pcmu"
    known = {call["id"] for call in await agent.calls()}
    async with (
        baresip(folder / "one", f"<sip:caller@127.0.0.1>;{options}", speech["caller"]) as caller,
        baresip(folder / "two", f"<sip:human@127.0.0.1>;{options};answermode=auto", speech["human"]) as human,
    ):
        await caller.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        await caller.until("CALL_ESTABLISHED")
        (call_id,) = {call["id"] for call in await agent.calls()} - known
        await agent.call_in_state("connected", call_id)
        yield caller, human, call_id


async def transfer(agent: Service, call_id: str, human: Baresip, mode: str, **more: object) -> str:
    body = {"to": f"sip:human@127.0.0.1:{human.sip_port}", "mode": mode, "ring_seconds": 10, **more}
    answer = await agent.http.post(f"/v1/calls/{call_id}/transfer", json=body)
    assert answer.status_code == 202, answer.text
    async for event in agent.events(call_id):
        if event["type"] == "transfer" and "outcome" in event:
            return str(event["outcome"])
    return "over"


async def seconds(agent: Service, call_id: str, count: int) -> None:
    """Let the call go on for a while, in its own time: packets that it has received."""
    await asyncio.sleep(count)
    assert (await agent.call_in_state("connected", call_id))["id"] == call_id


async def test_the_two_ends_of_a_bridged_transfer_hear_each_other(tmp_path: Path, agent: Service) -> None:
    async with phones(tmp_path, agent) as (caller, human, call_id):
        assert await transfer(agent, call_id, human, "bridged") == "transferred"
        await seconds(agent, call_id, 5)
        await caller.command("hangup")
        await human.until("CALL_CLOSED")
        await agent.call_in_state("ended", call_id)
    assert hears(caller, HUMAN) is not None, "the caller does not hear the human"
    assert hears(human, CALLER) is not None, "the human does not hear the caller"


@pytest.mark.parametrize("how", ["the human hangs up", "the caller is taken back"])
async def test_after_a_bridged_transfer_the_caller_is_back_with_its_agent(
    tmp_path: Path, agent: Service, how: str
) -> None:
    async with phones(tmp_path, agent) as (caller, human, call_id):
        assert await transfer(agent, call_id, human, "bridged", back=True) == "transferred"
        await seconds(agent, call_id, 4)
        if how == "the human hangs up":
            await human.command("hangup")
        else:
            assert (await agent.http.post(f"/v1/calls/{call_id}/take-back")).status_code == 202
        await human.until("CALL_CLOSED")
        await agent.until(call_id, "colleague", state="left")
        await seconds(agent, call_id, 4)
        assert (await agent.http.post(f"/v1/calls/{call_id}/take-back")).status_code == 409
        await caller.command("hangup")
        await agent.call_in_state("ended", call_id)
    assert hears(human, CALLER) is not None, "the human does not hear the caller"
    assert not echoed(human, HUMAN), "the human heard an echo"
    talked = hears(caller, HUMAN)
    assert talked is not None, "the caller does not hear the human"
    assert echoed(caller, CALLER, after=talked), "the agent, an echo, has not come back"


async def test_an_agent_that_steps_in_is_heard_by_both(tmp_path: Path, agent: Service) -> None:
    async with phones(tmp_path, agent) as (caller, human, call_id):
        await transfer(agent, call_id, human, "bridged", listen=True)
        assert (await agent.http.post(f"/v1/calls/{call_id}/step-in")).status_code == 202
        await seconds(agent, call_id, 5)
        await human.command("hangup")
        await caller.until("CALL_CLOSED")
        await agent.call_in_state("ended", call_id)
    # The agent, an echo, says again what the caller says: the human hears it twice, the caller beside the human.
    assert beside(human, CALLER) > 0.5
    assert beside(caller, HUMAN) > 0.5


async def test_baresip_calls_the_target_of_a_blind_transfer_itself(tmp_path: Path, agent: Service) -> None:
    async with phones(tmp_path, agent) as (_, human, call_id):
        assert await transfer(agent, call_id, human, "blind") == "transferred"
        await human.until("CALL_ESTABLISHED")
        ended = await agent.call_in_state("ended", call_id)
        assert ended["reason"] == "transferred"


async def test_baresip_may_send_the_agent_to_somebody_else(tmp_path: Path, agent: Service) -> None:
    async with phones(tmp_path, agent) as (caller, human, call_id):
        await caller.command("transfer", f"sip:human@127.0.0.1:{human.sip_port}")
        await human.until("CALL_ESTABLISHED")
        await caller.until("CALL_CLOSED")
        await seconds(agent, call_id, 5)
        await human.command("hangup")
        ended = await agent.call_in_state("ended", call_id)
        assert ended["outcome"] == "answered"
    assert echoed(human, HUMAN), "the agent, an echo, did not go with the call"
