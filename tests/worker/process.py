"""A real worker process with a real call table; the test is the media plane, the ears and the parent."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import MARKS, RX_RING, SPEECH_EVENTS, TX_RING, CallTable
from sipagent.service.channel import Channel, pair
from sipagent.service.messages import (
    Accept,
    CallEvent,
    Connected,
    Finished,
    FromWorker,
    Offer,
    Party,
    Ready,
    Talk,
    ToWorker,
)
from sipagent.service.planes import WORKER, Plane, Transferable, prepare
from sipagent.service.worker.settings import WorkerSettings

Message = TypeVar("Message")
PACKET = 160


class Parent:
    """The signalling plane's end of a worker."""

    def __init__(self, table: CallTable, wake_fd: int, index: int = 0) -> None:
        self.table, self.wake_fd = table, wake_fd
        self.heard: list[FromWorker] = []
        self.news = asyncio.Event()
        self.channel: Channel[FromWorker] | None = None
        self.plane: Plane | None = None
        self.exit_code: int | None = None

    def say(self, message: ToWorker) -> None:
        assert self.channel is not None
        self.channel.send(message)

    async def hear(
        self, kind: type[Message], accept: Callable[[Any], bool] = lambda message: True, seconds: float = 30.0
    ) -> Message:
        """The first message of a kind that is acceptable, heard or to come."""
        async with asyncio.timeout(seconds):
            while True:
                for message in self.heard:
                    if isinstance(message, kind) and accept(message):
                        return message
                self.news.clear()
                await self.news.wait()

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [message.data for message in self.heard if isinstance(message, CallEvent) and message.type == kind]

    async def transcript(self, contains: str, seconds: float = 20.0) -> dict[str, Any]:
        return await self.hear_line(lambda line: contains in line["text"], seconds)

    async def hear_line(self, accept: Callable[[dict[str, Any]], bool], seconds: float = 20.0) -> dict[str, Any]:
        event = await self.hear(CallEvent, lambda event: event.type == "transcript" and accept(event.data), seconds)
        return event.data

    async def connect(self, offer: Offer, *, answered: bool = True) -> "Line":
        """Offer a call, open its row, connect it (or, not `answered`, have early media); returns its line."""
        line = Line(self, offer.row, offer.generation)
        self.say(offer)
        accept = await self.hear(Accept, lambda message: message.call_id == offer.call_id)
        assert accept.early_media is not answered
        self.say(Connected(offer.call_id, 8000, answered))
        return line

    async def finished(self, call_id: str = "call-1") -> Finished:
        return await self.hear(Finished, lambda message: message.call_id == call_id)

    def _take(self, message: FromWorker) -> None:
        self.heard.append(message)
        self.news.set()


class Line:
    """A row's media plane and ears at real pace: 20 ms packets both ways."""

    def __init__(self, parent: Parent, row: int, generation: int) -> None:
        self.parent, self.row = parent, row
        table = self.table = parent.table
        table.generation[row], table.active[row], table.rate_hz[row] = generation, 1, 8000
        table.speech_generation[row], table.speech_count[row] = generation, 0
        self.voice: NDArray[np.int16] = np.zeros(0, np.int16)
        self.sent: list[NDArray[np.int16]] = []
        self._ears: list[int] = []
        self._task = asyncio.create_task(self._run())

    def hear(self, pcm: NDArray[np.int16]) -> None:
        """The caller says this now; the ears report where it begins and ends."""
        head = int(self.table.rx_head[self.row])
        self.voice = pcm
        self._ears = [head, head + len(pcm)]

    @property
    def speaking(self) -> bool:
        return bool(len(self.voice))

    def agent_audio(self) -> NDArray[np.int16]:
        return np.concatenate(self.sent) if self.sent else np.zeros(0, np.int16)

    async def agent_silent(self, seconds: float = 0.3) -> None:
        """Returns when the agent has said nothing for a while, having spoken before."""
        packets = int(seconds / 0.02)
        async with asyncio.timeout(30):
            while not any(p.any() for p in self.sent) or any(p.any() for p in self.sent[-packets:]):
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        self.table.active[self.row] = 0

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._packet()
            os.eventfd_write(self.parent.wake_fd, 1)
            due += 0.02
            await asyncio.sleep(due - loop.time())

    def _packet(self) -> None:
        table, row = self.table, self.row
        head = int(table.rx_head[row])
        pcm = np.zeros(PACKET, np.int16)
        part, self.voice = self.voice[:PACKET], self.voice[PACKET:]
        pcm[: len(part)] = part
        table.rx_pcm[row, (head + np.arange(PACKET)) % RX_RING] = pcm
        table.rx_head[row] = head + PACKET
        while self._ears and self._ears[0] <= head:
            count = int(table.speech_count[row])
            table.speech_at[row, count % SPEECH_EVENTS] = self._ears.pop(0)
            table.speech_count[row] = count + 1
        if table.tx_flush_to[row] > table.tx_flush_done[row]:
            table.tx_flush_at[row] = table.tx_read[row]
            table.tx_read[row] = max(table.tx_read[row], table.tx_flush_to[row])
            table.tx_flush_done[row] = table.tx_flush_to[row]
        read = int(table.tx_read[row])
        count = min(PACKET, int(table.tx_head[row]) - read)
        out = np.zeros(PACKET, np.int16)
        out[:count] = table.tx_pcm[row, (read + np.arange(count)) % TX_RING]
        self.sent.append(out)
        table.tx_read[row] = read + count
        table.tx_clock[row] += PACKET
        while table.mark_done[row] < table.mark_count[row]:
            number = int(table.mark_done[row])
            if table.mark_position[row, number % MARKS] > table.tx_read[row]:
                break
            table.mark_clock[row, number % MARKS] = table.tx_clock[row]
            table.mark_done[row] = number + 1


def offer(
    brain: str,
    pipeline: str = "cascaded",
    options: dict[str, Any] | None = None,
    brain_options: dict[str, Any] | None = None,
    call_id: str = "call-1",
    row: int = 0,
    **more: Any,
) -> Offer:
    party = Party("inbound", "+4930123", "Anna", "+4930456", "trunk")
    talk = Talk(brain, brain_options or {}, pipeline, options or {})
    return Offer(call_id, 0, row, row + 1, party, talk, {}, **more)


@asynccontextmanager
async def worker(*talks: Talk, brain_paths: tuple[str, ...] = (), rows: int = 4) -> AsyncIterator[Parent]:
    """A worker that is Ready; it is killed at the end if it has not left by itself."""
    table, fd = CallTable.create(rows)
    wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
    parent = Parent(table, wake_fd)
    prepare()
    ours, theirs = pair()
    settings = WorkerSettings(talks=talks, brain_paths=brain_paths, log_format="console")
    arguments = (theirs, 0, ((Transferable(fd), rows),), Transferable(wake_fd), settings)
    gone = asyncio.Event()

    def ended(code: int) -> None:
        parent.exit_code = code
        gone.set()
        parent.news.set()

    parent.plane = Plane("sipagent-worker-0", WORKER, arguments, ended)
    parent.channel = Channel[FromWorker](ours, FromWorker, parent._take, lambda: None)
    try:
        await parent.hear(Ready, seconds=60)
        yield parent
    finally:
        parent.channel.close()
        parent.plane.kill()
        await gone.wait()
        os.close(fd)
        os.close(wake_fd)
