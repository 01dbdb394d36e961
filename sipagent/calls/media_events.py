"""What the media planes report about calls."""

from functools import partial
from typing import Final

from sipagent.calls.call import Call, CallState
from sipagent.calls.lifecycle import Lifecycle
from sipagent.calls.row_state import MAX_LOSSES
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.sip.outcome import Outcome

REPAIR_S: Final = 5.0  # for a media plane that died to be back; far ends give up after longer silences
TELL_AGAIN_MS: Final = 10_000  # those who watch need not hear of each second without RTP


class MediaEvents:
    """One handler for each event of a media plane."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life

    def first_packet(self, call: Call, event: media.FirstPacket) -> None:
        """The far end is heard: the greeting need not wait any longer."""
        self._life.live[call.id].heard = True
        if "media" in self._life.live[call.id].timers:
            self._life.connect(call)

    def latched(self, call: Call, event: media.Latched) -> None:
        """Media goes to another address than the SDP named."""
        call.note("latched", address=event.address, port=event.port)

    def digit(self, call: Call, event: media.Digit) -> None:
        """A key was pressed."""
        call.note("dtmf", digit=event.digit, by=event.by, duration_ms=event.duration_ms)
        if not self._life.live[call.id].when_digit(event):
            self._life.tell_worker(call, messages.DigitPressed(call.id, event.digit, event.duration_ms))

    def play_ended(self, call: Call, event: media.PlayEnded) -> None:
        """A prompt has left: after the apology the new worker may speak."""
        live = self._life.live[call.id]
        live.apologising = False
        if live.hang_up_after_prompt:
            self._life.hang_up(call, "no worker could take the call over", outcome=Outcome.FAILED)
        elif live.connect_after_prompt:
            live.connect_after_prompt = False
            self._life.tell_worker(call, messages.Connected(call.id, live.session.row_rate_hz))

    def recording_ended(self, call: Call, event: media.RecordingEnded) -> None:
        """The file is closed."""
        self._life.recordings.ended(call, event)
        self._life.maybe_conclude(call)

    def capture_ended(self, call: Call, event: media.CaptureEnded) -> None:
        """The file is closed."""
        self._life.captures.ended(call, event)
        self._life.maybe_conclude(call)

    def no_media(self, call: Call, event: media.NoMedia) -> None:
        """Silence on the wire."""
        limit = self._life.config.media.rtp_timeout_seconds
        if call.held or call.state is not CallState.CONNECTED:
            return
        live = self._life.live[call.id]
        if event.silent_ms > 1000 * (self._life.loop.time() - live.resumed_at) + 500:
            return  # counted while we were on hold, and on its way to us when the far end took us back
        silence_is_new = event.silent_ms < live.silent_ms + 500
        live.silent_ms = event.silent_ms
        if silence_is_new or not live.silent_told_ms or event.silent_ms >= live.silent_told_ms + TELL_AGAIN_MS:
            live.silent_told_ms = event.silent_ms
            call.note("no_media", silent_ms=event.silent_ms, dropped_source=event.dropped_source)
        if limit and event.silent_ms >= limit * 1000:
            self._life.hang_up(call, "no RTP from the far end")

    def row_closed(self, call: Call, event: media.RowClosed) -> None:
        """The row is free again."""
        live = self._life.live[call.id]
        call.media.counters, call.media.gauges = event.counters, event.gauges
        if live.row is not None:
            self._life.rows.give_back(live.row, self._life.loop.time())
            live.row = None
        self._life.maybe_conclude(call)

    def plane_lost(self, plane: int) -> None:
        """A media plane died: its calls have no voice until it is back, and end when it does not come back soon."""
        self._life.rows.remove_plane(plane)
        for call in self._of_plane(plane):
            told = self._life.live[call.id].told
            told.losses += 1
            if call.alive and told.losses <= MAX_LOSSES:
                told.lost_at = self._life.loop.time()
                call.note("warning", problem="the media plane of this call died")
                self._life.timer(call, "repair", REPAIR_S, partial(self._without_plane, call))
            else:
                self._without_plane(call)

    def plane_ready(self, plane: int, event: media.MediaReady) -> None:
        """A media plane has bound its ports; rows of calls that outlived the one before are opened again."""
        calls = self._of_plane(plane)
        held = {live.row for call in calls if (live := self._life.live[call.id]).row is not None}
        self._life.rows.add_plane(plane, event.ports, held)
        lost = [call for call in calls if call.alive and self._life.live[call.id].told.lost_at is not None]
        for call in lost:
            assert call.place is not None
            if event.ports[call.place.row]:
                self._open_again(call)
            else:
                self._without_plane(call)
        for call in lost:
            if (bridge := self._life.live[call.id].told.bridge) is not None and call.alive:
                self._life.planes[plane].send(bridge)

    def _of_plane(self, plane: int) -> list[Call]:
        return self._life.calls.active(lambda call: call.place is not None and call.place.plane == plane)

    def _without_plane(self, call: Call) -> None:
        self._life.live[call.id].row = None
        self._life.captures.lost(call)
        self._life.hang_up(call, "media plane died", outcome=Outcome.FAILED)

    def _open_again(self, call: Call) -> None:
        live = self._life.live[call.id]
        assert call.place is not None and live.told.lost_at is not None
        self._life.cancel_timer(call, "repair")
        gap_ms = int(1000 * (self._life.loop.time() - live.told.lost_at))
        live.told.lost_at = None
        for command in live.told.again(gap_ms):
            self._life.planes[call.place.plane].send(command)
        self._life.recordings.plane_resumed(call)
        if self._life.captures.lost(call):
            self._life.captures.start(call, live.session.address)
        if live.apologising:
            self.play_ended(call, media.PlayEnded(call.place.row, call.place.generation, ""))
        call.note("media_resumed", gap_ms=gap_ms)
