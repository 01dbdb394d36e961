"""The flight log: the last messages of every call, secrets masked when they are read."""

import re
import zlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

MESSAGES_PER_CALL = 200
MESSAGES_PER_ATTEMPT = 20  # of an INVITE that became no call: anyone may send those
BYTES_PER_MESSAGE = 4096
ENDED_CALLS_KEPT = 200

PACKED_CHARACTERS = 64 * 1024

_SECRETS = re.compile(r"^((?:Proxy-)?Authorization:).*$|(a=crypto:\d+ \S+ inline:)\S+", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True)
class _Ring:
    messages: deque[tuple[float, str, bytes]]
    handle: str = ""


class Ladders:
    """One bounded ring per call, found by Call-ID or by the call's handle."""

    def __init__(self) -> None:
        self._rings: dict[str, _Ring] = {}  # by Call-ID
        self._idle: OrderedDict[str, None] = OrderedDict()  # Call-IDs of no call that is alive, the oldest first
        self._call_ids: dict[str, str] = {}  # by handle

    def note(self, call_id: str, direction: str, data: bytes, now: float) -> None:
        """Remember a message; an INVITE opens a ring, what belongs to no call is not kept."""
        ring = self._rings.get(call_id)
        if ring is None:
            if not data.startswith(b"INVITE "):
                return
            ring = self._rings[call_id] = _Ring(deque(maxlen=MESSAGES_PER_ATTEMPT))
            self._retire(call_id)
        ring.messages.append((now, direction, data[:BYTES_PER_MESSAGE]))

    def open(self, handle: str, call_id: str) -> None:
        """A call has begun: its ring stays until it ends."""
        ring = self._rings.setdefault(call_id, _Ring(deque(maxlen=MESSAGES_PER_CALL)))
        self._call_ids.pop(ring.handle, None)
        ring.handle = handle
        ring.messages = deque(ring.messages, MESSAGES_PER_CALL)
        self._call_ids[handle] = call_id
        self._idle.pop(call_id, None)

    def close(self, handle: str) -> None:
        """A call has ended: its ring may go when others need the place."""
        call_id = self._call_ids.get(handle)
        if call_id is not None and call_id not in self._idle:
            self._retire(call_id)

    def read(self, handle: str) -> tuple[tuple[float, str, str], ...]:
        """(monotonic seconds, "in" or "out", text) of a call's messages, oldest first."""
        ring = self._rings.get(self._call_ids.get(handle, ""))
        if ring is None:
            return ()
        return tuple((at, direction, mask(data.decode("utf-8", "replace"))) for at, direction, data in ring.messages)

    def _retire(self, call_id: str) -> None:
        self._idle[call_id] = None
        if len(self._idle) > ENDED_CALLS_KEPT:
            oldest, _ = self._idle.popitem(last=False)
            self._call_ids.pop(self._rings.pop(oldest).handle, None)


def mask(text: str) -> str:
    """A message without credentials and media keys."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2]} ***", text)


def draw(messages: Sequence[tuple[float, str, str]]) -> str:
    """A call's ladder as text: one line for each message with its seconds since the first, then the messages whole."""
    if not messages:
        return ""
    began = messages[0][0]
    rungs, wholes = [], []
    for at, direction, text in messages:
        first, _, rest = text.replace("\r\n", "\n").partition("\n")
        number = next((line[5:].strip() for line in rest.split("\n") if line.lower().startswith("cseq:")), "")
        arrow = "<--" if direction == "in" else "-->"
        rungs.append(
            f"{at - began:9.3f}  {arrow}  {first.removeprefix('SIP/2.0 ').removesuffix(' SIP/2.0')}  ({number})"
        )
        wholes.append(f"{at - began:.3f} {arrow}\n{first}\n{rest}")
    return "\n".join(rungs) + "\n\n" + "\n".join(wholes)


def pack(messages: Sequence[tuple[float, str, str]]) -> bytes:
    """The drawn ladder, small enough to be kept for a thousand calls that are over."""
    return zlib.compress(draw(messages)[:PACKED_CHARACTERS].encode(), 1) if messages else b""


def unpack(packed: bytes) -> str:
    """What `pack` has packed, "" for nothing."""
    return zlib.decompress(packed).decode("utf-8", "replace") if packed else ""
