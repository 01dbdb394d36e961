"""A conversation worker: one process, one asyncio loop, many calls.

    parent ── Offer, Connected, Ended … ──►  worker  ── Accept, CallEvent, Hangup, Finished … ──► parent
    media, ears ── eventfd ──► the rows that moved ──► their conversations

An error in one call ends that call; a call that blocks the loop delays the others of this worker, and nothing else.
"""

import asyncio
import ctypes
import os
import signal
import socket
from typing import Final

import msgspec
import structlog

from sipagent.brain.loader import add_paths, load_brain
from sipagent.errors import ConfigError
from sipagent.rtp.table import CallTable
from sipagent.service import memory
from sipagent.service.channel import Channel
from sipagent.service.config.tree import Log
from sipagent.service.logging import configure
from sipagent.service.messages import CASCADED, ECHO, Offer, Ping, Pong, Ready, Reject, Stop, Talk, ToWorker
from sipagent.service.worker.apology import load_apology
from sipagent.service.worker.calls import Led
from sipagent.service.worker.conversation import CascadedCall
from sipagent.service.worker.echo_conversation import EchoCall
from sipagent.service.worker.echo_rows import EchoRows
from sipagent.service.worker.load import LoopLag
from sipagent.service.worker.models import Models
from sipagent.service.worker.options import read_options
from sipagent.service.worker.settings import WorkerSettings
from sipagent.service.worker.wake import RowWatch

log = structlog.get_logger(__name__)

PR_SET_PDEATHSIG: Final = 1


def run(
    control: socket.socket,
    index: int,
    tables: tuple[tuple[int, int], ...],
    wake_fd: int,
    settings: WorkerSettings,
) -> None:
    """Entry of the process: lead calls until Stop, or until the parent is gone.

    `tables` are (memfd, rows) of the media planes in their order, `wake_fd` is the eventfd by which media and ears tell
    that a row of ours has moved.
    """
    # A worker without its parent would hold the models' memory for ever.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log_options = {"level": settings.log_level, "format": settings.log_format, "redact": settings.log_redact}
    configure(msgspec.convert(log_options, Log), settings.secrets, plane=f"worker-{index}")
    add_paths(settings.brain_paths)
    asyncio.run(_serve(control, index, tables, wake_fd, settings))


async def _serve(
    control: socket.socket,
    index: int,
    tables: tuple[tuple[int, int], ...],
    wake_fd: int,
    settings: WorkerSettings,
) -> None:
    worker = Worker(control, index, tuple(CallTable(fd, rows) for fd, rows in tables), settings)
    loop = asyncio.get_running_loop()
    loop.add_reader(wake_fd, worker.wake, wake_fd)
    try:
        await worker.serve()
    finally:
        loop.remove_reader(wake_fd)


class Worker:
    """All calls of this process."""

    def __init__(
        self, control: socket.socket, index: int, tables: tuple[CallTable, ...], settings: WorkerSettings
    ) -> None:
        self._index, self._tables, self._settings = index, tables, settings
        self._models = Models(settings.model_path)
        self._apology = load_apology(settings.apology)
        self._watches: tuple[RowWatch[CascadedCall], ...] = tuple(RowWatch(table) for table in tables)
        self._echoes = tuple(EchoRows(table) for table in tables)
        self._calls: dict[str, Led] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lag = LoopLag()
        self._stopping = False
        self._done = asyncio.Event()
        self._channel: Channel[ToWorker] = Channel(control, ToWorker, self._receive, self._done.set)

    async def serve(self) -> None:
        """Load the models, say Ready, lead calls; returns after Stop and the last call."""
        lag = asyncio.create_task(self._lag.watch())
        warnings = await self._warm()
        memory.settle()
        self._channel.send(Ready(os.getpid(), warnings))
        await self._done.wait()
        lag.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(lag, *self._tasks, return_exceptions=True)
        await self._models.close()
        self._channel.close()

    def wake(self, wake_fd: int) -> None:
        """The media plane or the ears moved rows of ours."""
        os.eventfd_read(wake_fd)
        for echo in self._echoes:
            echo.poll()
        for watch in self._watches:
            for conversation in watch.moved():
                conversation.poll()

    async def _warm(self) -> tuple[str, ...]:
        """Import the brains and load the models of every route; what fails is told, and fails again in the call."""
        problems: list[str] = []
        options = []
        for talk in self._settings.talks:
            if talk.pipeline == ECHO:
                continue
            try:
                options.append(read_options(talk.pipeline_options).worker)
                load_brain(talk.brain)
            except ConfigError as problem:
                problems.append(str(problem))
        return (*problems, *await self._models.warm(options))

    # ---- calls

    def _receive(self, message: ToWorker) -> None:
        if isinstance(message, Ping):
            self._channel.send(Pong(message.number, self._lag.take_ms(), tuple(self._calls)))
        elif isinstance(message, Stop):
            self._stopping = True
            self._leave_when_idle()
        elif isinstance(message, Offer):
            self._begin(message)
        elif (call := self._calls.get(message.call_id)) is not None:
            call.receive(message)

    def _begin(self, offer: Offer) -> None:
        if self._stopping or not 0 <= offer.plane < len(self._tables):
            self._channel.send(Reject(offer.call_id, 503, "Service Unavailable"))
            return
        if offer.call_id in self._calls:
            log.warning("offered twice", call_id=offer.call_id)  # the brain is still deciding: its answer counts
            return
        call = self._call_for(offer, offer.talk)
        if call is None:
            log.error("no such pipeline", call_id=offer.call_id, pipeline=offer.talk.pipeline)
            self._channel.send(Reject(offer.call_id, 500, "Server Internal Error"))
            return
        self._calls[offer.call_id] = call
        task = asyncio.create_task(self._supervise(offer.call_id, call), name=f"call {offer.call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _call_for(self, offer: Offer, talk: Talk) -> Led | None:
        if talk.pipeline == ECHO:
            return EchoCall(offer, self._echoes[offer.plane], self._channel.send)
        if talk.pipeline == CASCADED:
            table, watch = self._tables[offer.plane], self._watches[offer.plane]
            return CascadedCall(offer, table, watch, self._models, self._channel.send, self._apology)
        return None

    async def _supervise(self, call_id: str, call: Led) -> None:
        """Lead one call; an error in it is logged and ends it, after an apology."""
        with structlog.contextvars.bound_contextvars(call_id=call_id):
            try:
                await call.lead()
            except Exception:  # of the brain, of a service, of ours: this call ends, the others go on
                log.exception("conversation failed")
                await call.give_up()
            finally:
                call.finish()
                del self._calls[call_id]
                self._leave_when_idle()

    def _leave_when_idle(self) -> None:
        if self._stopping and not self._calls:
            self._done.set()
