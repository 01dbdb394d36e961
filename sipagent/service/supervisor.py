"""The service: builds the planes, joins them, and takes them down again."""

import asyncio
import os
import signal
from pathlib import Path

import structlog

from sipagent.calls.control import CallControl
from sipagent.calls.lifecycle import Lifecycle
from sipagent.http.server import HttpServer
from sipagent.records.store import RecordStore
from sipagent.rtp.vad.options import EarsOptions
from sipagent.service import logging, memory, notify, planes
from sipagent.service.config.parts import engine_settings, media_options, trunk_account
from sipagent.service.config.tree import Config
from sipagent.service.hep_export import HepExport
from sipagent.service.http_control import HttpControl
from sipagent.service.instance import instance_id
from sipagent.service.media_planes import MediaHandlers, MediaPlane
from sipagent.service.pjsip_process import PjsipPlane
from sipagent.service.recordings import RecordingPaths
from sipagent.service.redaction import secrets_of
from sipagent.service.reload import reload
from sipagent.service.worker.settings import worker_settings
from sipagent.service.workers import WorkerHandlers, WorkerPool
from sipagent.sip.engine import SipEngine
from sipagent.sip.native import NativeEngine
from sipagent.sip.pjsua2.engine import Pjsua2Engine

log = structlog.get_logger(__name__)


def make_engine(config: Config) -> SipEngine:
    """The SIP engine that the configuration names."""
    settings = engine_settings(config, instance_id(Path(config.records.directory)))
    return Pjsua2Engine(settings, PjsipPlane) if config.sip.engine == "pjsua2" else NativeEngine(settings)


class Service:
    """Everything that runs; `start`, then `drain` and `stop`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.running = False  # from the end of `start` to the beginning of `drain`
        self.stopping = asyncio.Event()
        self.recordings = RecordingPaths(config)
        self.records = RecordStore(config.records)
        self.engine = make_engine(config)
        self.workers = WorkerPool(
            config.conversation.workers,
            worker_settings(config, self.recordings.apology),
            config.conversation.stuck_seconds,
            WorkerHandlers(
                lambda index, message: self.control.on_worker(index, message),
                lambda index: self.control.on_worker_ready(index),
                lambda index: self.control.on_worker_lost(index),
            ),
        )
        handlers = MediaHandlers(
            lambda plane, event: self.control.on_media_ready(plane, event),
            lambda plane, event: self.control.on_media(plane, event),
            lambda plane: self.control.on_media_lost(plane),
        )
        self.planes = [
            MediaPlane(number, options, EarsOptions(), self.workers.wake_fds, handlers)
            for number, options in enumerate(media_options(config))
        ]
        self.life = Lifecycle(config, self.engine, self.planes, self.workers, self.recordings, self.records)
        self.control = CallControl(self.life)
        self.hep = HepExport(config.hep, self.engine)
        self.http = HttpServer(config, HttpControl(self.control, self.hep.metrics)) if config.http.listen else None

    async def start(self) -> None:
        """Begin to register, bind everything, start the planes; raises ConfigError.

        REGISTER leaves first: its answer and the modules of the others take their time together. A call that comes
        before there are rows gets 503 with Retry-After; the registrar alone would have refused it too.
        """
        self.hep.start()
        async with asyncio.TaskGroup() as starting:
            starting.create_task(self.records.open())  # in its thread, before anything can be written
            await self.engine.start(self.control.on_engine)
            if self.http is not None:
                starting.create_task(self.http.start())
            await planes.loaded()
            for plane in self.planes:
                plane.start()
            self.workers.start(tuple((plane.table_fd, plane.table.rows) for plane in self.planes))
            for plane in self.planes:
                await plane.started()
        self.running = True
        log.info("listening", sip=self.engine.listening(), http=self.config.http.listen or "off")

    def adopt(self, config: Config) -> None:
        """Put a configuration in force that differs only in what can be changed while calls go on."""
        logging.configure(config.log, secrets_of(config), plane="sipagent")
        self.recordings = RecordingPaths(config)
        self.config = self.life.config = config
        self.life.paths = self.recordings
        self.engine.update_trunks(tuple(trunk_account(trunk) for trunk in config.trunk))
        if self.http is not None:
            self.http.adopt(config)
        self.workers.stuck_seconds = config.conversation.stuck_seconds
        self.workers.reload(worker_settings(config, self.recordings.apology))

    async def drain(self) -> None:
        """Un-register, refuse new calls, let calls finish up to the limit, then end the rest."""
        self.running, self.life.draining = False, True
        limit = self.config.limits.drain_seconds
        log.info("draining", calls=self.life.count(), limit_s=limit)
        await self.engine.unregister()
        try:
            async with asyncio.timeout(limit):
                notify.extend_timeout(limit + 10)
                await self.life.idle.wait()
        except TimeoutError:
            await self.end_calls("the service is going down")

    async def end_calls(self, reason: str) -> None:
        """BYE to every call, and a little time for the answers."""
        for call in self.life.calls.active():
            self.life.hang_up(call, reason, headers=(("Reason", f'SIP;cause=503;text="{reason}"'),))
        try:
            async with asyncio.timeout(2.0):
                await self.life.idle.wait()
        except TimeoutError:
            log.warning("calls left without an answer to BYE", calls=len(self.life.calls.active()))

    async def stop(self) -> None:
        """Take everything down."""
        if self.http is not None:
            await self.http.stop()
        await self.control.inbound.screening.close()
        await self.engine.stop()
        self.hep.stop()
        await self.workers.stop()
        for plane in self.planes:
            await plane.stop()
        await self.records.close()


async def serve(config: Config, path: Path | None = None) -> None:
    """Run until SIGTERM or SIGINT: the first drains, a second one ends the calls at once.

    SIGHUP reads the configuration file at `path` again.
    """
    planes.prepare()
    service = Service(config)
    loop = asyncio.get_running_loop()
    second = asyncio.Event()

    def asked_to_stop() -> None:
        (second if service.stopping.is_set() else service.stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: reload(service, path, os.environ) if service.running else None)
    try:
        if not await _started(service):
            return
        memory.settle()
        notify.ready()
        async with asyncio.TaskGroup() as tasks:
            watching = (service.workers.watch(), service.control.sweep.watch(), memory.watch(), _watchdog(service))
            beats = [tasks.create_task(each) for each in watching]
            await service.stopping.wait()
            notify.stopping()
            draining = tasks.create_task(service.drain())
            impatient = tasks.create_task(second.wait())
            await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
            draining.cancel()
            impatient.cancel()
            await service.end_calls("the service is going down")
            for task in beats:
                task.cancel()
    finally:
        await service.stop()


async def _started(service: Service) -> bool:
    """Start; False when we were asked to stop before that was done, whatever it waits for."""
    starting, asked = asyncio.create_task(service.start()), asyncio.create_task(service.stopping.wait())
    try:
        await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            return True
        log.info("asked to stop before everything had started")
        return False
    finally:
        starting.cancel()
        asked.cancel()
        await asyncio.wait((starting, asked))


async def _watchdog(service: Service) -> None:
    """Feed systemd's watchdog while this loop turns and every media plane ticks."""
    every = notify.watchdog_seconds(os.environ) / 2
    while every:
        if all(plane.ticking() for plane in service.planes):
            notify.watchdog()
        await asyncio.sleep(every)
