"""Recordings of calls: begun by the route or by whoever asks, paused while a card number is told, ended, begun anew.

The media plane writes the file, and keeps the time of a pause in it as silence; a capture is blank meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sipagent.calls.call import Call
from sipagent.rtp import control as media
from sipagent.service.recordings import RecordingPaths

SUFFIX: Final = "wav"  # where neither the request nor the route says
TellRow = Callable[[Call, Callable[[int, int], media.Command]], None]
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Recording:
    """A file that is open, or about to be."""

    path: str
    paused: bool = False
    stopping: bool = False


class Recordings:
    """Every recording of the service. A call has one at a time, each in a file of its own."""

    def __init__(self, tell_row: TellRow, paths: Callable[[], RecordingPaths]) -> None:
        self._tell_row = tell_row
        self._paths = paths
        self._open: dict[str, _Recording] = {}  # by call id

    def is_open(self, call: Call) -> bool:
        """Whether a file is being written."""
        return call.id in self._open

    def path(self, call: Call) -> str:
        """The file that is being written, or was last; "" = none."""
        recording = self._open.get(call.id)
        return recording.path if recording else call.media.recording

    def start_by_route(self, call: Call) -> None:
        """Record a call whose route says so, unless that was begun, with success."""
        whole = call.media.recording and not call.media.recording_problem
        if call.route.record and not whole and not self.is_open(call):
            self.start(call)

    def start(self, call: Call, suffix: str = "") -> str:
        """Record a call that has a row, as wav, flac or opus ("" = as its route does); why not, or ""."""
        recording = self._open.get(call.id)
        if recording is not None:
            return "its last recording is being closed" if recording.stopping else "the call is being recorded already"
        self._begin(call, self._paths().path(call.id, suffix or call.route.record or SUFFIX))
        call.note("recording_state", state="recording")
        return ""

    def pause(self, call: Call, paused: bool) -> str:
        """Keep both legs out of the file from now on, or no longer; why not, or ""."""
        recording = self._open.get(call.id)
        if recording is None or recording.stopping:
            return "the call is not being recorded"
        if recording.paused is not paused:
            recording.paused = paused
            self._control(call, "pause" if paused else "resume")
            call.note("recording_state", state="paused" if paused else "recording")
        return ""

    def stop(self, call: Call) -> str:
        """Close the file; `ended` follows. Why not, or ""."""
        recording = self._open.get(call.id)
        if recording is None or recording.stopping:
            return "the call is not being recorded"
        recording.stopping = True
        self._control(call, "stop")
        return ""

    def ended(self, call: Call, event: media.RecordingEnded) -> None:
        """The file is closed."""
        self._open.pop(call.id, None)
        call.media.recording, call.media.recording_problem = event.path, event.problem
        if event.problem:  # whoever has to keep recordings must hear of it, also while no record can be written
            log.warning("recording is not whole", call_id=call.id, path=event.path, problem=event.problem)
        call.note("recording", path=event.path, duration_ms=event.duration_ms, problem=event.problem)

    def plane_resumed(self, call: Call) -> None:
        """The media plane that wrote the file has died, and the row is open again in another one.

        What had been recorded is in the file to the last second; what follows goes to another one.
        """
        before = self._open.pop(call.id, None)
        if before is None:
            return
        call.note("recording", path=before.path, problem="cut short: its media plane died")
        if before.stopping:
            call.media.recording = before.path
            return
        self._begin(call, self._paths().next(before.path))
        if before.paused:
            self._open[call.id].paused = True
            self._control(call, "pause")

    def forget(self, call: Call) -> None:
        """The call is over, whether or not its media plane has answered."""
        recording = self._open.pop(call.id, None)
        if recording is not None and Path(recording.path).exists():
            call.media.recording = recording.path

    def _begin(self, call: Call, path: str) -> None:
        self._open[call.id] = _Recording(path)
        self._tell_row(call, lambda row, generation: media.Record(row, generation, path))

    def _control(self, call: Call, action: str) -> None:
        self._tell_row(call, lambda row, generation: media.ControlRecording(row, generation, action))
