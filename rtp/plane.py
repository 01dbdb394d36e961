"""The media plane: what one tick does, and what each command changes; no clock is read, nothing waited for."""

import ipaddress
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
    Digit,
    Event,
    FirstPacket,
    InjectDigit,
    Latched,
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
from sipagent.rtp.digits import DigitLog
from sipagent.rtp.formats import Codecs, Kind, kind_of
from sipagent.rtp.gauges import Gauges
from sipagent.rtp.inband import InbandListener
from sipagent.rtp.io import PacketIo
from sipagent.rtp.latch import Address, SourcePolicy
from sipagent.rtp.meters import Meters
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import MAX_PACKET, Batch
from sipagent.rtp.playback import Playback
from sipagent.rtp.receive import Receiver
from sipagent.rtp.report_path import ReportPath
from sipagent.rtp.rtcp import ControlReports
from sipagent.rtp.rtcp_packet import FIRST_TYPE, LAST_TYPE
from sipagent.rtp.send import Sender
from sipagent.rtp.sockets import Datagram, RowSockets
from sipagent.rtp.srtp import SrtpRows
from sipagent.rtp.table import COUNTER, COUNTERS, GAUGES, PLANE_COUNTER, CallTable
from sipagent.rtp.taps import RecordingTaps
from sipagent.rtp.telephone_event import EventReceiver, Pressed
from sipagent.rtp.timeline import Timeline
from sipagent.rtp.turns import Turns
from sipagent.rtp.waking import WAKE_TICKS

Rows = NDArray[np.intp]

HISTORY: Final = 1024  # samples before position 0 that may be looked at
SLOW_TICKS: Final = 20  # silence and forgotten digits are looked at every tenth of a second, …
GAUGE_TURNS: Final = 10  # … gauges of a tenth of the rows each time
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
        self._inband = InbandListener(table, options.inband_dtmf)
        self._events = EventReceiver()
        self._digits = DigitLog()
        self._taps = RecordingTaps(table, emit)
        self._srtp = SrtpRows(table)
        self._meters = Meters(table, concealer)
        self._gauges = Gauges(table, self.receiver, self.sender, options.tick_ms)
        self._capture = CaptureTaps(
            table, self.receiver.kinds, options.first_port, self._remote_of, emit, wall_clock_offset_ns
        )
        self._report_path = ReportPath(table, self._srtp, self._note_report, self.io.send_one, sockets.send_control)
        self._reports = ControlReports(
            table, self.receiver, self.sender, self._gauges, options, self._report_path.send, wall_clock_offset_ns
        )
        self._policies: dict[int, SourcePolicy] = {}
        self._offered: dict[int, Address] = {}  # the far end as the SDP named it
        self._media_since_ns = np.zeros(table.rows, np.int64)
        self._silences_told = np.zeros(table.rows, np.int64)
        self._tick = self._now_ns = 0
        self._handlers: dict[type, Callable[..., None]] = {
            OpenRow: self._open,
            SetStream: self._set_stream,
            AssignWorker: self._assign,
            SendDigits: lambda command, now_ns: self._dialling.send(command),
            InjectDigit: self._inject_digit,
            Play: lambda command, now_ns: self._playback.play(command, int(table.rate_hz[command.row])),
            StopPlay: lambda command, now_ns: self._playback.stop(command.row),
            Record: lambda command, now_ns: self._taps.start(command),
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
        self._taps.hand_over()
        self._capture.hand_over()

    def next_tick(self, tick: int) -> int:
        """The tick after `tick` in which there is something to do.

        Packets are taken when workers are woken, and else only with those that are sent: for a hundred rows a tick
        costs little more than for one.
        """
        following = tick + 1
        if following % WAKE_TICKS == 0 or self.receiver.behind or self.sender.due.min() <= following:
            return following
        return following + 1

    def tick(self, tick: int, now_ns: int) -> Rows:
        """Do what is due in tick number `tick`; returns the rows that moved: received, sent, or were filled."""
        receiver = self.receiver
        late = self.io.more or now_ns - self._now_ns > HELD_UP_NS
        self._tick, self._now_ns = tick, now_ns
        receiver.moved.fill(False)
        self._send(tick)
        came = self.io.receive()
        for batch in self._turns.take(came, all_late=late or self.io.more):
            if self._srtp:
                batch = self._srtp.unprotect(batch, now_ns)
            if self._capture:
                self._capture.received(batch, now_ns)
            receiver.receive(batch, now_ns)
        for datagram in self._sockets.receive():
            self._slow_way(datagram, now_ns)
        receiver.fill(now_ns)
        self._bridges.filled_ns = now_ns
        self._concealer.on_tick(tick)
        self._report_received(now_ns)
        self._reports.on_tick(tick, now_ns)
        self._meters.on_tick(tick)
        self._playback.begin_loaded()
        self._taps.on_tick(tick)
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

    def _slow_way(self, datagram: Datagram, now_ns: int) -> None:
        row = datagram.row
        policy = self._policies.get(row)
        data = datagram.data
        if policy is None:
            if self.table.active[row] and not datagram.rtcp:
                self._srtp.early.hold(datagram, now_ns)
            return
        if datagram.rtcp or (len(data) >= 8 and FIRST_TYPE <= data[1] <= LAST_TYPE):
            self._report_path.receive(datagram, policy.allowed, self._reports, now_ns)
            return
        if self._srtp.secured[row]:
            # A forger must not be latched, and a stranger not make us decrypt.
            allowed = datagram.source[0] in policy.allowed
            clear = self._srtp.unprotect_one(row, data, now_ns, control=False) if allowed else None
            if clear is None:
                self.table.counters[row, COUNTER["dropped_source"]] += np.uint64(not allowed)
                return
            data = clear
        if self._capture:
            self._capture.heard(row, datagram.source, data, now_ns)
        if self._srtp.secured[row] and datagram.source == policy.remote:
            self.receiver.receive(_batch(row, data), now_ns)
            return
        heard_ns = int(self.table.rx_last_ns[row])
        if heard_ns < self._media_since_ns[row]:
            heard_ns = 0
        continues = len(data) >= 12 and self.receiver.continues(
            row, int.from_bytes(data[8:12], "big"), int.from_bytes(data[2:4], "big")
        )
        packets = policy.stranger(datagram.source, data, now_ns, heard_ns=heard_ns, continues=continues)
        if packets is None:
            self.table.counters[row, COUNTER["dropped_source"]] += np.uint64(1)
            return
        # The packets of its probation were not counted as refused only to be heard after all.
        waited = min(len(packets) - 1, int(self.table.counters[row, COUNTER["dropped_source"]]))
        self.table.counters[row, COUNTER["dropped_source"]] -= np.uint64(waited)
        self.table.counters[row, COUNTER["latches"]] += np.uint64(1)
        self._connect(row, policy.remote)
        self._emit(Latched(row, int(self.table.generation[row]), *policy.remote))
        for packet in packets:
            self.receiver.receive(_batch(row, packet), now_ns)

    def _report_received(self, now_ns: int) -> None:
        receiver = self.receiver
        for row in receiver.first:
            self._emit(FirstPacket(row, int(self.table.generation[row]), *self._policies[row].remote))
        receiver.first.clear()
        for packet in receiver.events:
            for pressed in self._events.receive(packet, now_ns):
                self._press_event(pressed, now_ns)
        receiver.events.clear()
        for heard, start in self._inband.on_tick(self._tick):
            duration_ms = (heard.end - heard.begin) * 1000 // int(self.table.rate_hz[heard.row])
            self._press(heard.row, heard.digit, duration_ms, start + heard.begin, "inband", now_ns)
        for row, data in receiver.control:
            if not self._reports.receive(row, data, now_ns):
                self.table.counters[row, COUNTER["dropped_malformed"]] += np.uint64(1)
        receiver.control.clear()

    def _look_round(self, now_ns: int) -> None:
        """What need not be looked at in every tick."""
        table = self.table
        for pressed in self._events.on_deadline(now_ns):
            self._press_event(pressed, now_ns)
        active = np.flatnonzero(table.active)
        if not len(active):
            return
        self.receiver.count(active)
        listening = active[self.receiver.receiving[active]]
        last = np.maximum(table.rx_last_ns[listening], self._media_since_ns[listening])
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
        rows = np.arange(tick // SLOW_TICKS % GAUGE_TURNS, self.table.rows, GAUGE_TURNS)
        rows = rows[self.table.active[rows] != 0]
        if len(rows):
            self._gauges.update(rows)

    def _press_event(self, pressed: Pressed, now_ns: int) -> None:
        position = self._position_at(pressed.row, pressed.began_ns, now_ns)
        self._press(pressed.row, pressed.digit, pressed.duration_ms, position, "rtp", now_ns)

    def _position_at(self, row: int, then_ns: int, now_ns: int) -> int:
        """Where the receive clock of the row stood at `then_ns`."""
        age = (now_ns - then_ns) * int(self.table.rate_hz[row]) // 1_000_000_000
        return max(0, int(self.table.rx_head[row]) - age)

    def _press(self, row: int, digit: str, duration_ms: int, position: int, by: str, now_ns: int) -> None:
        if self._digits.report(row, digit, by, now_ns):
            self._emit(Digit(row, int(self.table.generation[row]), digit, duration_ms, position, by))

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
        offered = (_canonical(command.remote_address), command.remote_port)
        usable = command.remote_port > 0 and offered[0] not in ("0.0.0.0", "::")
        allowed = frozenset(_canonical(address) for address in (*command.allowed, command.remote_address))
        before = self._policies.get(row)
        moved = self._offered.get(row) != offered
        remote = offered if moved or before is None else before.remote
        self._policies[row] = SourcePolicy(remote, allowed, frozenset(kinds), self._options.latch_packets)
        if usable and moved:
            self._offered[row] = offered
            if not self._connect(row, offered):
                self._emit(MediaProblem(f"cannot send to {offered[0]}:{offered[1]}", row, command.generation))
            self.receiver.follow_anyone(row)
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
            sending=command.sending and usable,
            tick=self._tick,
        )
        self._events.set_formats(row, command.telephone_event)
        self._dialling.set_formats(row, command.telephone_event, clock_rate_hz)
        self._inband.listen(row, not command.telephone_event and command.receiving)
        self._media_since_ns[row] = now_ns
        self._silences_told[row] = 0
        self._set_reports(command, now_ns, usable=usable)
        for datagram in self._srtp.early.take(row, now_ns):
            if command.srtp is not None:
                self._slow_way(datagram, now_ns)

    def _set_reports(self, command: SetStream, now_ns: int, *, usable: bool) -> None:
        row, port = command.row, command.rtcp_port
        if usable:
            address = _canonical(command.rtcp_address or command.remote_address)
            self._report_path.set_remote(row, (address, port) if port else None)
            self._reports.begin(row, now_ns)
        else:
            self._report_path.forget(row)

    def _assign(self, command: AssignWorker, now_ns: int) -> None:
        self.table.worker[command.row] = command.worker
        self.sender.drop_speech(command.row)

    def _inject_digit(self, command: InjectDigit, now_ns: int) -> None:
        position = self._position_at(command.row, now_ns - command.duration_ms * 1_000_000, now_ns)
        self._press(command.row, command.digit, command.duration_ms, position, "info", now_ns)

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
        self._gauges.update(np.array([row]))
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
        self._taps.close(row, int(self.table.generation[row]))
        self._reports.close(row, self._tick, self._now_ns)
        self._capture.close(row)
        self._report_path.forget(row)
        self._srtp.forget(row)
        self._srtp.early.take(row, self._now_ns)
        self.table.active[row] = 0
        self.table.worker[row] = -1
        self.io.remove(row)
        self._sockets.close(row)
        self.receiver.close(row)
        self.sender.close(row)
        self._playback.close(row)
        self._bridges.close(row)
        self._inband.listen(row, False)
        self._dialling.close(row)
        self._events.close(row)
        self._digits.close(row)
        self._policies.pop(row, None)
        self._offered.pop(row, None)

    def _control_recording(self, command: ControlRecording, now_ns: int) -> None:
        self._taps.control(command)
        if command.action in ("pause", "resume"):
            self._capture.blank(command.row, command.action == "pause")

    def _remote_of(self, row: int) -> Address | None:
        policy = self._policies.get(row)
        return policy.remote if policy is not None else None

    def _note_report(self, row: int, data: bytes, remote: Address | None, *, inward: bool) -> None:
        if self._capture:
            self._capture.report(row, data, remote, self._now_ns, inward=inward)

    def _send_one(self, row: int, data: bytes) -> None:
        if self._capture:
            self._capture.sent_event(row, data, self._now_ns)
        self.io.send_one(row, self._srtp.protect_one(row, data, control=False))

    def _connect(self, row: int, remote: Address) -> bool:
        self.io.remove(row)
        sock = self._sockets.connect(row, remote)
        if sock is not None:
            self.io.add(row, sock)
        return sock is not None

    def shut_down(self) -> None:
        """Close every row, without events, and give back threads and ports."""
        for row in np.flatnonzero(self.table.active).tolist():
            self._release(row)
        self._taps.shut_down()
        self._capture.shut_down()
        self._playback.shut_down()
        self.io.close()
        self._sockets.close_all()


def _canonical(address: str) -> str:
    """The spelling that the kernel uses for an IP address; host names stay as they are and match nothing."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def _batch(row: int, packet: bytes) -> Batch:
    data = np.zeros((1, MAX_PACKET), np.uint8)
    data[0, : len(packet)] = np.frombuffer(packet, np.uint8)
    return Batch(np.array([row]), data, np.array([len(packet)]))
