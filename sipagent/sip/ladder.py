"""The flight log: the last messages of every call, secrets masked when they are read."""

import re
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

Address = tuple[str, int]

MESSAGES_PER_CALL: Final = 200
MESSAGES_PER_ATTEMPT: Final = 20  # of an INVITE that became no call: anyone may send those
BYTES_PER_MESSAGE: Final = 4096
ENDED_CALLS_KEPT: Final = 200
ENDED_BYTES_KEPT: Final = 4 * 1024 * 1024  # of their messages; the oldest calls go first

PACKED_BYTES: Final = 64 * 1024  # of a call that is over; what is beyond keeps its first line and its CSeq

_SECRETS: Final = re.compile(
    rb"^((?:Proxy-)?Authorization[ \t]*:[ \t]*)([^\r\n]*(?:\r?\n[ \t]+[^\r\n]*)*)"
    rb"|(\binline:)([^\s;]+)"  # a=crypto (RFC 4568)
    rb"|^(k=(?:clear|base64):)(\S+)"  # RFC 8866 §5.12
    rb"|^(Signal[ \t]*=[ \t]*)(\S+)"  # a pressed key: application/dtmf-relay
    rb"|^((?:Content-Type|c)[ \t]*:[ \t]*application/dtmf[ \t]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n)([^\r\n]+)",
    re.IGNORECASE | re.MULTILINE,
)

_CRYPTO: Final = re.compile(rb"^a=crypto:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One SIP message as it was received ("in") or sent ("out") at `at` monotonic seconds; `data` holds its secrets."""

    at: float
    direction: str
    data: bytes
    protocol: str = "UDP"
    local: Address = ("", 0)
    remote: Address = ("", 0)

    @property
    def text(self) -> str:
        """For people: secrets are ***."""
        return mask(self.data).decode("utf-8", "replace")

    @property
    def octets(self) -> bytes:
        """For programs: secrets are as many asterisks, so that Content-Length stays true; a=crypto becomes a=masked.

        Programs would take the asterisks for a key, and what is captured in the clear for SRTP.
        """
        return _CRYPTO.sub(b"a=masked:", mask(self.data, keep_length=True))

    @property
    def first_line(self) -> str:
        """Request or status line without the version."""
        line = self.text.partition("\n")[0].rstrip("\r")
        return line.removeprefix("SIP/2.0 ").removesuffix(" SIP/2.0")

    @property
    def cseq(self) -> str:
        """Number and method of its transaction."""
        found = re.search(rb"^CSeq[ \t]*:[ \t]*([^\r\n]*)", self.data, re.IGNORECASE | re.MULTILINE)
        return found[1].decode("utf-8", "replace").strip() if found else ""

    def __repr__(self) -> str:
        return f"Message({self.at}, {self.direction}, {self.text!r})"


Observer = Callable[[str, str, Message], None]  # (handle, "" for what belongs to no call; Call-ID; message)


@dataclass(slots=True)
class _Ring:
    messages: deque[Message]
    handle: str = ""

    @property
    def size_bytes(self) -> int:
        """Of its messages."""
        return sum(len(message.data) for message in self.messages)


class Ladders:
    """One bounded ring per call, found by Call-ID or by the call's handle; `observers` are told of every message."""

    def __init__(self) -> None:
        self._rings: dict[str, _Ring] = {}  # by Call-ID
        # Call-IDs of no call that is alive, the oldest first, with the bytes of their messages
        self._idle: OrderedDict[str, int] = OrderedDict()
        self._idle_bytes = 0
        self._call_ids: dict[str, str] = {}  # by handle
        self.observers: list[Observer] = []

    def note(self, call_id: str, message: Message) -> None:
        """Remember a message; an INVITE opens a ring, what belongs to no call is not kept."""
        ring = self._rings.get(call_id)
        for observer in self.observers:
            observer(ring.handle if ring else "", call_id, message)
        if ring is None:
            if not message.data.startswith(b"INVITE "):
                return
            ring = self._rings[call_id] = _Ring(deque(maxlen=MESSAGES_PER_ATTEMPT))
            self._retire(call_id)
        if len(message.data) > BYTES_PER_MESSAGE:
            message = replace(message, data=message.data[:BYTES_PER_MESSAGE])
        ring.messages.append(message)
        if call_id in self._idle:
            self._idle_bytes += ring.size_bytes - self._idle[call_id]
            self._idle[call_id] = ring.size_bytes

    def open(self, handle: str, call_id: str) -> None:
        """A call has begun: its ring stays until it ends."""
        ring = self._rings.setdefault(call_id, _Ring(deque(maxlen=MESSAGES_PER_CALL)))
        self._call_ids.pop(ring.handle, None)
        ring.handle = handle
        ring.messages = deque(ring.messages, MESSAGES_PER_CALL)
        self._call_ids[handle] = call_id
        self._idle_bytes -= self._idle.pop(call_id, 0)

    def close(self, handle: str) -> None:
        """A call has ended: its ring may go when others need the place."""
        call_id = self._call_ids.get(handle)
        if call_id is not None and call_id not in self._idle:
            self._retire(call_id)

    def call_id(self, handle: str) -> str:
        """The Call-ID of a call that is remembered, else ""."""
        return self._call_ids.get(handle, "")

    def read(self, handle: str) -> tuple[Message, ...]:
        """A call's messages, oldest first."""
        ring = self._rings.get(self._call_ids.get(handle, ""))
        return tuple(ring.messages) if ring is not None else ()

    def _retire(self, call_id: str) -> None:
        self._idle[call_id] = size_bytes = self._rings[call_id].size_bytes
        self._idle_bytes += size_bytes
        while len(self._idle) > ENDED_CALLS_KEPT or (self._idle_bytes > ENDED_BYTES_KEPT and len(self._idle) > 1):
            oldest, size_bytes = self._idle.popitem(last=False)
            self._idle_bytes -= size_bytes
            self._call_ids.pop(self._rings.pop(oldest).handle, None)


def mask(data: bytes, keep_length: bool = False) -> bytes:
    """A message without credentials, media keys and pressed keys."""

    def hide(match: re.Match[bytes]) -> bytes:
        before, secret = (part for part in match.groups() if part is not None)
        return before + b"*" * len(secret) if keep_length else before.rstrip(b" \t") + b" ***"

    return _SECRETS.sub(hide, data)


def draw(messages: Sequence[Message]) -> str:
    """A call's ladder as text: one line for each message with its seconds since the first, then the messages whole."""
    if not messages:
        return ""
    began = messages[0].at
    rungs, wholes = [], []
    for message in messages:
        arrow = "<--" if message.direction == "in" else "-->"
        rungs.append(f"{message.at - began:9.3f}  {arrow}  {message.first_line}  ({message.cseq})")
        wholes.append(f"{message.at - began:.3f} {arrow}\n" + message.text.replace("\r\n", "\n"))
    return "\n".join(rungs) + "\n\n" + "\n".join(wholes)


def pack(messages: Sequence[Message]) -> bytes:
    """Messages without their secrets, small enough to be kept for a thousand calls that are over."""
    room, kept = PACKED_BYTES, []
    for message in messages:
        data = message.octets
        if len(data) > room:
            line = data.partition(b"\n")[0].rstrip(b"\r")[:200]
            data = b"%s\r\nCSeq: %s\r\n\r\n" % (line, message.cseq.encode()[:40])
        room -= len(data)
        kept.append(replace(message, data=data))
    return zlib.compress(msgspec.msgpack.encode(kept), 1) if kept else b""


def unpack(packed: bytes) -> tuple[Message, ...]:
    """What `pack` has packed, () for nothing."""
    return msgspec.msgpack.decode(zlib.decompress(packed), type=tuple[Message, ...]) if packed else ()
