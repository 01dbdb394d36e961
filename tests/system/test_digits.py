"""Keys that we press are heard by a real phone one for one, and those that it presses by us."""

import asyncio
from pathlib import Path

import pytest

from tests.support.baresip import Baresip, baresip
from tests.support.service import Service, service
from tests.system.test_outbound import CONFIG

pytestmark = [pytest.mark.peers]

ACCOUNT = "<sip:4711@127.0.0.1>;regint=0;answermode=auto"


def pressed(phone: Baresip) -> str:
    """What the phone has heard."""
    return "".join(event["param"] for event in phone.events if event.get("type") == "CALL_DTMF_START")


async def until_pressed(phone: Baresip, digits: str) -> None:
    """Wait until it has heard so many, and for one too many."""
    async with asyncio.timeout(10):
        while len(pressed(phone)) < len(digits):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert pressed(phone) == digits


async def call(agent: Service, phone: Baresip) -> str:
    call_id = await agent.place(f"sip:4711@127.0.0.1:{phone.sip_port}")
    await agent.call_in_state("connected", call_id)
    return call_id


async def press(agent: Service, call_id: str, digits: str) -> None:
    answer = await agent.http.post(f"/v1/calls/{call_id}/dtmf", json={"digits": digits})
    assert answer.status_code == 202


@pytest.mark.parametrize("codec", [";audio_codecs=g722/16000;ptime=30", ";mediaenc=srtp;audio_codecs=pcma;ptime=40"])
async def test_a_dial_string_is_heard_exactly_and_so_are_the_keys_of_the_phone(tmp_path: Path, codec: str) -> None:
    async with (
        baresip(tmp_path / "phone", ACCOUNT + codec) as phone,
        service(tmp_path / "service", CONFIG.format(port=phone.sip_port)) as agent,
    ):
        call_id = await call(agent, phone)
        await press(agent, call_id, "1w12,3*#A0099")
        await until_pressed(phone, "1123*#A0099")
        for key in "5566*0":
            await phone.command("sndcode", key)
            await asyncio.sleep(0.3)
        await phone.command("hangup")
        heard = [event async for event in agent.events(call_id)]
        assert "".join(event["digit"] for event in heard if event["type"] == "dtmf") == "5566*0"
        assert [event["digits"] for event in heard if event["type"] == "dtmf_sent"] == ["1w12,3*#A0099"]


async def test_keys_wait_while_the_phone_holds_the_call(tmp_path: Path) -> None:
    async with (
        baresip(tmp_path / "phone", ACCOUNT) as phone,
        service(tmp_path / "service", CONFIG.format(port=phone.sip_port)) as agent,
    ):
        call_id = await call(agent, phone)
        await phone.command("hold")
        await agent.until(call_id, "hold", held=True)
        await press(agent, call_id, "1234567890")
        await asyncio.sleep(1)
        assert pressed(phone) == ""
        await phone.command("resume")
        await until_pressed(phone, "1234567890")
