"""The media planes and their ears, as the signalling plane drives them."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from sipagent.rtp.control import Command, Event, MediaReady, RowClosed, Shutdown
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.table import COUNTERS, GAUGE, PLANE_COUNTER, CallTable
from sipagent.rtp.vad.options import EarsOptions
from sipagent.service import channel
from sipagent.service.planes import EARS, MEDIA, Plane, Transferable

log = structlog.get_logger(__name__)

RESTART_AFTER_S: Final = 0.2
STALLED_AFTER_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class MediaHandlers:
    """What the owner wants to hear of: a plane that is ready, an event of a row, a plane that died with its calls."""

    on_ready: Callable[[int, MediaReady], None]
    on_event: Callable[[int, Event], None]
    on_lost: Callable[[int], None]


class MediaPlane:
    """One media plane, its call table and its ears; `start` both. Each is started again when it dies."""

    def __init__(
        self,
        number: int,
        options: MediaOptions,
        ears: EarsOptions,
        worker_wake_fds: tuple[int, ...],
        handlers: MediaHandlers,
    ) -> None:
        self.number = number
        self._options = options
        self._ears_options = ears
        self._worker_wake_fds = worker_wake_fds
        self._handlers = handlers
        self._ears_wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.table, self.table_fd = CallTable.create(options.rows)
        self._stopping = False
        self.restarts = 0
        self._retired = np.zeros(len(COUNTERS), np.int64)  # counters of rows whose calls are over
        self._totals = np.zeros(len(COUNTERS), np.int64)
        self.ready = asyncio.Event()
        self._media: Plane | None = None
        self._ears: Plane | None = None

    def start(self) -> None:
        """Start both processes."""
        self._start_media()
        self._start_ears()

    def send(self, command: Command) -> None:
        """Send one command; while the plane is down it is lost with the calls it was for."""
        self._channel.send(command)

    async def stop(self) -> None:
        """Close every row and both processes."""
        self._stopping = True
        if self._media is not None:
            self.send(Shutdown())
            try:
                async with asyncio.timeout(2.0):
                    await self._media.gone.wait()
            except TimeoutError:
                self._media.kill()
        if self._ears is not None:
            self._ears_channel.close()
            self._ears.kill()
        os.close(self._ears_wake_fd)
        os.close(self.table_fd)

    def ticking(self) -> bool:
        """Whether the plane's loop has turned within the last seconds."""
        stalled_ns = time.monotonic_ns() - int(self.table.plane[PLANE_COUNTER["heartbeat_ns"]])
        return self.ready.is_set() and stalled_ns < STALLED_AFTER_S * 1e9

    def pacing_ms(self) -> float:
        """How late 99 % of the ticks of the last ten seconds began at most, or how long there has been none."""
        table = self.table.plane
        stalled_ms = (time.monotonic_ns() - int(table[PLANE_COUNTER["heartbeat_ns"]])) / 1e6
        if self.ready.is_set() and stalled_ms > STALLED_AFTER_S * 1000:
            return stalled_ms
        return int(table[PLANE_COUNTER["pacing_p99_us"]]) / 1000

    @property
    def calls(self) -> int:
        """Rows in use."""
        return int(np.count_nonzero(self.table.active))

    def totals(self) -> NDArray[np.int64]:
        """Sums of COUNTERS i8[len(COUNTERS)] over all calls so far, which never fall: Prometheus would see a restart.

        The rows' own sums do: a row is closed a moment before we hear of it, and a packet that was lost may come late.
        """
        sums = self.table.counters[self.table.active != 0].sum(axis=0).astype(np.int64) + self._retired
        np.maximum(self._totals, sums, out=self._totals)
        return self._totals

    def gauges(self, row: int) -> dict[str, float]:
        """Live quality figures of a row, by name."""
        return {name: round(float(self.table.gauges[row, index]), 3) for name, index in GAUGE.items()}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by plane name."""
        return {name: plane.pid for name, plane in (("media", self._media), ("ears", self._ears)) if plane is not None}

    def _start_media(self) -> None:
        ours, theirs = channel.pair()
        arguments = (
            theirs,
            Transferable(self.table_fd),
            self._options,
            tuple(Transferable(fd) for fd in self._worker_wake_fds),
            Transferable(self._ears_wake_fd),
        )
        self._media = Plane(f"sipagent-media-{self.number}", MEDIA, arguments, self._media_gone)
        self._channel = channel.Channel[Event](ours, Event, self._media_says, lambda: None)

    def _start_ears(self) -> None:
        ours, theirs = channel.pair()
        arguments = (
            theirs,
            Transferable(self.table_fd),
            self._options.rows,
            self._ears_options,
            Transferable(self._ears_wake_fd),
            tuple(Transferable(fd) for fd in self._worker_wake_fds),
        )
        self._ears = Plane(f"sipagent-vad-{self.number}", EARS, arguments, self._ears_gone)
        self._ears_channel = channel.Channel[msgspec.Raw](ours, msgspec.Raw, lambda message: None, lambda: None)

    def _media_says(self, event: Event) -> None:
        if isinstance(event, MediaReady):
            log.info("media plane ready", plane=self.number, io=event.io, ports=sum(1 for port in event.ports if port))
            self.ready.set()
            self._handlers.on_ready(self.number, event)
        else:
            if isinstance(event, RowClosed):
                self._retired += [event.counters.get(name, 0) for name in COUNTERS]
            self._handlers.on_event(self.number, event)

    def _media_gone(self, code: int) -> None:
        self.ready.clear()
        self._channel.close()
        if self._stopping:
            return
        log.error("media plane died", plane=self.number, exit_code=code)
        self.restarts += 1
        self._handlers.on_lost(self.number)
        asyncio.get_running_loop().call_later(RESTART_AFTER_S, self._start_media)

    def _ears_gone(self, code: int) -> None:
        self._ears_channel.close()
        if self._stopping:
            return
        log.error("ears died", plane=self.number, exit_code=code)
        self.restarts += 1
        asyncio.get_running_loop().call_later(RESTART_AFTER_S, self._start_ears)
