"""Starting the other processes, and noticing when one ends.

They are forked by multiprocessing's fork server, which has the heavy modules loaded: a worker that died is back in a
fraction of a second. The kernel ends them when the fork server goes, and that goes when we go, so that a killed parent
leaves no process and no port behind.
"""

import asyncio
import contextlib
import ctypes
import importlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
GROUP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
MEDIA: Final = "sipagent.rtp.process"
EARS: Final = "sipagent.rtp.vad.process"
WORKER: Final = "sipagent.service.worker.process"
AGAIN_AFTER_S: Final = 1.0
PRELOAD: Final = [__name__, MEDIA, EARS, WORKER]

_context = multiprocessing.get_context("forkserver")


def prepare(modules: Sequence[str] = PRELOAD) -> None:
    """Start the fork server, which loads its modules while we load ours; call it as early as possible.

    One thread per linear algebra call: the planes share the cores among themselves. All open files that we may have: a
    shell allows 1024, and connections to the HTTP endpoint could use them up.
    """
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports its use otherwise
    _context.set_forkserver_preload(list(modules))
    _ensure_fork_server()


def _ensure_fork_server() -> None:
    """Start the fork server unless it runs.

    `timeout`, a closed terminal and some supervisors signal the whole process group: that is ours alone to handle, or
    the calls that we drain would lose their planes. The fork server inherits what is blocked now; the resource tracker
    goes before it, because its start unblocks SIGTERM.
    """
    multiprocessing.resource_tracker.ensure_running()
    outside = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, outside)


async def loaded() -> None:
    """Return when the fork server has loaded its modules: to start a plane earlier would hold up the event loop."""
    first = _context.Process(target=_nothing, daemon=True)
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(first.join)


def _nothing() -> None:
    pass


def persist(name: str, start: Callable[[], None]) -> None:
    """Call `start` now, and each second again while we lack what a child needs (EMFILE, EAGAIN, ENOMEM)."""
    try:
        start()
    except (OSError, EOFError) as error:  # EOFError: the fork server died meanwhile; the next attempt starts another
        log.error("process cannot be started, trying again", name=name, problem=str(error) or type(error).__name__)
        asyncio.get_running_loop().call_later(AGAIN_AFTER_S, persist, name, start)


class Transferable:
    """A file descriptor as an argument of `Plane`; the entry receives the number of its own copy."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _detach, (DupFd(self.fd),)


def _detach(duplicate: Any) -> int:
    number: int = duplicate.detach()
    return number


class Plane:
    """A child process that runs the function `run` of the module `entry`.

    `on_exit` is called with its exit code as soon as it is gone. The module is named, not imported: it is the child's
    business to load models and codecs.
    """

    def __init__(self, name: str, entry: str, arguments: tuple[Any, ...], on_exit: Callable[[int], None]) -> None:
        self.name = name
        _ensure_fork_server()  # the start would do it as well, with signals for the group let through
        self._process = _context.Process(target=_run, args=(name, entry, arguments), name=name, daemon=True)
        self._process.start()
        for argument in arguments:
            if isinstance(argument, socket.socket):
                argument.close()
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._process.sentinel, self._ended)
        self.gone = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid or 0

    def kill(self) -> None:
        """SIGKILL; `on_exit` follows."""
        if not self.gone.is_set():
            self._process.kill()

    def _ended(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self.gone.set()
        self._on_exit(self._process.exitcode or 0)


def _run(name: str, entry: str, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the parent's to handle
    os.setpgrp()  # and so is every signal for the group
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_NAME, name.encode()[:15])
    importlib.import_module(entry).run(*arguments)
