"""A brain that blocks its worker or dies hurts nobody's line."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.baresip import baresip
from tests.support.capture import RtpPacket, capture
from tests.support.service import service, workers_ready

pytestmark = [pytest.mark.peers, pytest.mark.models]

ROUTES = """
[conversation]
workers = 2

[[route]]
to = "*"
brain = "line_brains:Harmful"
"""


def assert_unbroken(packets: list[RtpPacket], seconds: float) -> None:
    """50 packets a second, sequence +1 and timestamp +160 each time, on one SSRC."""
    assert len({packet.ssrc for packet in packets}) == 1
    for before, after in pairwise(packets):
        assert (after.sequence - before.sequence) % 65536 == 1
        assert (after.timestamp - before.timestamp) % 2**32 == 160
    lasted = packets[-1].at - packets[0].at
    assert lasted >= seconds
    assert abs(len(packets) - 1 - lasted * 50) <= 3, f"{len(packets)} packets in {lasted:.2f} s"


@pytest.mark.parametrize(("key", "takeovers"), [("1", 0), ("9", 1)])
async def test_rtp_goes_on_while_a_worker_is_blocked_or_dead(tmp_path: Path, key: str, takeovers: int) -> None:
    async with service(tmp_path / "service", ROUTES) as agent:
        await workers_ready(agent)
        account = "<sip:caller@127.0.0.1>;regint=0;audio_codecs=pcmu"
        address = f"sip:agent@127.0.0.1:{agent.sip_port}"
        async with (
            baresip(tmp_path / "one", account) as victim,
            baresip(tmp_path / "two", account) as neighbour,
            capture(tmp_path / "line.pcap", agent.rtp_filter) as line,
        ):
            await victim.command("dial", address)
            first = await agent.call_in_state("connected")
            await neighbour.command("dial", address)
            async with asyncio.timeout(20):
                while len([call for call in await agent.calls() if call["state"] == "connected"]) < 2:
                    await asyncio.sleep(0.05)
            for call in await agent.calls():  # both greetings have been spoken
                await agent.until(call["id"], "transcript", text="Please speak after this sentence.")
            await victim.command("sndcode", key)
            await agent.until(first["id"], "dtmf", digit=key)
            if takeovers:
                await agent.until(first["id"], "transcript", text="I am back.")
            else:
                await asyncio.sleep(7)  # blocked for 5 s, and both streams last for 10
            answered = await asyncio.create_subprocess_exec("sipsak", "-s", address, stdout=asyncio.subprocess.DEVNULL)
            assert await answered.wait() == 0, "OPTIONS was not answered"
            calls = {call["id"]: call for call in await agent.calls()}
            assert all(call["state"] == "connected" for call in calls.values())
            await victim.command("hangup")
            await neighbour.command("hangup")
            for call_id in calls:
                await agent.call_in_state("ended", call_id)
        health = await agent.health()
        restarts = sum(worker["restarts"] for worker in health["workers"])
        assert restarts == takeovers
        packets = await line.rtp(agent.rtp_ports)
        ports = {packet.source_port for packet in packets}
        assert len(ports) == 2
        for port in ports:
            assert_unbroken([packet for packet in packets if packet.source_port == port], 10)
