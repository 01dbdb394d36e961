"""The flight log: the last messages of every call, secrets masked when they are read."""

import re
from collections import OrderedDict, deque

MESSAGES_PER_CALL = 200
BYTES_PER_MESSAGE = 4096
ENDED_CALLS_KEPT = 200

_SECRETS = re.compile(r"^((?:Proxy-)?Authorization:).*$|(a=crypto:\d+ \S+ inline:)\S+", re.IGNORECASE | re.MULTILINE)


class Ladders:
    """One bounded ring per call, found by Call-ID or by the call's handle."""

    def __init__(self) -> None:
        self._rings: OrderedDict[str, deque[tuple[float, str, bytes]]] = OrderedDict()
        self._call_ids: dict[str, str] = {}  # by handle
        self._handles: dict[str, str] = {}  # by Call-ID, of calls that are alive

    def note(self, call_id: str, direction: str, data: bytes, now: float) -> None:
        """Remember a message; an INVITE opens a ring, what belongs to no call is not kept."""
        ring = self._rings.get(call_id)
        if ring is None:
            if not data.startswith(b"INVITE "):
                return
            ring = self._rings[call_id] = deque(maxlen=MESSAGES_PER_CALL)
            self._trim()
        ring.append((now, direction, data[:BYTES_PER_MESSAGE]))

    def open(self, handle: str, call_id: str) -> None:
        """A call has begun: its ring stays until it ends."""
        self._call_ids[handle] = call_id
        self._handles[call_id] = handle

    def close(self, handle: str) -> None:
        """A call has ended: its ring may go when others need the place."""
        call_id = self._call_ids.get(handle)
        if call_id is not None and self._handles.pop(call_id, None) is not None and call_id in self._rings:
            self._rings.move_to_end(call_id)

    def read(self, handle: str) -> tuple[tuple[float, str, str], ...]:
        """(monotonic seconds, "in" or "out", text) of a call's messages, oldest first."""
        ring = self._rings.get(self._call_ids.get(handle, ""), ())
        return tuple((at, direction, mask(data.decode("utf-8", "replace"))) for at, direction, data in ring)

    def _trim(self) -> None:
        surplus = len(self._rings) - len(self._handles) - ENDED_CALLS_KEPT
        if surplus <= 0:
            return
        for call_id in [name for name in self._rings if name not in self._handles][:surplus]:
            del self._rings[call_id]
            for handle in [handle for handle, known in self._call_ids.items() if known == call_id]:
                del self._call_ids[handle]


def mask(text: str) -> str:
    """A message without credentials and media keys."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2]} ***", text)
