"""HEP: what a capture server that we did not write reads out of our datagrams."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from sipagent.sip.hep import encode
from sipagent.sip.ladder import Message
from tests.support.homer import homer
from tests.support.ports import free_port
from tests.support.service import service
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers

CONFIG = """
[hep]
server = "udp:127.0.0.1:{port}"
capture_id = 4711

[[route]]
to = "*"
brain = "line_brains:Plain"
pipeline = "echo"
"""
INVITE = (
    b"INVITE sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1:5062;branch=z9hG4bKabc\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:b@b>\r\nCall-ID: one|two\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nAuthorization: Digest geheim\r\n"
    b"Content-Type: application/sdp\r\nContent-Length: 66\r\n\r\n"
    b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0c2VjcmV0c2VjcmV0\r\n"
)
RINGING = INVITE.replace(b"INVITE sip:b@192.0.2.2 SIP/2.0", b"SIP/2.0 180 Ringing")


async def test_a_capture_server_reads_addresses_times_and_masked_messages() -> None:
    v4, v6 = (("192.0.2.1", 5062), ("192.0.2.2", 5070)), (("2001:db8::1", 5062), ("2001:db8::2", 5070))
    async with homer() as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for ends in (v4, v6):
                for direction, data, protocol in (("out", INVITE, "TLS"), ("in", RINGING, "UDP")):
                    message = Message(0.0, direction, data, protocol, *ends)
                    datagram = encode(message, "one|two", 1_700_000_000.123456, 4711, "key")
                    sender.sendto(datagram, ("127.0.0.1", server.port))
        stored = await server.until(4)
    assert [(one.method, one.proto, one.source, one.target) for one in stored] == [
        ("INVITE", 2, v4[0], v4[1]), ("180", 1, v4[1], v4[0]), ("INVITE", 2, v6[0], v6[1]), ("180", 1, v6[1], v6[0]),
    ]  # fmt: skip
    assert {one.microseconds for one in stored} == {1_700_000_000_123_456}
    assert {one.node.rpartition(":")[2] for one in stored} == {"4711"}
    for one in stored:
        assert "geheim" not in one.text and "c2VjcmV0" not in one.text
        assert "AES_CM_128_HMAC_SHA1_80 inline:***" in one.text and len(one.text) == len(
            INVITE if one.method == "INVITE" else RINGING
        )


async def test_every_message_of_a_call_reaches_the_capture_server(tmp_path: Path) -> None:
    async with homer() as server, service(tmp_path / "service", CONFIG.format(port=server.port)) as agent:
        ours, theirs = ("127.0.0.1", agent.sip_port), ("127.0.0.1", free_port())
        began = time.time()
        async with sipp("uac", f"127.0.0.1:{agent.sip_port}", port=theirs[1]) as caller:
            assert await caller.finished() == 0, caller.errors()
        stored = await server.until(7)
        metrics = (await agent.http.get("/metrics")).text
        call = (await agent.calls())[-1]
    told = [one.method for one in sorted(stored, key=lambda one: one.microseconds)]
    assert told == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    for one in stored:
        requests = one.method in ("INVITE", "ACK", "BYE")
        assert (one.source, one.target) == ((theirs, ours) if requests else (ours, theirs))
        assert began - 1 < one.microseconds / 1e6 < time.time() + 1
        assert one.node.endswith(":4711")
    assert len({one.call_id for one in stored}) == 1 and call["state"] == "ended"
    assert 'sipagent_hep_total{what="sent"} 7.0' in metrics and 'sipagent_hep_total{what="dropped"} 0.0' in metrics


async def test_a_capture_server_that_is_not_there_costs_no_call(tmp_path: Path) -> None:
    async with service(tmp_path / "service", CONFIG.format(port=free_port())) as agent:
        async with sipp("uac", f"127.0.0.1:{agent.sip_port}", port=free_port()) as caller:
            assert await caller.finished() == 0, caller.errors()
        async with asyncio.timeout(10):  # the kernel tells with the next datagram that nobody takes them
            while 'sipagent_hep_total{what="dropped"} 0.0' in (await agent.http.get("/metrics")).text:
                await asyncio.sleep(0.05)
