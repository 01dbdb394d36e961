"""A SIP caller of our own for the benchmark: REGISTERs are welcomed, INVITEs sent and acknowledged, BYEs exchanged.

It is written apart from the user agent that it measures, and knows no more of SIP than loopback needs.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

ANSWER_S: Final = 10.0
AGAIN_S: Final = 1.0  # an INVITE or BYE without any response is sent again over UDP
_MEDIA: Final = re.compile(r"^m=audio (\d+) \S+ (.*)$", re.MULTILINE)
_ADDRESS: Final = re.compile(r"^c=IN IP4 (\S+)", re.MULTILINE)
_COPIED: Final = ("via", "from", "to", "call-id", "cseq")


@dataclass(eq=False)
class Call:
    """One call: its RTP socket, and how far it came."""

    number: int
    rtp: socket.socket
    failure: str = ""  # why it was not answered or did not last; "" = all is well
    answered_s: float = 0.0
    to: str = ""
    target: str = ""  # the far end's Contact
    hung_up: bool = False
    response: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Caller:
    """Calls `target` (host, port); `send` is what the connection gives once there is one."""

    def __init__(self, local: tuple[str, int], target_uri: str, transport: str) -> None:
        self.local, self._target_uri, self._transport = local, target_uri, transport
        self.send: Callable[[bytes], None] | None = None
        self.calls: dict[str, Call] = {}
        self.registered = asyncio.Event()
        self.contact = ""

    async def invite(self, number: int, rtp: socket.socket) -> Call:
        """Place a call and wait for its answer; the socket is connected to where the answer says."""
        call = self.calls[str(number)] = Call(number, rtp)
        port = rtp.getsockname()[1]
        host = self.local[0]
        body = (
            f"v=0\r\no=- {number} 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n"
            "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
        )
        began = asyncio.get_running_loop().time()
        answer = await self._ask(call, "INVITE", 1, body)
        if not answer.startswith("SIP/2.0 200"):
            call.failure = answer.partition("\r\n")[0].removeprefix("SIP/2.0 ") or "no answer"
            return call
        call.answered_s = asyncio.get_running_loop().time() - began
        headers, _, sdp = answer.partition("\r\n\r\n")
        call.to = header(headers, "to")
        call.target = header(headers, "contact").partition("<")[2].partition(">")[0] or self._target_uri
        self._write(call, "ACK", 1, "")
        media, address = _MEDIA.search(sdp), _ADDRESS.search(sdp)
        if media is None or address is None or media[1] == "0":
            call.failure = "an answer without audio"
            return call
        rtp.connect((address[1], int(media[1])))
        return call

    async def bye(self, call: Call) -> None:
        """End it, unless the far end has."""
        if not call.target or call.hung_up:
            return
        call.response = asyncio.get_running_loop().create_future()
        answer = await self._ask(call, "BYE", 2, "")
        if not answer.startswith("SIP/2.0 200"):
            call.failure = call.failure or f"BYE: {answer.partition(chr(13))[0] or 'no answer'}"

    def receive(self, message: str) -> None:
        """A whole SIP message."""
        start = message.partition("\r\n")[0]
        call = self.calls.get(header(message, "call-id").partition("@")[0])
        if not start.startswith("SIP/2.0"):
            self._answer(start.partition(" ")[0], message, call)
        elif call is not None and int(start.split()[1]) >= 200:
            if call.response.done():
                if "INVITE" in header(message, "cseq") and call.target:
                    self._write(call, "ACK", 1, "")  # our first was lost
            else:
                call.response.set_result(message)

    def _answer(self, method: str, request: str, call: Call | None) -> None:
        if method == "ACK" or self.send is None:
            return
        lines = [f"{name.title()}: {value}" for name, value in headers(request) if name in _COPIED]
        if method == "REGISTER":
            self.contact = header(request, "contact")
            lines += [f"Contact: {self.contact};expires=3600", "Expires: 3600"]
            self.registered.set()
        if method == "BYE" and call is not None and not call.hung_up:
            call.hung_up = True
            call.failure = call.failure or "hung up by the far end"
        lines = [line + ";tag=bench" if line.startswith("To:") and "tag=" not in line else line for line in lines]
        self.send("\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""]).encode())

    async def _ask(self, call: Call, method: str, number: int, body: str) -> str:
        """The final response, "" when none came."""
        again = AGAIN_S if self._transport == "UDP" else ANSWER_S
        for _ in range(int(ANSWER_S / again)):
            self._write(call, method, number, body)
            try:
                return await asyncio.wait_for(asyncio.shield(call.response), again)
            except TimeoutError:
                continue
        return ""

    def _write(self, call: Call, method: str, number: int, body: str) -> None:
        if self.send is None:
            return
        host, port = self.local
        uri = call.target or self._target_uri
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self._transport} {host}:{port};branch=z9hG4bK{call.number}-{method}-{number};rport",
            "Max-Forwards: 70",
            f"From: <sip:bench@{host}:{port}>;tag=b{call.number}",
            f"To: {call.to or f'<{self._target_uri}>'}",
            f"Call-ID: {call.number}@{host}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:bench@{host}:{port};transport={self._transport.lower()}>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self.send("\r\n".join([*lines, "", body]).encode())


def headers(message: str) -> list[tuple[str, str]]:
    """Name in small letters and value of every header."""
    head = message.partition("\r\n\r\n")[0]
    pairs = (line.partition(":") for line in head.split("\r\n")[1:])
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def header(message: str, name: str) -> str:
    """The first header of that name, "" when there is none."""
    return next((value for found, value in headers(message) if found == name), "")


async def over_udp(local_host: str, target: tuple[str, int]) -> tuple[Caller, asyncio.BaseTransport]:
    """A caller over UDP."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        _Datagrams, local_addr=(local_host, 0), remote_addr=target
    )
    caller = Caller(transport.get_extra_info("sockname"), f"sip:echo@{target[0]}:{target[1]}", "UDP")
    caller.send = transport.sendto
    protocol.receive = caller.receive
    return caller, transport


async def as_registrar(host: str, port: int) -> tuple[Caller, asyncio.Server]:
    """A caller over TCP that waits for the far end to connect and register, and calls it over that connection."""
    caller = Caller((host, port), f"sip:bench@{host}", "TCP")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller.send = writer.write
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode(errors="replace").lstrip("\r\n")
                if head:  # else a keep-alive
                    length = int(header(head, "content-length") or 0)
                    caller.receive(head + (await reader.readexactly(length)).decode(errors="replace"))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return caller, await asyncio.start_server(serve, host, port)


class _Datagrams(asyncio.DatagramProtocol):
    receive: Callable[[str], None]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.strip():
            self.receive(data.decode(errors="replace"))
