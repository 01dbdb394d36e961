"""The loop of the media plane: ticks of 5 ms by absolute deadlines, commands between them.

Ticks in which there is nothing to do are slept through; while no row is open it waits for commands.
"""

import select
import socket
import time
from collections import deque
from typing import Final

import msgspec
import numpy as np

from sipagent.rtp.control import Command, Event, Shutdown
from sipagent.rtp.faults import Faults
from sipagent.rtp.plane import MediaPlane
from sipagent.rtp.table import PLANE_COUNTER, CallTable
from sipagent.rtp.waking import Waker

MAX_MESSAGE: Final = 1 << 20
EVENTS_WAITING: Final = 10_000  # while signalling is busy; the oldest are dropped beyond
COMMANDS_NS: Final = 1_000_000  # of a tick for commands: a burst of new calls must not cost the others their deadline
IDLE_MS: Final = 50  # while no row is open
PACING_TICKS: Final = 1000
HEARTBEAT_TICKS: Final = 4
PUBLISH_TICKS: Final = 100


class ControlChannel:
    """Commands in, events out, over a non-blocking SEQPACKET socket; `closed` once the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._decode = msgspec.msgpack.Decoder(Command).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._waiting: deque[bytes] = deque(maxlen=EVENTS_WAITING)
        self.closed = False

    def emit(self, event: Event) -> None:
        """Send an event, or keep it until there is room."""
        self._waiting.append(self._encode(event))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the other end takes it."""
        while self._waiting:
            try:
                self._end.send(self._waiting[0])
            except BlockingIOError:
                return
            except OSError:
                self.closed = True
                return
            self._waiting.popleft()

    def wait(self, limit_ms: int) -> None:
        """Return when there is a command, or after `limit_ms`."""
        self._poll.poll(limit_ms)

    def receive(self) -> Command | None:
        """The next command, None when there is none; what is no command is skipped."""
        while True:
            try:
                data = self._end.recv(MAX_MESSAGE)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return None
            try:
                command: Command = self._decode(data)
            except msgspec.MsgspecError:
                continue
            return command


class Pacing:
    """How late ticks begin, in microseconds, published in the table's plane counters once a second."""

    def __init__(self, table: CallTable, tick_ns: int) -> None:
        self._plane = table.plane
        self._tick_ns = tick_ns
        self._late_ns: deque[int] = deque(maxlen=PACING_TICKS)
        self._count = self._late = 0
        self._cpu_ns = time.process_time_ns()

    def began(self, late_ns: int, now_ns: int) -> None:
        """A tick begins `late_ns` after its deadline."""
        self._late_ns.append(late_ns)
        self._late += late_ns > self._tick_ns
        self._count += 1
        if self._count % HEARTBEAT_TICKS == 0:
            plane = self._plane
            plane[PLANE_COUNTER["ticks"]] = self._count
            plane[PLANE_COUNTER["late_ticks"]] = self._late
            plane[PLANE_COUNTER["heartbeat_ns"]] = now_ns
            if self._count % PUBLISH_TICKS == 0:
                self._publish()

    def _publish(self) -> None:
        plane = self._plane
        first = PLANE_COUNTER["pacing_p50_us"]
        plane[first : first + 4] = np.percentile(np.array(self._late_ns), (50, 99, 99.9, 100)) / 1000
        cpu_ns = time.process_time_ns()
        plane[PLANE_COUNTER["tick_cpu_us"]] = (cpu_ns - self._cpu_ns) // (1000 * PUBLISH_TICKS)
        self._cpu_ns = cpu_ns


def run_loop(plane: MediaPlane, channel: ControlChannel, waker: Waker, tick_ms: int) -> None:
    """Tick until the channel closes or Shutdown comes; raises what too many ticks in a row have raised."""
    tick_ns = tick_ms * 1_000_000
    pacing, faults = Pacing(plane.table, tick_ns), Faults(channel.emit)
    monotonic_ns, sleep = time.monotonic_ns, time.sleep
    tick, start_ns = 0, monotonic_ns()
    while not channel.closed:
        if plane.is_idle:
            plane.rest()
            channel.wait(IDLE_MS)
            tick = max(tick, (monotonic_ns() - start_ns) // tick_ns)
        tick = plane.next_tick(tick)
        deadline_ns = start_ns + tick * tick_ns
        now_ns = monotonic_ns()
        if now_ns < deadline_ns:
            sleep((deadline_ns - now_ns) / 1e9)
            now_ns = monotonic_ns()
        late_ns = now_ns - deadline_ns
        if late_ns > tick_ns:  # we were not let run: what was due in the ticks between is done in this one
            skipped = late_ns // tick_ns
            tick += skipped
            plane.table.plane[PLANE_COUNTER["skipped_ticks"]] += skipped
        pacing.began(late_ns, now_ns)
        try:
            moved = plane.tick(tick, now_ns, receives=plane.receives(tick))
        except Exception as error:
            faults.in_tick(error, now_ns)
        else:
            waker.wake(tick, moved)
        channel.flush()
        begun_ns = monotonic_ns()
        while (command := channel.receive()) is not None:
            if isinstance(command, Shutdown):
                return
            try:
                plane.handle(command, now_ns)
            except Exception as error:
                faults.in_command(error, command)
            if monotonic_ns() > begun_ns + COMMANDS_NS:
                break
