"""SRTP on a real line: baresip hears the greeting, and the wire carries no G.711 that anybody could read."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from sipagent.codecs import g711
from tests.support import audio
from tests.support.baresip import baresip
from tests.support.capture import capture
from tests.support.service import Service, service, workers_ready

pytestmark = [pytest.mark.peers, pytest.mark.models]

GREETING = "Welcome to the line test."
CONFIG = """
[[trunk]]
name = "carrier"
server = "sip:127.0.0.1:{carrier}"
register = false
allow = ["127.0.0.1"]
codecs = ["PCMU"]
srtp = "{srtp}"

[[route]]
to = "*"
brain = "line_brains:Plain"
"""


async def payloads(path: Path, ports: range) -> tuple[audio.Pcm, set[int]]:
    """What an eavesdropper takes for µ-law audio from these ports, and the sizes of the datagrams."""
    process = await asyncio.create_subprocess_exec(
        "tshark", "-r", str(path), "-Y", f"udp.srcport in {{{ports.start}..{ports.stop}}} and udp.length > 150",
        "-T", "fields", "-e", "udp.srcport", "-e", "udp.payload",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    output, _ = await process.communicate()
    found = [
        bytes.fromhex(line.split("\t")[1]) for line in output.decode().splitlines() if int(line.split("\t")[0]) % 2 == 0
    ]
    octets = b"".join(data[12:172] for data in found)
    return g711.ulaw_decode(np.frombuffer(octets, np.uint8)) / 32768, {len(data) for data in found}


async def refused_packets(agent: Service) -> float:
    metrics = (await agent.http.get("/metrics")).text.splitlines()
    refused = ("dropped_auth", "dropped_replay", "dropped_malformed")
    found = [
        line for line in metrics if line.startswith("sipagent_media_total") and any(name in line for name in refused)
    ]
    assert len(found) == 3
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.mark.rfc(
    "3711", "3", "MUST", role="UAS", text="a call from baresip is encrypted from end to end of the media path"
)
@pytest.mark.parametrize(
    ("srtp", "mediaenc", "size"), [("required", "srtp-mand", 182), ("optional", "srtp", 182), ("off", "", 172)]
)
async def test_the_greeting_is_heard_by_the_caller_and_by_nobody_else(
    tmp_path: Path, srtp: str, mediaenc: str, size: int
) -> None:
    account = "<sip:bob@127.0.0.1>;regint=0;audio_codecs=pcmu" + (f";mediaenc={mediaenc}" if mediaenc else "")
    async with (
        service(tmp_path / "service", CONFIG.format(srtp=srtp, carrier=5999)) as agent,
        baresip(tmp_path / "phone", account) as phone,
        capture(tmp_path / "line.pcap", agent.rtp_filter) as line,
    ):
        await workers_ready(agent)
        await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call = await agent.call_in_state("connected")
        await asyncio.sleep(6)
        opening = await refused_packets(agent)
        await phone.command("hangup")
        await agent.until(call["id"], "state", state="ended")
        record = (await agent.http.get(f"/v1/calls/{call['id']}")).json()
        refused = await refused_packets(agent)
    assert record["quality"]["mos_in"] > 4 and record["quality"]["mos_out"] > 4, (
        "RTP and RTCP were understood both ways"
    )
    assert opening <= 1, "baresip opens its RTCP port with an APP packet in the clear, and nothing else is refused"
    assert refused <= opening + 1, "but for its BYE, which is in the clear too"
    greeting = await audio.spoken(GREETING)
    heard, _ = audio.read(phone.heard())
    score, _ = audio.best_match(greeting, heard)
    assert score > 0.95, f"the greeting is not what baresip heard ({score:.3f})"
    overheard, sizes = await payloads(line.path, agent.rtp_ports)
    assert sizes == {size}
    score, _ = audio.best_match(greeting, overheard)
    assert score > 0.95 if srtp == "off" else score < 0.2, f"eavesdropper: {score:.3f}"


@pytest.mark.rfc("4568", "5.1.3", "MUST", role="UAC", text="a call that we place is encrypted from its first packet")
async def test_a_call_that_we_place_is_encrypted_from_its_first_packet(tmp_path: Path) -> None:
    account = "<sip:bob@127.0.0.1>;regint=0;audio_codecs=pcmu;mediaenc=srtp-mand;answermode=auto"
    async with baresip(tmp_path / "phone", account) as phone:
        async with (
            service(tmp_path / "service", CONFIG.format(srtp="required", carrier=phone.sip_port)) as agent,
            capture(tmp_path / "line.pcap", agent.rtp_filter) as line,
        ):
            await workers_ready(agent)
            call_id = await agent.place(f"sip:bob@127.0.0.1:{phone.sip_port}", trunk="carrier")
            await agent.call_in_state("connected", call_id)
            await asyncio.sleep(6)
            opening = await refused_packets(agent)
            await phone.command("hangup")
            await agent.until(call_id, "state", state="ended")
            record = (await agent.http.get(f"/v1/calls/{call_id}")).json()
            refused = await refused_packets(agent)
            assert record["quality"]["mos_in"] > 4 and record["quality"]["mos_out"] > 4
        assert opening <= 1, "baresip opens its RTCP port with an APP packet in the clear, and nothing else is refused"
        assert refused <= opening + 1, "but for its BYE, which is in the clear too"
        greeting = await audio.spoken(GREETING)
        score, _ = audio.best_match(greeting, audio.read(phone.heard())[0])
        assert score > 0.95, f"the greeting is not what baresip heard ({score:.3f})"
        overheard, sizes = await payloads(line.path, agent.rtp_ports)
        assert sizes == {182}
        score, _ = audio.best_match(greeting, overheard)
        assert score < 0.2, f"eavesdropper: {score:.3f}"
