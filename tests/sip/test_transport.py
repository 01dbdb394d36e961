"""Sockets: streams cut and merged, large requests, keepalives, lost connections, IPv6."""

import asyncio
import socket
from dataclasses import replace
from typing import cast

import pytest
import structlog

from sipagent.errors import ConfigError, ParseError
from sipagent.sip import header, stun, transport
from sipagent.sip.engine import (
    Answered,
    Confirmed,
    Ended,
    EngineSettings,
    IncomingCall,
    PlaceCall,
    RegistrationChanged,
    TrunkAccount,
)
from sipagent.sip.framing import StreamFramer
from sipagent.sip.native import NativeEngine
from tests.sip.support import SDP, station
from tests.support.ports import free_port

A, B = 25800, 25802


def options(port: int, number: int, protocol: str = "TCP") -> bytes:
    return (
        f"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{protocol} 127.0.0.1:{port};branch=z9hG4bKo{number};rport\r\n"
        f"From: <sip:t@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: o{number}\r\nCSeq: {number} OPTIONS\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


@pytest.mark.rfc("3261", "18.3", "MUST", role="both", text="on a stream Content-Length ends a message")
@pytest.mark.rfc(
    "5626", "4.4.1", "MUST", role="both", text="CRLF keepalives between messages are answered and passed over"
)
def test_framer_cuts_messages_and_counts_keepalives() -> None:
    framer = StreamFramer()
    one, two = options(1, 1), options(1, 2)
    assert framer.feed(one[:50]) == []
    assert framer.partial
    assert framer.feed(one[50:] + two + b"\r\n\r\n" + one[:10]) == [one, two]
    assert framer.pings == 1
    assert framer.feed(one[10:]) == [one]
    assert not framer.partial


@pytest.mark.parametrize("sent_by", ["127.0.0.1:99999", "127.0.0.1:65536", "127.0.0.1:0", "a..b", "x" * 64])
async def test_an_address_that_is_none_costs_no_socket(sent_by: str) -> None:
    async with station(A) as us:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.setblocking(False)
            own = stranger.getsockname()[1]
            bad = options(own, 1, "UDP").replace(f"127.0.0.1:{own};".encode(), f"{sent_by};".encode())
            # without rport the answer goes to the address of the Via
            stranger.sendto(bad.replace(b";rport", b""), ("127.0.0.1", A))
            stranger.sendto(options(own, 2, "UDP"), ("127.0.0.1", A))
            answer = b""
            async with asyncio.timeout(5):
                while b"CSeq: 2 OPTIONS" not in answer:
                    answer = await asyncio.get_running_loop().sock_recv(stranger, 4096)
        assert answer.startswith(b"SIP/2.0 200")
        flow = us.engine._transports.udp_flow("127.0.0.1", 5060)
        assert flow is not None
        for remote in (("127.0.0.1", 65536), ("127.0.0.1", 0), ("1..2", 5060), ("x" * 64, 5060)):
            assert not us.engine._transports.send(replace(flow, remote=remote), b"x")
        assert us.engine._transports.is_open(flow)


async def test_a_socket_that_asyncio_gives_up_is_opened_again() -> None:
    async with station(A) as us:
        us.engine._transports._udp[0]._fatal_error(ValueError("an address that is none"))  # type: ignore[attr-defined]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far_end:
            far_end.setblocking(False)
            async with asyncio.timeout(5):
                while True:
                    far_end.sendto(options(1, 1, "UDP"), ("127.0.0.1", A))
                    try:
                        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far_end, 4096), 0.2)
                        break
                    except (TimeoutError, ConnectionRefusedError):
                        pass
        assert answer.startswith(b"SIP/2.0 200")


@pytest.mark.parametrize("uri", ["sip:a@h:65536", "sip:a@h:0", "sip:a@b..c", f"sip:a@{'x' * 64}", "sip:.b"])
def test_a_uri_with_a_host_or_port_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(ParseError):
        header.parse_uri(uri)


@pytest.mark.rfc("3261", "18.3", "SHOULD", role="both", text="a stream that cannot be framed is closed")
def test_framer_gives_up_on_endless_headers() -> None:
    framer = StreamFramer()
    found = [message for _ in range(50) for message in framer.feed(b"X: " + b"y" * 1000 + b"\r\n")]
    assert framer.broken
    assert len(found) == 1, "what there was is handed over, to be refused"
    assert len(found[0]) < 34_000


async def ask(port: int, data: bytes, transport: str = "udp", wait_s: float = 10.0) -> str:
    """The start line of what comes back, "" for nothing or a closed connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, data)
        try:
            return (await asyncio.wait_for(loop.sock_recv(sock, 65536), wait_s)).split(b"\r\n")[0].decode()
        except (TimeoutError, ConnectionResetError):
            return ""


async def test_bad_input_gets_an_answer_or_silence_a_counter_and_one_line_and_changes_nothing_else() -> None:
    port = free_port(tcp=True)
    sound = options(port, 1, "UDP")
    invite = sound.replace(b"OPTIONS", b"INVITE")
    big = invite.replace(b"/UDP", b"/TCP").replace(b"Content-Length: 0", b"Content-Length: 70000") + bytes(70_000)
    with structlog.testing.capture_logs() as logs:
        async with station(port) as us:
            assert await ask(port, b"\x16\x03\x01" + bytes(range(200)), wait_s=0.3) == ""
            assert (await ask(port, invite[:150])).startswith("SIP/2.0 400 ")
            assert (await ask(port, invite.replace(b"Length: 0", b"Length: 9"))).startswith("SIP/2.0 400 ")
            assert await ask(port, big, "tcp") == "SIP/2.0 513 Message Too Large"
            assert await ask(port, b"INVITE sip:a@b SIP/2.0\r\nX: " + b"y" * 70_000, "tcp") == ""
            stats = us.engine.stats()
            assert stats["malformed"] + stats["guard_too_many_headers"] == 5
            assert (stats["calls"], stats["dialogs"], stats["transactions"]) == (0, 0, 0)
            assert us.events == []
            assert await ask(port, sound) == "SIP/2.0 200 OK"
    told = [(line["why"], line["source"]) for line in logs if line["event"] == "message is not taken"]
    assert sorted(told) == [("guard_too_many_headers", "127.0.0.1"), ("malformed", "127.0.0.1")]


@pytest.mark.rfc(
    "3261", "7.5", "MUST", role="UAS", text="messages that arrive split or several at once on a stream are all handled"
)
async def test_requests_that_are_split_and_merged_on_a_stream_are_all_answered() -> None:
    async with station(A):
        reader, writer = await asyncio.open_connection("127.0.0.1", A)
        whole = b"".join(options(1, number) for number in range(1, 6))
        for start in range(0, len(whole), 97):
            writer.write(whole[start : start + 97])
            await writer.drain()
            await asyncio.sleep(0.002)
        for number in range(1, 6):
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
            assert f"CSeq: {number} OPTIONS".encode() in answer
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 2) == b"\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.rfc("3261", "18.1.1", "MUST", role="UAC", text="above 1300 bytes a request goes by TCP")
async def test_large_request_goes_by_tcp_although_the_address_says_nothing() -> None:
    async with station(A) as a, station(B) as b:
        b.answer_all()
        offer = SDP + b"a=x:" + b"y" * 1300 + b"\r\n"
        handle = a.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{B}", "", offer, "alice"))
        await a.expect(Answered)
        incoming = await b.expect(IncomingCall)
        assert incoming.offer == offer
        assert "SIP/2.0/TCP" in a.engine.ladder(handle)[0].text
        await b.expect(Confirmed)


@pytest.mark.rfc("3261", "18.1.1", "SHOULD", role="UAC", text="when TCP is refused, the large request is tried by UDP")
async def test_large_request_falls_back_to_udp_when_the_far_end_takes_no_tcp() -> None:
    async with station(A) as a, station(B, listen=(f"udp:127.0.0.1:{B}",)) as b:
        b.answer_all()
        offer = SDP + b"a=x:" + b"y" * 1300 + b"\r\n"
        handle = a.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{B}", "", offer, "alice"))
        await a.expect(Answered)
        assert "SIP/2.0/UDP" in a.engine.ladder(handle)[0].text


@pytest.mark.rfc("3261", "18.1.1", "MUST", role="UAS", text="messages up to 65535 bytes are taken")
@pytest.mark.rfc("3261", "21.5.14", "SHOULD", role="UAS", text="a longer message gets 513")
async def test_description_of_60_kilobytes_is_taken_by_tcp_and_a_larger_one_refused_with_513() -> None:
    async with station(A) as a, station(B) as b:
        b.answer_all()
        offer = SDP + b"".join(b"a=x:" + b"y" * 96 + b"\r\n" for _ in range(580))
        a.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{B};transport=tcp", "", offer, "alice"))
        await a.expect(Answered)
        assert (await b.expect(IncomingCall)).offer == offer
        a.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{B};transport=tcp", "", offer * 2, "alice"))
        assert (await a.expect(Ended)).status == 513


@pytest.mark.rfc(
    "3261", "18.1.1", "SHOULD", role="UAC", text="a call lives on when its connection breaks; a new one is made"
)
async def test_call_outlives_its_connection() -> None:
    async with station(A) as a, station(B) as b:
        b.answer_all()
        handle = a.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{B};transport=tcp", "", SDP, "alice"))
        await b.expect(Confirmed)
        for connection in list(a.engine._transports._connections.values()):
            connection.close()
        await asyncio.sleep(0.1)
        a.engine.hangup(handle)
        assert (await b.expect(Ended)).by == "remote"


@pytest.mark.rfc("3261", "8.1.3.1", "MUST", role="UAC", text="a transport error counts as 503 for the user")
async def test_refused_connection_ends_the_call_with_words() -> None:
    async with station(A) as a:
        a.engine.place(PlaceCall("sip:bob@127.0.0.1:25899;transport=tcp", "", SDP))
        ended = await a.expect(Ended)
        assert (ended.by, ended.status) == ("transport", 503)
        assert "25899" in ended.reason


@pytest.mark.rfc("5118", "4", "MUST", role="both", text="IPv6 references in Via, Contact and URIs carry a call")
async def test_ipv6_carries_a_call() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    addresses = [(f"udp:[::1]:{port}", f"tcp:[::1]:{port}") for port in (A, B)]
    try:
        async with station(A, listen=addresses[0]) as a, station(B, listen=addresses[1]) as b:
            b.answer_all()
            for number, parameter in enumerate(("", ";transport=tcp"), 1):
                handle = a.engine.place(PlaceCall(f"sip:bob@[::1]:{B}{parameter}", "", SDP, "alice"))
                await a.expect(Answered, number)
                await b.expect(Confirmed, number)
                assert f"<sip:alice@[::1]:{A}" in str(a.engine.ladder(handle))
                a.engine.hangup(handle)
                await b.expect(Ended, number)
            assert a.engine.listening() == (f"udp:[::1]:{A}", f"tcp:[::1]:{A}")
    except ConfigError:
        pytest.skip("no IPv6 loopback here")


async def test_port_that_is_taken_is_a_configuration_error() -> None:
    async with station(A):
        engine = NativeEngine(EngineSettings(listen=(f"udp:127.0.0.1:{A}",)))
        with pytest.raises(ConfigError, match="cannot be bound"):
            await engine.start(lambda event: None)
        await engine.stop()


@pytest.mark.parametrize("wrong", ["127.0.0.1:5060", "sctp:127.0.0.1:5060", "udp:localhost:5060", "udp:127.0.0.1:x"])
def test_listener_that_is_none_is_a_configuration_error(wrong: str) -> None:
    with pytest.raises(ConfigError):
        transport.parse_listen(wrong)


class _Registrar(asyncio.DatagramProtocol):
    """Answers REGISTER from a port that sees us elsewhere, as behind NAT."""

    def __init__(self) -> None:
        self.contacts: list[str] = []
        self.invites: list[str] = []

    def connection_made(self, wire: asyncio.BaseTransport) -> None:
        self.wire = cast(asyncio.DatagramTransport, wire)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        text = data.decode()
        lines = text.split("\r\n")
        if text.startswith("INVITE"):
            self.invites.append(text)
            return
        if not text.startswith("REGISTER"):
            return
        self.contacts += [line for line in lines if line.startswith("Contact")]
        kept = [line for line in lines if line.split(":")[0] in ("From", "To", "Call-ID", "CSeq")]
        contacts = [line for line in lines if line.startswith("Contact") and "expires=0" not in line]
        via = next(line for line in lines if line.startswith("Via")).replace(";rport", "")
        answer = [
            "SIP/2.0 200 OK",
            f"{via};received=127.0.0.7;rport=4321",
            *kept,
            *contacts,
            "Content-Length: 0",
            "",
            "",
        ]
        self.wire.sendto("\r\n".join(answer).encode(), source)


@pytest.mark.rfc(
    "3581",
    "4",
    "MUST",
    role="UAC",
    text="rport is asked for in every Via of a UDP request; received and rport give the Contact behind NAT",
)
async def test_address_that_the_registrar_sees_goes_into_contact_and_media() -> None:
    loop = asyncio.get_running_loop()
    wire, registrar = await loop.create_datagram_endpoint(_Registrar, local_addr=("127.0.0.1", B))
    trunk = TrunkAccount("t", f"sip:127.0.0.1:{B}", "agent", expires_s=60)
    async with station(A, trunk) as us:
        await us.expect(RegistrationChanged, where="REGISTERED: 'registered'")
        await asyncio.sleep(0.1)
        assert any("<sip:agent@127.0.0.7:4321>" in contact for contact in registrar.contacts)
        assert us.engine.local_address("", "t") == "127.0.0.7"
        handle = us.engine.place(PlaceCall("5551234", "t", SDP))
        await asyncio.sleep(0.1)
        assert "Contact: <sip:agent@127.0.0.7:4321>" in registrar.invites[0]
        us.engine.hangup(handle)
    wire.close()


class _StunServer(asyncio.DatagramProtocol):
    """Says that everybody comes from the same place; the first question is lost."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, wire: asyncio.BaseTransport) -> None:
        self.wire = cast(asyncio.DatagramTransport, wire)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        request = stun.decode(data)
        assert isinstance(request, stun.BindingRequest)
        self.asked += 1
        if self.asked > 1:
            answer = stun.BindingResponse(request.transaction_id, "203.0.113.9", 6123)
            self.wire.sendto(stun.encode_response(stun.BindingResponse(bytes(12), "198.51.100.1", 1)), source)
            self.wire.sendto(stun.encode_response(answer), source)


@pytest.mark.rfc(
    "8489", "6.2.1", "MUST", role="UAC", text="the public address is learnt by a Binding request from the SIP socket"
)
async def test_public_address_is_asked_of_a_stun_server() -> None:
    loop = asyncio.get_running_loop()
    wire, server = await loop.create_datagram_endpoint(_StunServer, local_addr=("127.0.0.1", 25805))
    async with station(A, public_address="stun:127.0.0.1:25805") as us, station(B) as b:
        handle = us.engine.place(PlaceCall(f"sip:bob@127.0.0.1:{B}", "", SDP, "alice"))
        await b.expect(IncomingCall)
        first = us.engine.ladder(handle)[0].text
        assert "Contact: <sip:alice@203.0.113.9:6123>" in first
        assert "Via: SIP/2.0/UDP 203.0.113.9:6123;" in first
        assert us.engine.local_address(handle) == "203.0.113.9"
        us.engine.hangup(handle)
    assert server.asked == 2
    wire.close()


async def test_stun_server_that_is_none_is_a_configuration_error() -> None:
    engine = NativeEngine(EngineSettings(listen=(f"udp:127.0.0.1:{A}",), public_address="stun:host:x"))
    with pytest.raises(ConfigError, match="STUN"):
        await engine.start(lambda event: None)
    await engine.stop()


async def test_an_address_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LOCAL_FOR_S", 0.0)
    ours = iter(["127.0.0.1", "198.18.0.2", "198.18.0.3"])  # no network yet, one address, another one
    monkeypatch.setattr(transport, "_source_address", lambda host: next(ours))
    transports = transport.Transports(lambda data, flow: None, lambda flow: None)
    assert [transports.local_address("198.18.0.1") for _ in range(3)] == ["127.0.0.1", "198.18.0.2", "198.18.0.3"]
