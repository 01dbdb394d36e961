"""One contender under so many calls: set up, talk, hang up, and count."""

import asyncio
import os
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.loadgen import Compiled
from bench.peers import processes, talker
from bench.peers.caller import Call, Caller
from bench.peers.contenders import HOST, Contender, UnableError, last_line, running

CALLS_PER_S: Final = 20.0
IDLE_S: Final = 2.0
SETTLE_S: Final = 15.0  # at most, until a start has left nothing behind …
SETTLED_PERCENT: Final = 2.0  # … that is: two seconds cost the same
WARM_UP_S: Final = 4.0  # of talking: buffers settle, delays are learned


@dataclass(frozen=True, slots=True)
class Row:
    """What one run showed; `problem` says why there is nothing else, or what to know about it."""

    peer: str
    version: str
    kind: str
    calls: int
    problem: str = ""
    failed_calls: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    cpu_percent_per_call: float = 0.0  # of one core, less what it costs without calls
    idle_cpu_percent: float = 0.0
    cpu_percent_by_process: dict[str, float] = field(default_factory=dict)
    kilobytes_per_call: float = 0.0
    idle_megabytes: float = 0.0
    threads: int = 0
    answer_ms_p95: float = 0.0
    last_words: str = ""  # of its log, when calls failed
    heard: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


async def measure(contender: Contender, calls: int, seconds: float, cache: Path, compiled: Compiled) -> Row:
    """A row for this contender and number of calls; whatever it cannot do stands in the row."""
    row = Row(contender.name, contender.version, contender.kind, calls)
    if calls > contender.most_calls:
        return _with(row, problem=f"takes {contender.most_calls} calls at most (fixed when its wheel was built)")
    with TemporaryDirectory(prefix="sipagent-peers-") as folder:
        try:
            async with running(contender, calls, cache, Path(folder)) as (pid, caller):
                row = await _talk(row, pid, caller, seconds, compiled, Path(folder))
            return _with(row, last_words=last_line(Path(folder) / "log")) if row.failed_calls else row
        except UnableError as problem:
            return _with(row, problem=str(problem))


async def _talk(row: Row, pid: int, caller: Caller, seconds: float, compiled: Compiled, folder: Path) -> Row:
    idle = await _settle(pid)
    idle_bytes = sum(map(processes.resident_bytes, processes.tree(pid)))
    placed = await _place(caller, row.calls)
    talking = [call for call in placed if not call.failure]
    busy: dict[int, float] = {}
    heard = None
    members = threads = busy_bytes = 0
    if talking:
        (folder / "loop.ulaw").write_bytes(talker.loop())
        speech = await asyncio.create_subprocess_exec(
            compiled.program("talker"),
            str(folder / "loop.ulaw"),
            str(WARM_UP_S + seconds),
            *(str(call.rtp.fileno()) for call in talking),
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[call.rtp.fileno() for call in talking],
        )
        records = asyncio.create_task(speech.communicate())
        await asyncio.sleep(WARM_UP_S)
        before, began, begin_ns = processes.costs(pid), time.monotonic(), time.time_ns()
        await asyncio.sleep(seconds - 0.2)
        busy, end_ns = _percent(before, processes.costs(pid), time.monotonic() - began), time.time_ns()
        busy_bytes = sum(map(processes.resident_bytes, processes.tree(pid)))
        members, threads = len(list(processes.tree(pid))), processes.threads(pid)
        output, _ = await records
        heard = talker.analyse(talker.read(output), len(talking), begin_ns, end_ns)
    names = {member: processes.name(member) for member in busy}
    await asyncio.gather(*(caller.bye(call) for call in placed))
    for call in placed:
        call.rtp.close()
    failures: dict[str, int] = {}
    for call in placed:
        if call.failure:
            failures[call.failure] = failures.get(call.failure, 0) + 1
    by_process: dict[str, float] = {}
    for member, percent in busy.items():
        by_process[names[member]] = round(by_process.get(names[member], 0) + percent - idle.get(member, 0), 3)
    count = max(1, len(talking))
    answered = sorted(call.answered_s * 1000 for call in talking)
    gone = "it died under the calls" if talking and not members else ""
    return _with(
        row,
        problem=gone or ("" if talking else "no call was answered"),
        failed_calls=sum(failures.values()) + (heard.silent_calls if heard else 0),
        failures=failures | ({"no RTP came back": heard.silent_calls} if heard and heard.silent_calls else {}),
        cpu_percent_per_call=round((sum(busy.values()) - sum(idle.values())) / count, 4),
        idle_cpu_percent=round(sum(idle.values()), 2),
        cpu_percent_by_process=by_process,
        kilobytes_per_call=round((busy_bytes - idle_bytes) / 1024 / count, 1),
        idle_megabytes=round(idle_bytes / 2**20, 1),
        threads=threads,
        answer_ms_p95=round(answered[int(0.95 * (len(answered) - 1))], 1) if answered else 0.0,
        heard=heard.as_dict() if heard else {},
    )


async def _settle(pid: int) -> dict[int, float]:
    """CPU of each process without calls, in percent, once it does not change any more."""
    last = float("inf")
    until = time.monotonic() + SETTLE_S
    while True:
        before, began = processes.costs(pid), time.monotonic()
        await asyncio.sleep(IDLE_S)
        idle = _percent(before, processes.costs(pid), time.monotonic() - began)
        if abs(sum(idle.values()) - last) < SETTLED_PERCENT or time.monotonic() > until:
            return idle
        last = sum(idle.values())


async def _place(caller: Caller, calls: int) -> list[Call]:
    """All calls, so many a second, each with its own RTP socket."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def place(number: int) -> Call:
        await asyncio.sleep(began + number / CALLS_PER_S - loop.time())
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtp.setblocking(False)
        os.set_inheritable(rtp.fileno(), True)
        rtp.bind((HOST, 0))
        return await caller.invite(number + 1, rtp)

    return list(await asyncio.gather(*(place(number) for number in range(calls))))


def _percent(before: dict[int, float], after: dict[int, float], took_s: float) -> dict[int, float]:
    return {pid: 100 * (cpu_s - before.get(pid, 0.0)) / took_s for pid, cpu_s in after.items()}


def _with(row: Row, **changes: Any) -> Row:
    return Row(**(row.as_dict() | changes))
