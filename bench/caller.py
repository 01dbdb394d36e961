"""A caller of few words on loopback: INVITE, ACK, listen to the RTP, BYE; it measures and judges nothing."""

import asyncio
import re
import secrets
import struct
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

RTP_HEADER: Final = struct.Struct("!BBHII")
MESSAGE: Final = (
    "{method} sip:agent@{target} SIP/2.0\r\n"
    "Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{branch}\r\n"
    "From: <sip:caller@{host}>;tag={call_id}\r\n"
    "To: <sip:agent@{target}>{to_tag}\r\n"
    "Call-ID: {call_id}\r\n"
    "CSeq: {cseq}\r\n"
    "Contact: <sip:caller@{host}:{port}>\r\n"
    "Max-Forwards: 70\r\n"
    "{type}Content-Length: {length}\r\n\r\n{body}"
)
SDP: Final = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {rtp} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
)


@dataclass(slots=True)
class Outcome:
    """One call as its caller saw it; seconds from INVITE to the final response."""

    status: int = 0
    seconds: float = float("nan")
    packets: int = 0
    broken: int = 0  # packets that did not follow the one before: sequence +1, timestamp +160
    listened_s: float = 0.0
    bye_status: int = 0


@dataclass(slots=True)
class _Dialog:
    outcome: Outcome = field(default_factory=Outcome)
    branch: str = ""
    to_tag: str = ""
    begun: float = 0.0
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


class Caller(asyncio.DatagramProtocol):
    """Calls `target` ("host:port") from one UDP port of `host`."""

    def __init__(self, host: str, target: str) -> None:
        self.host, self._target = host, target
        self._dialogs: dict[str, _Dialog] = {}
        self._transport: Any = None
        self._port = 0

    async def open(self) -> None:
        """Bind."""
        loop = asyncio.get_running_loop()
        host, _, port = self._target.partition(":")
        await loop.create_datagram_endpoint(lambda: self, (self.host, 0), (host, int(port)))

    def close(self) -> None:
        """Unbind."""
        self._transport.close()

    async def call(self, seconds: float) -> Outcome:
        """One call that lasts so long when it is answered."""
        loop, call_id, dialog = asyncio.get_running_loop(), secrets.token_hex(8), _Dialog()
        self._dialogs[call_id] = dialog
        ear, listener = await loop.create_datagram_endpoint(_Listener, (self.host, 0))
        dialog.begun = time.monotonic()
        self.invite(call_id, ear.get_extra_info("sockname")[1])
        try:
            await asyncio.wait_for(dialog.answered.wait(), 10)
            if dialog.outcome.status == 200:
                await asyncio.sleep(seconds)
                dialog.outcome.packets, dialog.outcome.broken = len(listener.heard), listener.broken()
                dialog.outcome.listened_s = listener.seconds()
                self._send("BYE", call_id, "2 BYE", dialog.to_tag)
                await asyncio.wait_for(dialog.left.wait(), 10)
        except TimeoutError:
            pass  # the outcome has no status, or none of its BYE
        ear.close()
        del self._dialogs[call_id]
        return dialog.outcome

    def invite(self, call_id: str, rtp_port: int) -> None:
        """Send an INVITE, and forget it when it is nobody's dialog."""
        body = SDP.format(host=self.host, rtp=rtp_port)
        branch = self._send("INVITE", call_id, "1 INVITE", body=body)
        if call_id in self._dialogs:
            self._dialogs[call_id].branch = branch

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: object) -> None:
        """A response; provisional ones are passed over."""
        text = data.decode()
        found = re.search(r"(?im)^call-id: *(\S+)", text)
        dialog = self._dialogs.get(found[1]) if found else None
        if dialog is None or not text.startswith("SIP/2.0") or found is None:
            return
        status = int(text[8:11])
        if status < 200:
            return
        if re.search(r"(?im)^cseq: *2 BYE", text):
            dialog.outcome.bye_status = status
            dialog.left.set()
            return
        if not dialog.outcome.status:
            dialog.outcome.status, dialog.outcome.seconds = status, time.monotonic() - dialog.begun
            tag = re.search(r"(?im)^to:[^\r]*(;tag=[^;\r]+)", text)
            dialog.to_tag = tag[1] if tag else ""
            dialog.answered.set()
        self._send("ACK", found[1], "1 ACK", dialog.to_tag, branch="" if status < 300 else dialog.branch)

    def _send(self, method: str, call_id: str, cseq: str, to_tag: str = "", body: str = "", branch: str = "") -> str:
        branch = branch or secrets.token_hex(8)
        message = MESSAGE.format(
            method=method, target=self._target, host=self.host, port=self._port, branch=branch, call_id=call_id,
            to_tag=to_tag, cseq=cseq, type="Content-Type: application/sdp\r\n" if body else "", length=len(body),
            body=body,
        )  # fmt: skip
        self._transport.sendto(message.encode())
        return branch


class _Listener(asyncio.DatagramProtocol):
    """Keeps sequence number, timestamp and arrival of each RTP packet."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, float]] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(data) > RTP_HEADER.size and not 64 <= data[1] & 127 <= 95:  # RTCP (RFC 5761 §4)
            _, _, sequence, timestamp, _ = RTP_HEADER.unpack_from(data)
            self.heard.append((sequence, timestamp, time.monotonic()))

    def broken(self) -> int:
        return sum(
            (after[0] - before[0]) % 65536 != 1 or (after[1] - before[1]) % 2**32 != 160
            for before, after in pairwise(self.heard)
        )

    def seconds(self) -> float:
        return self.heard[-1][2] - self.heard[0][2] if self.heard else 0.0
