"""Audio both ways before the answer, through the whole service: a refusal that is explained, a visitor who is asked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import soundfile

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.ports import free_port
from tests.support.rtp_ear import rtp_ear
from tests.support.scenario import OFFER, ack, callee, caller, invite, recv, reply
from tests.support.service import Service, service, workers_ready
from tests.support.sipp import sipp

pytestmark = [pytest.mark.peers, pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[[trunk]]
name = "carrier"
server = "sip:127.0.0.1:{port}"
username = "agent"
register = false
codecs = ["PCMU"]

[[route]]
to = "*"
brain = "line_brains:Lobby"
record = "wav"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, int]]:
    port = free_port(tcp=True, count=16)
    async with service(tmp_path_factory.mktemp("service"), CONFIG.format(port=port)) as agent:
        await workers_ready(agent)
        yield agent, port


async def record_of(agent: Service, call_id: str = "") -> dict[str, object]:
    """The record of the call (or of the last one), once it is over."""
    known = call_id or (await agent.calls())[-1]["id"]
    await agent.until(known, "state", state="ended")
    record: dict[str, object] = (await agent.http.get(f"/v1/calls/{known}")).json()
    return record


async def recorded(record: dict[str, object], sentence: str) -> bool:
    """Whether the sentence is on one of the two tracks of the recording."""
    tracks, _ = soundfile.read(str(record["recording"]), always_2d=True)
    # In parts: a heard leg may be moved a little in a pause.
    parts = np.array_split(await audio.spoken(sentence), 5)
    matches = [sum(audio.best_match(part, track)[0] > 0.9 for part in parts) for track in tracks.T]
    return max(matches) >= 4


async def test_a_caller_hears_why_nobody_answers_and_is_then_refused(line: tuple[Service, int]) -> None:
    agent, _ = line
    async with rtp_ear() as ear:
        offer = OFFER.replace("[media_port]", str(ear.port))
        steps = (
            *(invite(body=offer), recv(100, optional=True), recv(180, optional=True), recv(183, has="m=audio")),
            *(recv(404, timeout_ms=30_000), ack()),
        )
        address = f"127.0.0.1:{agent.sip_port}"
        async with sipp(caller(*steps), address, port=free_port(count=16), service="nobody", limit_s=40) as far_end:
            assert await far_end.finished(45) == 0, far_end.errors()
        score, _ = audio.best_match(await audio.spoken("This number is not in service."), ear.heard())
    assert score > 0.9, f"the announcement is not what came before the 404 ({score:.3f})"
    record = await record_of(agent)
    assert (record["outcome"], record["status"], record["answered_at"]) == ("rejected", 404, None)
    assert record["usage"].get("duration_seconds") is None  # type: ignore[attr-defined]
    assert await recorded(record, "This number is not in service.")


async def test_a_softphone_is_asked_before_the_answer_and_greeted_after_it(
    line: tuple[Service, int], tmp_path: Path
) -> None:
    agent, _ = line
    sentence = "Please send the invoice to my office tomorrow."
    speech = audio.write(tmp_path / "speech.wav", audio.silence(5), await audio.spoken(sentence), audio.silence(40))
    account = "<sip:bob@127.0.0.1>;regint=0;audio_codecs=pcmu"
    async with baresip(tmp_path / "phone", account, speech) as phone:
        await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call = await agent.call_in_state("early")
        heard = await agent.until(call["id"], "variable", name="before_the_answer")
        assert "invoice" in heard["value"]
        await phone.until("CALL_ESTABLISHED")
        await agent.until(call["id"], "transcript", role="assistant", text="Welcome to the line test.")
        await phone.command("hangup")
        record = await record_of(agent, call["id"])
    order = [event["state"] async for event in agent.events(call["id"]) if event["type"] == "state"]
    assert order == ["ringing", "early", "answered", "connected", "ending", "ended"]
    received, _ = audio.read(phone.heard())
    places = []
    for words in ("Please tell me what it is about.", "Welcome to the line test."):
        score, place = audio.best_match(await audio.spoken(words), received)
        assert score > 0.9, f"{words!r} is not what baresip heard ({score:.3f})"
        places.append(place)
    assert places == sorted(places)
    assert record["outcome"] == "answered"
    assert await recorded(record, "Please tell me what it is about.") and await recorded(record, sentence)


async def test_what_the_network_says_in_place_of_the_callee_is_heard_and_recorded(line: tuple[Service, int]) -> None:
    agent, port = line
    sentence = "Please send the invoice to my office tomorrow."
    async with rtp_ear() as ear:
        steps = (
            *(recv("INVITE"), reply(183, body=OFFER.replace("[media_port]", str(ear.port)))),
            *(recv("CANCEL", timeout_ms=30_000), reply(200), reply(487, recall="INVITE"), recv("ACK")),
        )
        async with sipp(callee(*steps), port=port, limit_s=40) as network:
            call_id = await agent.place("+493012345678")
            speaking = asyncio.create_task(ear.speak(await audio.spoken(sentence)))
            heard = await agent.until(call_id, "variable", name="before_the_answer")
            assert "invoice" in heard["value"]
            assert await network.finished(45) == 0, network.errors()
            await speaking
    record = await record_of(agent, call_id)
    assert (record["outcome"], record["answered_at"]) == ("cancelled", None)
    assert await recorded(record, sentence)
