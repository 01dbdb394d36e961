"""The media planes and their ears, as the signalling plane drives them."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from sipagent.errors import ConfigError
from sipagent.rtp.control import Command, Event, MediaReady, RowClosed, Shutdown
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.table import COUNTERS, GAUGE, PLANE_COUNTER, CallTable
from sipagent.rtp.vad.options import EarsOptions
from sipagent.service import channel, planes
from sipagent.service.planes import EARS, MEDIA, Plane, Transferable

log = structlog.get_logger(__name__)

RESTART_AFTER_S: Final = 0.2
MAX_RESTART_AFTER_S: Final = 3.0  # of a process that ends again and again before it is ready
STALLED_AFTER_S: Final = 3.0
FIXES: Final = {  # of the field that is to blame when no port can be had, by errno
    errno.EADDRINUSE: ("media.ports", "is the service running? else move the range"),
    errno.EADDRNOTAVAIL: ("media.address", "name an address of this machine"),
    errno.EMFILE: ("limits.max_calls", "raise LimitNOFILE or ulimit -Hn"),
}


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
        self._failed_starts = 0  # of the media process, in a row
        self._refusal = 0  # errno of the ports that the last one could not have
        self._reported = asyncio.Event()
        self.ready = asyncio.Event()
        self._media: Plane | None = None
        self._ears: Plane | None = None

    def start(self) -> None:
        """Start both processes."""
        planes.persist("media", self._start_media)
        planes.persist("ears", self._start_ears)

    async def started(self) -> None:
        """Return when the plane is ready for calls; raises ConfigError when it cannot have a single port."""
        await self._reported.wait()
        if not self.ready.is_set():
            field, fix = FIXES.get(self._refusal, ("media.ports", "choose other ports"))
            first, address = self._options.first_port, self._options.address
            problem = f"no RTP port of {address} from {first} on can be had: {os.strerror(self._refusal)}"
            raise ConfigError(field, problem, fix)

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
        if self._stopping:
            return
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
        if self._stopping:
            return
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
            self._is_up(event)
        else:
            if isinstance(event, RowClosed):
                self._retired += [event.counters.get(name, 0) for name in COUNTERS]
            self._handlers.on_event(self.number, event)

    def _is_up(self, event: MediaReady) -> None:
        """Take the plane into service, unless it has no port at all: then another one tries."""
        ports = sum(1 for port in event.ports if port)
        self._refusal = event.refusal
        if event.refusal:
            problem = os.strerror(event.refusal)
            log.error("media ports missing", plane=self.number, ports=ports, of=len(event.ports), problem=problem)
        if ports:
            log.info("media plane ready", plane=self.number, io=event.io, ports=ports)
            self._failed_starts = 0
            self.ready.set()
            self._handlers.on_ready(self.number, event)
        elif self._media is not None:
            self._media.kill()
        self._reported.set()

    def _media_gone(self, code: int) -> None:
        was_ready = self.ready.is_set()
        self.ready.clear()
        self._channel.close()
        if self._stopping:
            return
        log.error("media plane died", plane=self.number, exit_code=code)
        self.restarts += 1
        if was_ready:
            self._handlers.on_lost(self.number)
        delay = min(MAX_RESTART_AFTER_S, RESTART_AFTER_S * 2**self._failed_starts)
        self._failed_starts += 1
        asyncio.get_running_loop().call_later(delay, planes.persist, "media", self._start_media)

    def _ears_gone(self, code: int) -> None:
        self._ears_channel.close()
        if self._stopping:
            return
        log.error("ears died", plane=self.number, exit_code=code)
        self.restarts += 1
        asyncio.get_running_loop().call_later(RESTART_AFTER_S, planes.persist, "ears", self._start_ears)
