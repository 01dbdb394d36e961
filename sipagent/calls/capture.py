"""Captures of calls: SIP and RTP of one call in one pcapng file, from the moment that somebody asks for it.

The media plane writes the file. What SIP has said so far is sent to it at the start, each later message as it comes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from sipagent.calls.call import Call, CallRegistry
from sipagent.rtp import control as media
from sipagent.service.recordings import RecordingPaths
from sipagent.sip.engine import SipEngine
from sipagent.sip.ladder import Message

SUFFIX: Final = "pcapng"
log = structlog.get_logger(__name__)


class Plane(Protocol):
    """The media plane that a call lives in."""

    def send(self, command: media.Command) -> None:
        """Pass a command on."""


@dataclass(frozen=True, slots=True)
class _Capture:
    """A file that is open, or about to be."""

    plane: int
    row: int
    generation: int


class Captures:
    """Every capture of the service. A call has one at a time, each in a file of its own."""

    def __init__(
        self,
        engine: SipEngine,
        planes: Sequence[Plane],
        calls: CallRegistry,
        paths: Callable[[], RecordingPaths],
    ) -> None:
        self._engine = engine
        self._planes = planes
        self._calls = calls
        self._paths = paths
        self._open: dict[str, _Capture] = {}  # by call id
        engine.observe(self._observe)

    def is_open(self, call: Call) -> bool:
        """Whether a file is being written."""
        return call.id in self._open

    def start(self, call: Call, address: str) -> bool:
        """Capture a call that has a row; `address` is ours in its session. False when it is being captured already."""
        if call.place is None or call.id in self._open:
            return False
        place = call.place
        path = self._paths().path(call.id, SUFFIX)
        self._open[call.id] = _Capture(place.plane, place.row, place.generation)
        call.media.capture, call.media.capture_problem = path, ""
        limit = self._paths().capture_octets
        self._planes[place.plane].send(media.StartCapture(place.row, place.generation, path, address, limit))
        self.tell(call)
        return True

    def tell(self, call: Call) -> None:
        """The call has got a SIP handle, or another one: send what has been said under it."""
        if call.handle and call.id in self._open:
            for message in self._engine.ladder(call.handle):
                self._send(call, message)

    def stop(self, call: Call) -> None:
        """Close the file, if there is one; `ended` follows."""
        capture = self._open.get(call.id)
        if capture is not None:
            self._planes[capture.plane].send(media.StopCapture(capture.row, capture.generation))

    def ended(self, call: Call, event: media.CaptureEnded) -> None:
        """The file is closed."""
        self._open.pop(call.id, None)
        call.media.capture, call.media.capture_problem = event.path, event.problem
        if event.problem:
            log.warning("capture is not whole", call_id=call.id, left_out=event.left_out, problem=event.problem)
        call.note("capture", path=event.path, packets=event.packets, left_out=event.left_out, problem=event.problem)

    def lost(self, call: Call) -> bool:
        """The media plane that wrote the file has died; False when there was none. What is written can be read."""
        if self._open.pop(call.id, None) is None:
            return False
        call.media.capture_problem = problem = "cut short: its media plane died"
        call.note("capture", path=call.media.capture, problem=problem)
        return True

    def forget(self, call: Call) -> None:
        """The call is over, whether or not its media plane has answered."""
        self._open.pop(call.id, None)

    def _observe(self, handle: str, call_id: str, message: Message) -> None:
        if self._open and handle and (call := self._calls.by_handle(handle)) is not None and call.id in self._open:
            self._send(call, message)

    def _send(self, call: Call, message: Message) -> None:
        capture = self._open[call.id]
        ends = (message.local, message.remote) if message.direction == "out" else (message.remote, message.local)
        at_ns = round(message.at * 1e9)
        command = media.CaptureMessage(capture.row, capture.generation, at_ns, *ends, message.octets)
        self._planes[capture.plane].send(command)
