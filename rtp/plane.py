"""The media plane: what one tick does, and what each command changes; no clock is read, nothing waited for."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.bridge import Bridges
from sipagent.rtp.capture_taps import CaptureTaps
from sipagent.rtp.concealer import Concealer
from sipagent.rtp.control import (
    AssignWorker,
    Bridge,
    Bridged,
    CaptureMessage,
    CloseRow,
    Command,
    ControlRecording,
    Event,
    FirstPacket,
    InjectDigit,
    MediaProblem,
    NoMedia,
    OpenRow,
    Play,
    Record,
    RowClosed,
    SendDigits,
    SetStream,
    StartCapture,
    StopCapture,
    StopPlay,
    Unbridge,
)
from sipagent.rtp.dialling import Dialling
from sipagent.rtp.digits import DigitsHeard
from sipagent.rtp.far_ends import FarEnds, is_usable
from sipagent.rtp.formats import Codecs, Kind, kind_of
from sipagent.rtp.gauges import Gauges
from sipagent.rtp.io import PacketIo
from sipagent.rtp.latch import Address
from sipagent.rtp.meters import Meters
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.playback import Playback
from sipagent.rtp.problems import Problems
from sipagent.rtp.receive import Receiver
from sipagent.rtp.report_path import ReportPath
from sipagent.rtp.rtcp import ControlReports
from sipagent.rtp.send import Sender
from sipagent.rtp.sockets import RowSockets
from sipagent.rtp.srtp import SrtpRows
from sipagent.rtp.table import COUNTER, COUNTERS, GAUGES, PLANE_COUNTER, CallTable
from sipagent.rtp.taps import RecordingTaps
from sipagent.rtp.timeline import Timeline
from sipagent.rtp.turns import Turns
from sipagent.rtp.waking import WAKE_TICKS

Rows = NDArray[np.intp]

HISTORY: Final = 1024  # samples before position 0 that may be looked at
SLOW_TICKS: Final = 20  # silence and forgotten digits are looked at every tenth of a second, …
GAUGE_TURNS: Final = 10  # … gauges once a second, of a tenth of the rows each time, …
GAUGES_AT_ONCE: Final = 64  # … or of so many: those of one row cost half as much
HELD_UP_NS: Final = 30_000_000  # since the last tick: we were stopped


class MediaPlane:
    """All rows of one call table, driven by `tick` and `handle`; `emit` takes what signalling is to hear."""

    def __init__(
        self,
        table: CallTable,
        options: MediaOptions,
        sockets: RowSockets,
        make_io: Callable[[NDArray[np.uint8]], PacketIo],
        concealer: Concealer,
        emit: Callable[[Event], None],
        wall_clock_offset_ns: int = 0,
    ) -> None:
        """`wall_clock_offset_ns` is what to add to `now_ns` for the time of day, which RTCP reports carry."""
        self.table = table
        self._options = options
        self._sockets = sockets
        self._emit = emit
        self._concealer = concealer
        self.timeline = Timeline(table, concealer)
        self._codecs = Codecs(table.rows)
        self.receiver = Receiver(table, options, self.timeline, self._codecs)
        self.sender = Sender(table, options, self._codecs)
        self.io = make_io(self.sender.packets)
        self._turns = Turns(table.counters[:, COUNTER["dropped_flood"]], self.receiver.held_up)
        self._playback = Playback(self.sender, table.generation, emit)
        self._dialling = Dialling(table, self.sender, self._playback, options.tick_ms, emit)
        self._bridges = Bridges(table, self.sender, self.receiver)
        self._digits = DigitsHeard(table, options.inband_dtmf, emit)
        self._taps = RecordingTaps(table, self.receiver, emit)
        self._srtp = SrtpRows(table)
        self._meters = Meters(table, concealer)
        self._gauges = Gauges(table, self.receiver, self.sender, options.tick_ms)
        self._capture = CaptureTaps(
            table,
            self.receiver.kinds,
            options.first_port,
            lambda row: self._far_ends.remote(row),
            emit,
            wall_clock_offset_ns,
        )
        self._report_path = ReportPath(table, self._srtp, self._note_report, self.io.send_one, sockets.send_control)
        self._reports = ControlReports(
            table, self.receiver, self.sender, self._gauges, options, self._report_path.send, wall_clock_offset_ns
        )
        self._far_ends = FarEnds(
            table,
            options.latch_packets,
            sockets,
            self.io,
            self._turns,
            self.receiver,
            self._srtp,
            self._report_path,
            self._reports,
            self._capture,
            emit,
        )
        self._silences_told = np.zeros(table.rows, np.int64)
        self._problems = Problems(table, self._far_ends.remote, emit)
        self._dropped_kernel = table.counters[:, COUNTER["dropped_kernel"]]
        self._tick = self._now_ns = self._received_tick = 0
        self._handlers: dict[type, Callable[..., None]] = {
            OpenRow: self._open,
            SetStream: self._set_stream,
            AssignWorker: self._assign,
            SendDigits: lambda command, now_ns: self._dialling.send(command),
            InjectDigit: lambda command, now_ns: self._digits.inject(
                command.row, command.digit, command.duration_ms, now_ns
            ),
            Play: lambda command, now_ns: self._playback.play(command, int(table.rate_hz[command.row])),
            StopPlay: lambda command, now_ns: self._playback.stop(command.row),
            Record: self._taps.start,
            ControlRecording: self._control_recording,
            StartCapture: lambda command, now_ns: self._capture.start(command),
            CaptureMessage: lambda command, now_ns: self._capture.message(command),
            StopCapture: lambda command, now_ns: self._capture.stop(command),
            Bridge: self._bridge,
            Unbridge: lambda command, now_ns: self._bridges.part(command.row),
            CloseRow: self._close,
        }
        # What an earlier process left in the segment is over.
        table.active[:] = 0
        table.plane[:] = 0

    # ---- every tick

    @property
    def is_idle(self) -> bool:
        """Whether no row is open: then only commands are waited for."""
        return not self.table.active.any()

    def rest(self) -> None:
        """What goes on while no row is open: files are closed. No tick needs to come at its turn then."""
        self._taps.hand_over(self._now_ns)
        self._capture.hand_over()

    def next_tick(self, tick: int) -> int:
        """The tick after `tick` in which there is something to do."""
        following = tick + 1
        return following if self.receives(following) or self.sender.due.min() <= following else following + 1

    def receives(self, tick: int) -> bool:
        """Whether packets are taken, and gaps filled, in `tick`: when workers are woken, or when we are behind.

        It costs much the same for a few rows as for a hundred.
        """
        return tick % WAKE_TICKS == 0 or tick - self._received_tick >= WAKE_TICKS or self.receiver.behind

    def tick(self, tick: int, now_ns: int, *, receives: bool = True) -> Rows:
        """Do what is due in tick number `tick`; returns the rows that moved: received, sent, or were filled."""
        receiver = self.receiver
        stopped = now_ns - self._now_ns > HELD_UP_NS
        self._tick, self._now_ns = tick, now_ns
        receiver.moved.fill(False)
        self._send(tick)
        if not receives:
            return receiver.moved.nonzero()[0]
        self._received_tick = tick
        came = self.io.receive()
        for batch in self._turns.take(came, self.io.waiting, stopped=stopped):
            if self._srtp:
                batch = self._srtp.unprotect(batch, now_ns)
            if self._capture:
                self._capture.received(batch, now_ns)
            receiver.receive(batch, now_ns)
        for datagram in self._sockets.receive():
            self._far_ends.receive(datagram, now_ns)
        receiver.fill(now_ns)
        self._bridges.filled_ns = now_ns
        self._concealer.on_tick(tick)
        self._report_received(now_ns)
        self._reports.on_tick(tick, now_ns)
        self._meters.on_tick(tick)
        self._playback.begin_loaded()
        self._taps.on_tick(tick, now_ns)
        self._capture.on_tick(tick)
        if tick % SLOW_TICKS == 0:
            self._look_round(now_ns)
        elif tick % SLOW_TICKS == SLOW_TICKS // 2:  # not in the same tick: it would be long
            self._update_gauges(tick)
        return receiver.moved.nonzero()[0]

    def _send(self, tick: int) -> None:
        frames = self._dialling.due(tick)
        for outgoing in self.sender.compose(tick, frames):
            if self._capture:
                self._capture.sent(self.sender.packets, outgoing.rows, outgoing.length, self._now_ns)
            if self._srtp:
                self._srtp.protect(self.sender.packets, outgoing.rows, outgoing.length)
            self.io.send(outgoing.rows, outgoing.length)
            self.receiver.moved[outgoing.rows] = True
        if frames:
            self._dialling.send_frames(frames, self._send_one)
        errors = self.io.take_errors()
        if len(errors):
            np.add.at(self.table.counters[:, COUNTER["send_errors"]], errors, np.uint64(1))

    def _report_received(self, now_ns: int) -> None:
        receiver = self.receiver
        for row in receiver.first:
            remote = self._far_ends.remote(row)
            if remote is not None:
                self._emit(FirstPacket(row, int(self.table.generation[row]), *remote))
        receiver.first.clear()
        self._digits.receive(receiver.events, now_ns)
        receiver.events.clear()
        self._digits.on_tick(self._tick, now_ns)
        for row, data in receiver.control:
            if not self._reports.receive(row, data, now_ns):
                self.table.counters[row, COUNTER["dropped_malformed"]] += np.uint64(1)
        receiver.control.clear()

    def _look_round(self, now_ns: int) -> None:
        """What need not be looked at in every tick."""
        table = self.table
        self._digits.look_round(now_ns)
        active = np.flatnonzero(table.active)
        if not len(active):
            return
        self.receiver.count(active)
        self._problems.look_round(active)
        listening = active[self.receiver.receiving[active]]
        last = np.maximum(table.rx_last_ns[listening], self._far_ends.media_since_ns[listening])
        silent_ms = (now_ns - last) // 1_000_000
        self._silences_told[listening[silent_ms < self._options.no_media_ms]] = 0
        due = silent_ms >= self._options.no_media_ms + 1000 * self._silences_told[listening]
        # An end that pauses (DTX) sends no media, but it reports.
        due &= self._reports.alive_until_ns[listening] <= now_ns
        for row, silent in zip(listening[due].tolist(), silent_ms[due].tolist(), strict=True):
            refused = int(table.counters[row, COUNTER["dropped_source"]])
            self._emit(NoMedia(row, int(table.generation[row]), silent, refused))
            self._silences_told[row] = 1 + (silent - self._options.no_media_ms) // 1000

    def _update_gauges(self, tick: int) -> None:
        active = np.flatnonzero(self.table.active)
        share = max(GAUGES_AT_ONCE, -(-len(active) // GAUGE_TURNS))
        first = tick // SLOW_TICKS % GAUGE_TURNS * share
        rows = active[first : first + share]
        if len(rows):
            self._dropped_kernel[rows] += self._sockets.take_dropped(rows)
            self._gauges.update(rows)

    # ---- commands

    def handle(self, command: Command, now_ns: int) -> None:
        """Carry out one command; one for a call that is over is dropped."""
        row = getattr(command, "row", -1)
        if not 0 <= row < self.table.rows:
            self._emit(MediaProblem(f"{type(command).__name__} for row {row}, of {self.table.rows}"))
            return
        current = bool(self.table.active[row]) and int(self.table.generation[row]) == command.generation  # type: ignore[union-attr]
        if current or isinstance(command, OpenRow | CaptureMessage | StopCapture):
            handler = self._handlers.get(type(command))
            if handler is not None:
                handler(command, now_ns)

    def _open(self, command: OpenRow, now_ns: int) -> None:
        table, row = self.table, command.row
        if table.active[row]:
            self._release(row)
        table.rate_hz[row] = command.rate_hz
        table.worker[row] = command.worker
        table.reflex[row] = command.reflex
        table.listened[row] = command.listened
        table.rx_last_ns[row] = 0
        table.sent_pcm[row] = 0
        if command.resumed_ms < 0:
            table.rx_head[row] = table.tx_clock[row] = 0
            # Nothing of another call may be heard. Readers stop at position 0; concealment looks back further.
            table.rx_pcm[row, -HISTORY:] = 0
            table.counters[row] = 0
            table.gauges[row] = 0
            self._srtp.open(row)
        table.populate(row)
        self._gauges.open(row)
        self._meters.open(row)
        self._reports.open(row)
        self._codecs.reset(np.array([row]))
        self.receiver.open(row, command.rate_hz)
        self.sender.open(row)
        if command.resumed_ms > 0:
            self._pass_over(row, command.resumed_ms * command.rate_hz // 1000)
        self._silences_told[row] = 0
        self._problems.open(row)
        stale = self._sockets.open(row)
        table.plane[PLANE_COUNTER["stray_packets"]] += stale
        table.generation[row] = command.generation
        table.active[row] = 1

    def _pass_over(self, row: int, samples: int) -> None:
        """Silence on both clocks, for the time in which there was no plane."""
        one = np.array([row])
        self.timeline.pause(one)
        self.timeline.fill(one, np.array([samples]))
        self.table.tx_clock[row] += samples

    def _set_stream(self, command: SetStream, now_ns: int) -> None:
        row = command.row
        kinds = {codec.payload_type: kind_of(codec) for codec in command.receive}
        kinds |= {payload_type: Kind.TELEPHONE_EVENT for payload_type, _ in command.telephone_event}
        if command.comfort_noise >= 0:
            kinds[command.comfort_noise] = Kind.COMFORT_NOISE
        send_kind = kind_of(command.send)
        if send_kind == Kind.UNKNOWN:
            self._emit(MediaProblem(f"cannot send {command.send.name}", row, command.generation))
            return
        try:
            self._srtp.set_keys(row, command.srtp, now_ns)
        except ValueError as error:
            self._emit(MediaProblem(str(error), row, command.generation))
            return
        if not self._far_ends.name(command, kinds, now_ns):
            address = f"{command.remote_address}:{command.remote_port}"
            self._emit(MediaProblem(f"cannot send to {address}", row, command.generation))
        clock_rate_hz = command.send.clock_rate_hz
        self.receiver.set_formats(
            row,
            kinds,
            clock_rate_hz,
            receiving=command.receiving,
            ptime_ms=command.ptime_ms,
            now_ns=now_ns,
        )
        self.sender.set_format(
            row,
            send_kind,
            command.send.payload_type,
            clock_rate_hz,
            command.ptime_ms,
            sending=command.sending and is_usable(command),
            tick=self._tick,
        )
        self._digits.set_formats(row, command.telephone_event, receiving=command.receiving)
        self._dialling.set_formats(row, command.telephone_event, clock_rate_hz)
        self._silences_told[row] = 0
        self._far_ends.name_reports(command, now_ns)
        for datagram in self._srtp.early.take(row, now_ns):
            if command.srtp is not None:
                self._far_ends.receive(datagram, now_ns)

    def _assign(self, command: AssignWorker, now_ns: int) -> None:
        self.table.worker[command.row] = command.worker
        self.sender.drop_speech(command.row)

    def _bridge(self, command: Bridge, now_ns: int) -> None:
        other, table = command.other_row, self.table
        try:
            if not 0 <= other < table.rows or not table.active[other]:
                raise ValueError(f"row {other} is not open")
            if int(table.generation[other]) != command.other_generation:
                raise ValueError(f"row {other} belongs to another call")
            self._bridges.join(command.row, other, agent=command.agent, apart=command.apart)
        except ValueError as error:
            self._emit(MediaProblem(f"cannot join the calls: {error}", command.row, command.generation))
        else:
            self._emit(Bridged(command.row, command.generation))

    def _close(self, command: CloseRow, now_ns: int) -> None:
        row, table = command.row, self.table
        one = np.array([row])
        self._dropped_kernel[one] += self._sockets.take_dropped(one)
        self._gauges.update(one)
        self._release(row)
        self._emit(
            RowClosed(
                row,
                command.generation,
                dict(zip(COUNTERS, table.counters[row].tolist(), strict=True)),
                dict(zip(GAUGES, table.gauges[row].tolist(), strict=True)),
            )
        )

    def _release(self, row: int) -> None:
        self._taps.close(row, int(self.table.generation[row]), self._now_ns)
        self._reports.close(row, self._tick, self._now_ns)
        self._capture.close(row)
        self._far_ends.forget(row)
        self._srtp.forget(row)
        self._srtp.early.take(row, self._now_ns)
        self.table.active[row] = 0
        self.table.worker[row] = -1
        self.receiver.close(row)
        self.sender.close(row)
        self._playback.close(row)
        self._bridges.close(row)
        self._dialling.close(row)
        self._digits.close(row)

    def _control_recording(self, command: ControlRecording, now_ns: int) -> None:
        self._taps.control(command, now_ns)
        if command.action in ("pause", "resume"):
            self._capture.blank(command.row, command.action == "pause")

    def _note_report(self, row: int, data: bytes, remote: Address | None, *, inward: bool) -> None:
        if self._capture:
            self._capture.report(row, data, remote, self._now_ns, inward=inward)

    def _send_one(self, row: int, data: bytes) -> None:
        if self._capture:
            self._capture.sent_event(row, data, self._now_ns)
        self.io.send_one(row, self._srtp.protect_one(row, data, control=False))

    def shut_down(self) -> None:
        """Close every row, without events, and give back threads and ports."""
        for row in np.flatnonzero(self.table.active).tolist():
            self._release(row)
        self._taps.shut_down()
        self._capture.shut_down()
        self._playback.shut_down()
        self.io.close()
        self._sockets.close_all()
