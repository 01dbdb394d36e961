"""Packets on the loopback interface, captured by tcpdump and read by tshark: neither is ours."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet as tshark read it; `at` in seconds since the capture began."""

    at: float
    source_port: int
    target_port: int
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    marker: bool
    payload: bytes


class Capture:
    """A capture file that grows while the test runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def rtp(self, source_ports: range) -> list[RtpPacket]:
        """RTP sent from these ports, in the order of the wire; without telephone-event packets of PT 96 and above.

        tshark is told what it is: the far end's port may be one that tshark knows for another protocol.
        """
        fields = [
            "frame.time_relative",
            "udp.srcport",
            "udp.dstport",
            "rtp.p_type",
            "rtp.seq",
            "rtp.timestamp",
            "rtp.ssrc",
            "rtp.marker",
            "rtp.payload",
        ]
        arguments = [part for field in fields for part in ("-e", field)]
        arguments += [part for port in source_ports[::2] for part in ("-d", f"udp.port=={port},rtp")]
        process = await asyncio.create_subprocess_exec(
            "tshark", "-r", str(self.path), "-o", "rtp.heuristic_rtp:TRUE", "--enable-heuristic", "rtp_udp",
            "-Y", "rtp", "-T", "fields", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        output, _ = await process.communicate()
        packets = [_packet(line.split("\t")) for line in output.decode().splitlines()]
        return [packet for packet in packets if packet.source_port in source_ports and packet.payload_type < 96]

    async def count(self, display_filter: str) -> int:
        """How many packets match a display filter of tshark."""
        process = await asyncio.create_subprocess_exec(
            "tshark", "-r", str(self.path), "-Y", display_filter,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        output, _ = await process.communicate()
        return len(output.decode().splitlines())


def _packet(fields: list[str]) -> RtpPacket:
    at, source, target, payload_type, sequence, timestamp, ssrc, marker, payload = fields
    return RtpPacket(
        float(at), int(source), int(target), int(payload_type), int(sequence), int(timestamp), int(ssrc, 16),
        marker in ("1", "True"), bytes.fromhex(payload.replace(":", "")),
    )  # fmt: skip


@asynccontextmanager
async def capture(path: Path, filter_expression: str = "udp") -> AsyncIterator[Capture]:
    """Capture on `lo` until the block is left."""
    for program in ("tcpdump", "tshark"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    process = await asyncio.create_subprocess_exec(
        "tcpdump", "-i", "lo", "-U", "--immediate-mode", "-B", "16384", "-w", str(path), filter_expression,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    first = await process.stderr.readline()
    if b"permission" in first.lower():
        pytest.skip("tcpdump may not capture here (not root)")
    try:
        yield Capture(path)
    finally:
        await asyncio.sleep(0.2)
        process.terminate()
        await process.wait()
