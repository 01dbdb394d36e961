"""Messages on a stream: where one ends and the next begins (RFC 3261 §18.3, RFC 5626 §4.4.1)."""

import re

from sipagent.sip.message import MAX_BODY_BYTES, MAX_HEADER_BYTES

_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class StreamFramer:
    """Cuts a byte stream into messages; knows no socket.

    `pings` counts the double CRLFs of a far end that keeps its flow alive; each wants one CRLF back (a single CRLF is
    the answer to ours). After a message whose length cannot be known `broken` is set: answer what came, then close.
    """

    def __init__(self) -> None:
        self.pings = 0
        self.broken = False
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """Whether a message has begun that is not complete."""
        return len(self._buffer) > 0

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now."""
        if self.broken:
            return []
        self._buffer += data
        found: list[bytes] = []
        while not self.broken:
            self._skip_keepalive()
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEADER_BYTES:  # hand over what there is, to be counted and refused
                    self.broken = True
                    found.append(bytes(self._buffer[: MAX_HEADER_BYTES + 1]))
                break
            length = self._body_length(end)
            total = end + 4 + length
            if len(self._buffer) < total:
                break
            found.append(bytes(self._buffer[:total]))
            del self._buffer[:total]
        return found

    def _body_length(self, end: int) -> int:
        """Content-Length; 0 and `broken` when it is no usable number, since nobody knows where the message ends."""
        values = {value.strip() for value in _LENGTH.findall(self._buffer, 0, end)}
        if not values:
            # a stream needs Content-Length; without it only a message that promises no body has a known end
            self.broken = b"content-type" in self._buffer[:end].lower()
            return 0
        value = min(values)
        if len(values) > 1 or not value.isdigit() or len(value) > 10 or int(value) > MAX_BODY_BYTES:
            self.broken = True
            return 0
        return int(value)

    def _skip_keepalive(self) -> None:
        ends = 0
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
            ends += 1
        self.pings += ends // 2
