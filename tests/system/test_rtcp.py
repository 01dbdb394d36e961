"""Our reports in the eyes of programs that are not ours: tshark decodes them, baresip counts by them."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.support.baresip import baresip
from tests.support.capture import Capture, capture
from tests.support.service import service

pytestmark = pytest.mark.peers

CONFIG = """
[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
SENDER_REPORT, DESCRIPTION, BYE, EXTENDED = "200", "202", "203", "207"


async def decoded(line: Capture, ports: range, *fields: str) -> list[list[str]]:
    """Fields of the RTCP datagrams that were sent from these ports, as tshark reads them."""
    arguments = [part for field in fields for part in ("-e", field)]
    process = await asyncio.create_subprocess_exec(
        "tshark", "-r", str(line.path), "-o", "rtcp.show_roundtrip_calculation:TRUE", "--enable-heuristic", "rtcp_udp",
        "-Y", f"rtcp and udp.srcport in {{{ports.start}..{ports.stop}}}", "-T", "fields", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    output, _ = await process.communicate()
    return [row.split("\t") for row in output.decode().splitlines()]


async def test_reports_are_well_formed_to_tshark_and_counted_by_baresip(tmp_path: Path) -> None:
    async with (
        service(tmp_path / "service", CONFIG) as agent,
        baresip(tmp_path / "phone", "<sip:bob@127.0.0.1>;regint=0;audio_codecs=pcmu") as phone,
        capture(tmp_path / "line.pcap", agent.rtp_filter) as line,
    ):
        await phone.command("dial", f"sip:agent@127.0.0.1:{agent.sip_port}")
        call = await agent.call_in_state("connected")
        await asyncio.sleep(14)
        await phone.command("hangup")
        await agent.until(call["id"], "state", state="ended")
        quality = (await agent.http.get(f"/v1/calls/{call['id']}")).json()["quality"]
    assert await line.count("rtcp and _ws.malformed") == 0
    reports = await decoded(
        line, agent.rtp_ports, "rtcp.pt", "rtcp.sdes.text", "rtcp.xr.bt", "rtcp.ssrc.cum_nr", "udp.srcport"
    )
    assert len(reports) >= 2 and all(int(report[4]) % 2 for report in reports)
    kinds, names, blocks, lost, _ = reports[1]
    assert kinds.split(",") == [SENDER_REPORT, DESCRIPTION, EXTENDED]
    assert len(names) == 16 and blocks == "7" and lost == "0"
    assert BYE in reports[-1][0].split(",")
    # baresip has reported on us, and has taken our reports into its own statistics.
    assert quality["mos_out"] > 4 and quality["remote_loss_fraction"] == 0 and 0 <= quality["round_trip_ms"] < 200
    found = re.search(r"pkt\.report:\s+(\d+)\s+(\d+)", (tmp_path / "phone" / "log").read_text())
    assert found, (tmp_path / "phone" / "log").read_text()[-2000:]
    assert int(found[1]) > 100 and int(found[2]) > 100
