"""One file with SIP and RTP of a call, which tshark, which is not ours, takes for the call that baresip had."""

import asyncio
import stat
from pathlib import Path

import pytest

from tests.support.baresip import baresip
from tests.support.service import Service, service

pytestmark = pytest.mark.peers

CONFIG = """
[[trunk]]
name = "phone"
server = "sip:127.0.0.1:9"
register = false
allow = ["127.0.0.1"]
codecs = ["PCMU"]
srtp = "optional"

[[route]]
to = "captured"
brain = "line_brains:Plain"
pipeline = "echo"
capture = true

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""


async def tshark(path: Path, *words: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        "tshark", "-n", "-r", str(path), *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return output.decode().splitlines()


async def rtp_streams(path: Path) -> list[tuple[int, int, int]]:
    """Source port, packets and packets lost of each RTP stream, found by the session descriptions of the same file."""
    lines = [line.split() for line in await tshark(path, "-q", "-z", "rtp,streams")]
    # Start, end, source address and port, destination address and port, SSRC, payload, packets, lost, (%), …
    rows = [line for line in lines if len(line) > 10 and line[2] == line[4] == "127.0.0.1"]
    return [(int(row[3]), int(row[8]), int(row[9])) for row in rows]


async def fetch(agent: Service, call_id: str, path: Path, at_least: int = 0) -> Path:
    """The call's capture, once it is as long as that."""
    async with asyncio.timeout(20):
        while True:
            answer = await agent.http.get(f"/v1/calls/{call_id}/pcap")
            if answer.status_code == 200 and len(answer.content) >= at_least:
                path.write_bytes(answer.content)
                return path
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("mediaenc", ["", "srtp-mand"])
async def test_a_captured_call_is_a_sip_dialog_and_two_rtp_streams_without_loss(tmp_path: Path, mediaenc: str) -> None:
    account = "<sip:bob@127.0.0.1>;regint=0;audio_codecs=pcmu" + (f";mediaenc={mediaenc}" if mediaenc else "")
    async with (
        service(tmp_path / "service", CONFIG) as agent,
        baresip(tmp_path / "phone", account) as phone,
    ):
        await phone.command("dial", f"sip:captured@127.0.0.1:{agent.sip_port}")
        call = await agent.call_in_state("connected")
        within = await fetch(agent, call["id"], tmp_path / "within.pcapng", at_least=40_000)
        await phone.command("hangup")
        told = await agent.until(call["id"], "capture")
        await agent.until(call["id"], "state", state="ended")
        path = await fetch(agent, call["id"], tmp_path / "call.pcapng")
    assert told["problem"] == "" and told["left_out"] == 0
    kept = Path(told["path"])
    assert kept.read_bytes() == path.read_bytes() and stat.S_IMODE(kept.stat().st_mode) == 0o600
    counters = {"sip.Method": "", "sip.Status-Code": "", "sip.CSeq.method": ""}
    words = [word for name in counters for word in ("-e", name)]
    dialog = [tuple(line.split("\t")) for line in await tshark(path, "-Y", "sip", "-T", "fields", *words)]
    assert dialog[0] == ("INVITE", "", "INVITE") and dialog[-2:] == [("BYE", "", "BYE"), ("", "200", "BYE")]
    assert ("", "200", "INVITE") in dialog and ("ACK", "", "ACK") in dialog
    streams = await rtp_streams(path)
    assert len(streams) == 2, "the session descriptions are not those of the streams"
    assert any(source in agent.rtp_ports for source, _, _ in streams)
    assert all(packets > 50 and lost == 0 for _, packets, lost in streams), streams
    assert len(await rtp_streams(within)) == 2, "a call in progress can be read as well"
    assert not await tshark(path, "-Y", "_ws.malformed || sip.bad_content_length")
    times = [float(line) for line in await tshark(path, "-T", "fields", "-e", "frame.time_epoch")]
    assert times == sorted(times) and abs(times[0] - call["created_at"]) < 5
    assert b"inline:*" in path.read_bytes() if mediaenc else b"inline" not in path.read_bytes()


async def test_a_call_is_captured_from_the_moment_that_it_is_asked_for_and_not_before(tmp_path: Path) -> None:
    async with (
        service(tmp_path / "service", CONFIG) as agent,
        baresip(tmp_path / "phone", "<sip:bob@127.0.0.1>;regint=0;audio_codecs=pcmu") as phone,
    ):
        await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call = await agent.call_in_state("connected")
        path = f"/v1/calls/{call['id']}/capture"
        assert (await agent.http.get(f"/v1/calls/{call['id']}/pcap")).json()["type"].endswith(":no-capture")
        assert (await agent.http.delete(path)).status_code == 409
        assert not list((tmp_path / "service" / "records").glob("*.pcapng"))
        assert (await agent.http.post(path)).status_code == 202
        assert (await agent.http.post(path)).status_code == 409
        first = await fetch(agent, call["id"], tmp_path / "first.pcapng", at_least=20_000)
        assert (await agent.http.delete(path)).status_code == 202
        told = await agent.until(call["id"], "capture")
        assert (await agent.http.post(path)).status_code == 202
        await fetch(agent, call["id"], tmp_path / "second.pcapng", at_least=20_000)
        await phone.command("hangup")
        await agent.until(call["id"], "state", state="ended")
        assert (await agent.http.post(path)).status_code == 409
    files = sorted(path.name for path in (tmp_path / "service" / "records").glob("*.pcapng"))
    assert files == [f"{call['id']}-2.pcapng", f"{call['id']}.pcapng"] and told["path"].endswith(files[1])
    methods = await tshark(first, "-Y", "sip.Method", "-T", "fields", "-e", "sip.Method")
    assert methods == ["INVITE", "ACK"], "what SIP said before belongs to it, the end of the call does not"
    assert len(await rtp_streams(first)) == 2
