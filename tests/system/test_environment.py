"""What the machine does to a service: logs that nobody reads, ports and open files that are not to be had, stops."""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from sipagent.service import planes, workers
from sipagent.service.config import load
from sipagent.service.supervisor import serve
from sipagent.service.worker.settings import WorkerSettings
from tests.support.ports import free_port
from tests.support.service import BASE, ROOT, Service, service, workers_ready

ECHO = '[[route]]\nbrain = "line_brains:Plain"\npipeline = "echo"\n'
PORTS = 16


def written(folder: Path, first: int, more: str = "", address: str = "127.0.0.1") -> tuple[Path, int]:
    """A configuration file with an echo for everybody, and its SIP port."""
    folder.mkdir(parents=True, exist_ok=True)
    sip_port = free_port(tcp=True)
    text = BASE.format(sip_port=sip_port, first=first, last=first + PORTS - 2, folder=folder, media="")
    text = text.replace('[media]\naddress = "127.0.0.1"', f'[media]\naddress = "{address}"')
    (folder / "sipagent.toml").write_text(text + ECHO + more)
    return folder / "sipagent.toml", sip_port


async def launched(config: Path, stderr: int, files: int = 0) -> asyncio.subprocess.Process:
    limit = ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh") if files else ()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support" / "brains")}
    environment |= {"SIPAGENT__LIMITS__MAX_PACING_MS": "0", "SIPAGENT__LIMITS__MAX_CALLS": "4"}
    return await asyncio.create_subprocess_exec(
        *limit, sys.executable, "-m", "sipagent", "serve", "--config", str(config),
        stdout=stderr, stderr=stderr, env=environment, cwd=config.parent, process_group=0,
    )  # fmt: skip


@asynccontextmanager
async def started(folder: Path, stderr: int) -> AsyncIterator[Service]:
    """A service whose log goes to `stderr`, once it is ready."""
    first = free_port(count=PORTS)
    config, sip_port = written(folder, first)
    agent = Service(folder, sip_port, range(first, first + PORTS), await launched(config, stderr))
    try:
        async with asyncio.timeout(20):
            while True:
                with suppress(Exception):
                    if (await agent.http.get("/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.1)
        await workers_ready(agent)
        yield agent
    finally:
        with suppress(ProcessLookupError):
            agent.process.kill()
        await agent.process.wait()
        await agent.http.aclose()


async def refused(folder: Path, first: int, address: str = "127.0.0.1") -> str:
    """What a service says that does not start."""
    config, _ = written(folder, first, address=address)
    with (folder / "service.log").open("wb") as log:
        process = await launched(config, log.fileno())
    try:
        assert await asyncio.wait_for(process.wait(), 20) == 1
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return (folder / "service.log").read_text()


async def restarted(agent: Service) -> None:
    """Kill the worker and the media plane; return when others have taken their places."""
    health = await agent.health()
    before = {health["workers"][0]["pid"], health["planes"][0]["media"]}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while True:
            health = await agent.health()
            worker, plane = health["workers"][0], health["planes"][0]
            if worker["ready"] and plane["ready"] and not {worker["pid"], plane["media"]} & before:
                return
            await asyncio.sleep(0.1)


async def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    try:
        async with started(tmp_path, writer) as agent:
            await restarted(agent)
            agent.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(agent.process.wait(), 10) == 0
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_log_whose_reader_has_gone_costs_no_process(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        async with started(tmp_path, writer) as agent:
            os.close(reader)
            await restarted(agent)
            agent.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(agent.process.wait(), 10) == 0
    finally:
        os.close(writer)


async def test_an_address_that_is_not_ours_is_told_and_ends_the_start(tmp_path: Path) -> None:
    assert "media.address: no RTP port of 192.0.2.7" in await refused(tmp_path, free_port(count=PORTS), "192.0.2.7")


async def test_ports_that_are_all_taken_are_told_and_end_the_start(tmp_path: Path) -> None:
    first = free_port(count=PORTS)
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(PORTS)]
    try:
        for port, other in enumerate(others, first):
            other.bind(("127.0.0.1", port))
        assert "media.ports: no RTP port of 127.0.0.1" in await refused(tmp_path, first)
    finally:
        for other in others:
            other.close()


async def test_with_few_open_files_there_are_fewer_rows(tmp_path: Path) -> None:
    config, _ = written(tmp_path, free_port(count=PORTS))
    with (tmp_path / "service.log").open("wb") as log:
        process = await launched(config, log.fileno(), files=64 + 3 * 5)
    try:
        async with asyncio.timeout(20):
            while '"event": "listening"' not in (text := (tmp_path / "service.log").read_text()):
                assert process.returncode is None, text
                await asyncio.sleep(0.1)
        assert '"ports": 5, "of": 8, "problem": "Too many open files"' in text
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()


def family(parent: int) -> list[int]:
    """A process and all that it started."""
    children = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout.split()
    return [parent, *(pid for child in children for pid in family(int(child)))]


async def test_after_a_stop_of_the_whole_host_no_worker_is_taken_for_stuck(tmp_path: Path) -> None:
    async with service(tmp_path, ECHO + "[conversation]\nstuck_seconds = 2\n") as agent:
        await workers_ready(agent)
        everybody = family(agent.process.pid)
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(4)
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(2.5)
        health = await agent.health()
        assert health["workers"][0]["restarts"] == 0 and health["planes"][0]["restarts"] == 0


async def test_a_killed_fork_server_is_replaced_by_one_that_leaves_signals_to_us_as_well(tmp_path: Path) -> None:
    async with service(tmp_path, ECHO) as agent:
        await workers_ready(agent)
        health = await agent.health()
        worker = health["workers"][0]["pid"]
        os.kill(int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
        async with asyncio.timeout(10):
            while (await agent.health())["workers"][0]["restarts"] == 0:
                await asyncio.sleep(0.05)
        await workers_ready(agent)
        health = await agent.health()
        worker = health["workers"][0]["pid"]
        server = int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(server, signal.SIGTERM)
        os.kill(server, signal.SIGHUP)
        await asyncio.sleep(0.5)
        assert (await agent.health())["workers"][0]["pid"] == worker


async def test_a_service_that_is_still_starting_stops_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, never = asyncio.Event(), asyncio.Event()

    async def loaded() -> None:
        waiting.set()
        await never.wait()

    monkeypatch.setattr(planes, "loaded", loaded)
    path, _ = written(tmp_path, free_port(count=PORTS))
    config, problems = load.read(path, {"SIPAGENT__LIMITS__MAX_CALLS": "4"})
    assert not problems
    serving = asyncio.create_task(serve(config))
    try:
        await asyncio.wait_for(waiting.wait(), 10)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(asyncio.shield(serving), 10)
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def test_a_process_that_cannot_be_started_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "AGAIN_AFTER_S", 0.01)
    attempts: list[int] = []
    done = asyncio.Event()
    problems: list[type[Exception]] = [OSError, EOFError]

    def start() -> None:
        attempts.append(len(attempts))
        if problems:
            raise problems.pop()
        done.set()

    begin: Callable[[str, Callable[[], None]], None] = planes.persist
    begin("worker", start)
    await asyncio.wait_for(done.wait(), 5)
    assert attempts == [0, 1, 2]


async def test_a_worker_that_never_gets_ready_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PING_EVERY_S", 0.01)
    monkeypatch.setattr(workers, "START_S", 0.05)
    killed = asyncio.Event()
    settings = cast("WorkerSettings", None)
    pool = workers.WorkerPool(1, settings, 15.0, workers.WorkerHandlers(print, print, print))
    pool.workers[0].plane = cast("planes.Plane", SimpleNamespace(kill=killed.set))
    watching = asyncio.create_task(pool.watch())
    try:
        await asyncio.wait_for(killed.wait(), 5)
    finally:
        watching.cancel()
        for worker in pool.workers:
            os.close(worker.wake_fd)
