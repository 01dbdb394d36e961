"""The conversation workers: started, watched, replaced; each call is talked by one of them.

A worker is replaced by another one in a free place: the fresh one starts, and when it is ready it takes the new calls,
while the old one finishes its own and exits. There are twice as many places as workers, each with its own eventfd, so
that both can be woken meanwhile.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import structlog

from sipagent.service import channel, planes
from sipagent.service.messages import FromWorker, Ping, Pong, Ready, Stop, ToWorker
from sipagent.service.planes import WORKER, Plane, Transferable
from sipagent.service.worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

PING_EVERY_S: Final = 1.0
RESTART_AFTER_S: Final = 0.1
START_S: Final = 120.0  # for models and brains to load
MAX_RESTART_AFTER_S: Final = 10.0  # of a worker that dies again and again before it is ready


class Duty(Enum):
    """What a place is used for."""

    SPARE = "spare"  # no process
    FRESH = "fresh"  # being started to replace another one
    SERVING = "serving"  # takes calls; started again when it dies
    RETIRING = "retiring"  # finishes its calls, then leaves


@dataclass(frozen=True, slots=True)
class WorkerHandlers:
    """What the owner wants to hear of."""

    on_message: Callable[[int, FromWorker], None]
    on_ready: Callable[[int], None]
    on_lost: Callable[[int], None]  # its calls need another worker


class Worker:
    """A place for a worker: its process, its channel, and the eventfd by which the media plane wakes it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.duty = Duty.SPARE
        self.replaces: Worker | None = None  # while FRESH
        self.plane: Plane | None = None
        self.channel: channel.Channel[FromWorker] | None = None
        self.ready = False
        self.lacks: frozenset[str] = frozenset()  # what it warned of when it became ready
        self.calls: set[str] = set()  # that it was offered
        self.leads: frozenset[str] = frozenset()  # that it says it leads
        self.unanswered = 0  # pings since the last Pong, or turns of the watch since the start
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
        self.stuck_seconds = stuck_seconds
        self._count = count
        self._settings = settings
        self._handlers = handlers
        self._tables: tuple[tuple[int, int], ...] = ()
        self._stopping = False
        self._to_replace: list[Worker] = []
        self.workers = [Worker(index) for index in range(2 * count)]

    @property
    def wake_fds(self) -> tuple[int, ...]:
        """One eventfd per place, for the media planes and the ears."""
        return tuple(worker.wake_fd for worker in self.workers)

    @property
    def on_duty(self) -> list[Worker]:
        """The places that are in use."""
        return [worker for worker in self.workers if worker.duty is not Duty.SPARE]

    def start(self, tables: tuple[tuple[int, int], ...]) -> None:
        """Start every worker; `tables` are (memfd, rows) of the media planes, in order."""
        self._tables = tables
        for worker in self.workers[: self._count]:
            worker.duty = Duty.SERVING
            self._start(worker)

    def reload(self, settings: WorkerSettings) -> None:
        """Replace every worker that serves by a fresh one, which loads the brains anew."""
        self._settings = settings
        for fresh in self.workers:
            if fresh.duty is Duty.FRESH and fresh.plane is not None:
                fresh.plane.kill()  # it may have loaded what has just been changed
        self._to_replace = [worker for worker in self.workers if worker.duty is Duty.SERVING]
        self._replace_next()

    async def watch(self) -> None:
        """Ping every worker each second, for ever; one that has been stuck for too long is killed.

        Pings are counted and not the time: after a stop of the whole host no worker has answered for long, and none is
        stuck.
        """
        number = 0
        while True:
            await asyncio.sleep(PING_EVERY_S)
            number += 1
            for worker in self.workers:
                if worker.plane is None:
                    continue
                if not worker.ready:
                    worker.unanswered += 1
                    if worker.unanswered * PING_EVERY_S > START_S:
                        log.error("worker does not get ready, replacing it", worker=worker.index)
                        worker.plane.kill()
                elif worker.unanswered * PING_EVERY_S > self.stuck_seconds:
                    log.error("worker is stuck, replacing it", worker=worker.index, calls=len(worker.calls))
                    worker.plane.kill()
                else:
                    worker.unanswered += 1
                    worker.send(Ping(number))

    def pick(self, avoid: int = -1) -> Worker | None:
        """The worker with the fewest calls, ready ones first; not `avoid` while there is another."""
        usable = [worker for worker in self.workers if worker.plane is not None and worker.duty is Duty.SERVING]
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
        running = [worker.plane for worker in self.workers if worker.plane is not None]
        try:
            async with asyncio.timeout(2.0):
                for plane in running:
                    await plane.gone.wait()
        except TimeoutError:
            for plane in running:
                plane.kill()
        for worker in self.workers:
            os.close(worker.wake_fd)

    def _start(self, worker: Worker) -> None:
        planes.persist(f"worker {worker.index}", lambda: self._launch(worker))

    def _launch(self, worker: Worker) -> None:
        if self._stopping or worker.duty is Duty.SPARE or worker.plane is not None:
            return
        ours, theirs = channel.pair()
        arguments = (
            theirs,
            worker.index,
            tuple((Transferable(fd), rows) for fd, rows in self._tables),
            Transferable(worker.wake_fd),
            self._settings,
        )
        worker.ready, worker.unanswered = False, 0
        worker.plane = Plane(
            f"sipagent-worker-{worker.index}", WORKER, arguments, lambda code: self._gone(worker, code)
        )
        worker.channel = channel.Channel[FromWorker](
            ours, FromWorker, lambda message: self._says(worker, message), lambda: None
        )

    def _says(self, worker: Worker, message: FromWorker) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(message, Pong):
            worker.last_pong_at, worker.lag_ms, worker.leads = now, message.lag_ms, frozenset(message.calls)
            worker.unanswered = 0
        elif isinstance(message, Ready):
            worker.ready, worker.last_pong_at, worker.failed_starts, worker.unanswered = True, now, 0, 0
            worker.lacks = frozenset(message.warnings)
            log.info("worker ready", worker=worker.index, pid=message.pid)
            for warning in message.warnings:
                log.warning("worker lacks something", worker=worker.index, problem=warning)
            if worker.duty is Duty.FRESH and not self._take_over(worker):
                return
            self._handlers.on_ready(worker.index)
        else:
            self._handlers.on_message(worker.index, message)

    def _gone(self, worker: Worker, code: int) -> None:
        was_ready, duty = worker.ready, worker.duty
        worker.ready, worker.plane, worker.leads = False, None, frozenset()
        if worker.channel is not None:
            worker.channel.close()
            worker.channel = None
        if self._stopping:
            return
        if duty is Duty.RETIRING and code == 0:
            log.info("worker has retired", worker=worker.index)
        else:
            log.error("worker died", worker=worker.index, exit_code=code, calls=len(worker.calls))
            worker.restarts += 1
        worker.calls.clear()
        if duty is Duty.SERVING:
            worker.failed_starts = 0 if was_ready else worker.failed_starts + 1
            delay = min(MAX_RESTART_AFTER_S, RESTART_AFTER_S * 2**worker.failed_starts)
            asyncio.get_running_loop().call_later(delay, self._restart, worker)
        else:
            worker.duty, worker.replaces = Duty.SPARE, None
            self._replace_next()
        self._handlers.on_lost(worker.index)

    def _restart(self, worker: Worker) -> None:
        if worker.duty is Duty.SERVING and worker.plane is None:  # unless it was replaced meanwhile
            self._start(worker)

    # ---- replacement

    def _replace_next(self) -> None:
        """Start fresh workers for those that are to be replaced, as far as there are free places."""
        while self._to_replace:
            fresh = next((worker for worker in self.workers if worker.duty is Duty.SPARE), None)
            if fresh is None:
                log.info("replacing workers waits for calls of retired ones", workers=len(self._to_replace))
                return
            fresh.duty, fresh.replaces = Duty.FRESH, self._to_replace.pop(0)
            fresh.failed_starts = 0
            self._start(fresh)

    def _take_over(self, fresh: Worker) -> bool:
        """The fresh worker is ready: new calls are its own, the old one finishes its calls.

        False when it lacks what the old one had: code that cannot be loaded does not replace code that works.
        """
        old = fresh.replaces
        if old is not None and old.ready and not fresh.lacks <= old.lacks:
            log.error("the new code is worse than the old, which goes on", worker=old.index)
            fresh.duty = Duty.RETIRING
            fresh.send(Stop())
            return False
        fresh.duty, fresh.replaces = Duty.SERVING, None
        if old is not None:
            old.duty = Duty.RETIRING
            log.info("worker retires", worker=old.index, replaced_by=fresh.index, calls=len(old.calls))
            if old.plane is None:  # it died meanwhile, and would have been started again
                old.duty = Duty.SPARE
            old.send(Stop())
        return True
