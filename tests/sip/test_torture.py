"""The torture messages of RFC 4475, by UDP and TCP, to a running engine."""

import asyncio
import re
import socket
from pathlib import Path

import pytest

from tests.sip.support import station

MESSAGES = Path(__file__).with_name("torture")
TABLE = Path(__file__).parents[2] / "docs" / "rfc4475.md"
ROWS = re.findall(r"^\| (\w+) \| [\d.]+ \| .* \| (\w+) \| (\w+) \|$", TABLE.read_text(), re.MULTILINE)
EXPECTED = {name: (udp, tcp) for name, udp, tcp in ROWS}
OPTIONS = (
    "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{protocol} 127.0.0.1:{port};branch=z9hG4bKlast;rport\r\n"
    "From: <sip:t@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: last\r\nCSeq: 1 OPTIONS\r\n"
    "Content-Length: 0\r\n\r\n"
)
STATUS = re.compile(rb"SIP/2\.0 (\d{3}) ")


def messages() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(MESSAGES.glob("*.dat"))}


def test_table_names_every_message() -> None:
    assert set(EXPECTED) == set(messages())
    assert len(EXPECTED) == 49


def with_reply_port(data: bytes, port: int) -> bytes:
    """Responses by UDP go to the port in the top Via (RFC 3261 §18.2.2): make it ours, and change nothing else."""
    hop = rb"(?im)^(via|v)(\s*:\s*SIP\s*/\s*[27]\.0\s*/\s*UDP\s+[\w.-]+)(:\d+)?"
    return re.sub(hop, rb"\1\2:%d" % port, data, count=1)


@pytest.mark.rfc(
    "4475", "3", "MUST", role="UAS", text="49 torture messages over UDP get what the RFC's text says (docs/rfc4475.md)"
)
async def test_every_message_by_udp_gets_what_the_table_says() -> None:
    async with station(25520) as target:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 25521))
            probe.setblocking(False)
            loop = asyncio.get_running_loop()
            found: dict[str, str] = {}
            seen: set[bytes] = set()
            for name, data in messages().items():
                if re.search(rb"(?im)^(via|v)\s*:\s*SIP\s*/\s*[27]\.0\s*/\s*(TCP|TLS)", data):
                    continue  # its Via names a stream: responses go where we cannot listen (port 5060)
                found[name] = "silent"
                probe.sendto(with_reply_port(data, 25521), ("127.0.0.1", 25520))
                await asyncio.sleep(0.01)
                try:
                    while True:
                        answer = await asyncio.wait_for(loop.sock_recv(probe, 65536), 0.03)
                        if answer in seen and b" INVITE\r\n" in answer:
                            continue  # a refusal repeated for want of its ACK
                        seen.add(answer)
                        match = STATUS.match(answer)
                        assert match is not None
                        found[name] = match[1].decode() if found[name] == "silent" else found[name]
                except TimeoutError:
                    pass
            probe.sendto(OPTIONS.format(protocol="UDP", port=25521).encode(), ("127.0.0.1", 25520))
            while b"CSeq: 1 OPTIONS" not in (last := await asyncio.wait_for(loop.sock_recv(probe, 65536), 2)):
                pass
            assert last.startswith(b"SIP/2.0 200")
        assert found == {name: EXPECTED[name][0] for name in found}
        assert len(found) >= 35
        assert target.engine.stats()["malformed"] >= 15


@pytest.mark.rfc(
    "4475", "3", "MUST", role="UAS", text="49 torture messages over TCP get what the RFC's text says (docs/rfc4475.md)"
)
@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_message_by_tcp_gets_what_the_table_says(name: str) -> None:
    async with station(25523):
        reader, writer = await asyncio.open_connection("127.0.0.1", 25523)
        writer.write(messages()[name])
        status = "silent"
        try:
            async with asyncio.timeout(0.1):
                match = STATUS.match(await reader.readuntil(b"\r\n\r\n"))
                assert match is not None
                status = match[1].decode()
        except (TimeoutError, asyncio.IncompleteReadError):
            pass
        writer.close()
        assert status == EXPECTED[name][1]
        reader, writer = await asyncio.open_connection("127.0.0.1", 25523)
        writer.write(OPTIONS.format(protocol="TCP", port=1).encode())
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)).startswith(b"SIP/2.0 200")
        writer.close()
        await writer.wait_closed()
