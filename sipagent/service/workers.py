"""The conversation workers: started, watched, replaced; each call is talked by one of them."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from sipagent.service import channel
from sipagent.service.messages import FromWorker, Ping, Pong, Ready, Stop, ToWorker
from sipagent.service.planes import WORKER, Plane, Transferable
from sipagent.service.worker_settings import WorkerSettings

log = structlog.get_logger(__name__)

PING_EVERY_S: Final = 1.0
RESTART_AFTER_S: Final = 0.1
MAX_RESTART_AFTER_S: Final = 10.0  # of a worker that dies again and again before it is ready


@dataclass(frozen=True, slots=True)
class WorkerHandlers:
    """What the owner wants to hear of."""

    on_message: Callable[[int, FromWorker], None]
    on_ready: Callable[[int], None]
    on_lost: Callable[[int], None]  # its calls need another worker


class Worker:
    """One worker: a process, its channel, and the eventfd by which the media plane wakes it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.plane: Plane | None = None
        self.channel: channel.Channel[FromWorker] | None = None
        self.ready = False
        self.retiring = False
        self.calls: set[str] = set()
        self.pings = 0
        self.last_pong_at = 0.0
        self.lag_ms = 0.0
        self.restarts = 0
        self.failed_starts = 0

    def send(self, message: ToWorker) -> None:
        """Send, if it lives."""
        if self.channel is not None:
            self.channel.send(message)


class WorkerPool:
    """All workers of the service."""

    def __init__(self, count: int, settings: WorkerSettings, stuck_seconds: float, handlers: WorkerHandlers) -> None:
        self._settings = settings
        self._stuck_seconds = stuck_seconds
        self._handlers = handlers
        self._tables: tuple[tuple[int, int], ...] = ()
        self._stopping = False
        self.workers = [Worker(index) for index in range(count)]

    @property
    def wake_fds(self) -> tuple[int, ...]:
        """One eventfd per worker, for the media planes and the ears."""
        return tuple(worker.wake_fd for worker in self.workers)

    def start(self, tables: tuple[tuple[int, int], ...]) -> None:
        """Start every worker; `tables` are (memfd, rows) of the media planes, in order."""
        self._tables = tables
        for worker in self.workers:
            self._start(worker)

    async def watch(self) -> None:
        """Ping every worker each second, for ever; one that has been stuck for too long is killed."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for worker in self.workers:
                if not worker.ready or worker.plane is None:
                    continue
                if loop.time() - worker.last_pong_at > self._stuck_seconds:
                    log.error("worker is stuck, replacing it", worker=worker.index, calls=len(worker.calls))
                    worker.plane.kill()
                else:
                    worker.pings += 1
                    worker.send(Ping(worker.pings))

    def pick(self, avoid: int = -1) -> Worker | None:
        """The worker with the fewest calls, ready ones first; not `avoid` while there is another."""
        usable = [worker for worker in self.workers if worker.plane is not None and not worker.retiring]
        responsive = [worker for worker in usable if worker.index != avoid]
        return min(
            responsive or usable,
            key=lambda worker: (not worker.ready, self._late(worker), len(worker.calls)),
            default=None,
        )

    def _late(self, worker: Worker) -> bool:
        """True while its last ping is unanswered for longer than pings are apart: it is busy with something else."""
        return worker.ready and asyncio.get_running_loop().time() - worker.last_pong_at > 2.5 * PING_EVERY_S

    async def stop(self) -> None:
        """Ask every worker to finish, then kill."""
        self._stopping = True
        for worker in self.workers:
            worker.send(Stop())
        planes = [worker.plane for worker in self.workers if worker.plane is not None]
        try:
            async with asyncio.timeout(2.0):
                for plane in planes:
                    await plane.gone.wait()
        except TimeoutError:
            for plane in planes:
                plane.kill()
        for worker in self.workers:
            os.close(worker.wake_fd)

    def _start(self, worker: Worker) -> None:
        if self._stopping:
            return
        ours, theirs = channel.pair()
        arguments = (
            theirs,
            worker.index,
            tuple((Transferable(fd), rows) for fd, rows in self._tables),
            Transferable(worker.wake_fd),
            self._settings,
        )
        worker.ready = False
        worker.plane = Plane(
            f"sipagent-worker-{worker.index}", WORKER, arguments, lambda code: self._gone(worker, code)
        )
        worker.channel = channel.Channel[FromWorker](
            ours, FromWorker, lambda message: self._says(worker, message), lambda: None
        )

    def _says(self, worker: Worker, message: FromWorker) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(message, Pong):
            worker.last_pong_at, worker.lag_ms = now, message.lag_ms
        elif isinstance(message, Ready):
            worker.ready, worker.last_pong_at, worker.failed_starts = True, now, 0
            log.info("worker ready", worker=worker.index, pid=message.pid)
            for warning in message.warnings:
                log.warning("worker lacks something", worker=worker.index, problem=warning)
            self._handlers.on_ready(worker.index)
        else:
            self._handlers.on_message(worker.index, message)

    def _gone(self, worker: Worker, code: int) -> None:
        was_ready = worker.ready
        worker.ready, worker.plane = False, None
        if worker.channel is not None:
            worker.channel.close()
            worker.channel = None
        if self._stopping:
            return
        log.error("worker died", worker=worker.index, exit_code=code, calls=len(worker.calls))
        worker.calls.clear()
        worker.restarts += 1
        worker.failed_starts = 0 if was_ready else worker.failed_starts + 1
        delay = min(MAX_RESTART_AFTER_S, RESTART_AFTER_S * 2**worker.failed_starts)
        asyncio.get_running_loop().call_later(delay, self._start, worker)
        self._handlers.on_lost(worker.index)
