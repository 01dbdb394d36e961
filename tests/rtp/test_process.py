"""One real process with real sockets: that the parts are wired, and that it ends when it should."""

import multiprocessing
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sipagent.rtp import process
from sipagent.rtp.control import (
    CloseRow,
    Event,
    FirstPacket,
    MediaProblem,
    MediaReady,
    OpenRow,
    Play,
    Record,
    RecordingEnded,
    RowClosed,
    SetStream,
    Shutdown,
)
from sipagent.rtp.meters import Meters
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.playback import Playback
from sipagent.rtp.table import COUNTER, PLANE_COUNTER, CallTable
from tests.rtp.line import PCMU, marked, rtp
from tests.support.ports import free_port

PORT = free_port(count=60)


FAULTY_ONCE, FAULTY = 77, 78  # in a column of a worker, which nobody reads here


class Plane:
    def __init__(self, io: str = "epoll", address: str = "127.0.0.1") -> None:
        self.end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.settimeout(5)
        self.table, fd = CallTable.create(2)
        self.table.tx_gain[:] = 1.0
        self.worker_fd, self.ears_fd = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        options = MediaOptions(address, first_port=PORT, rows=2, io=io)
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=self._run, args=(theirs, fd, options))
        self.process.start()
        theirs.close()
        os.close(fd)

    def _run(self, theirs: socket.socket, fd: int, options: MediaOptions) -> None:
        self.end.close()
        process.run(theirs, fd, options, (self.worker_fd,), self.ears_fd)

    def send(self, command: Any) -> None:
        self.end.send(msgspec.msgpack.encode(command))

    def event(self) -> Any:
        return msgspec.msgpack.decode(self.end.recv(1 << 20), type=Event)

    def close(self) -> None:
        self.end.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        os.close(self.worker_fd)
        os.close(self.ears_fd)


@pytest.fixture(params=["epoll", "io_uring"])
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    made = Plane(request.param)
    yield made
    made.close()


def test_a_call_is_carried_over_real_sockets_from_open_to_close(plane: Plane) -> None:
    ready = plane.event()
    assert isinstance(ready, MediaReady) and ready.ports == (PORT, PORT + 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", PORT + 50))
        far.settimeout(2)
        plane.send(OpenRow(0, 1, worker=0))
        stream = SetStream(0, 1, "127.0.0.1", PORT + 50, PCMU, (PCMU,))
        plane.send(stream)
        first = far.recv(600)
        for number in range(5):
            far.sendto(rtp(number, 160 * number, marked(number)), ("127.0.0.1", PORT))
            time.sleep(0.02)
        assert plane.event() == FirstPacket(0, 1, "127.0.0.1", PORT + 50)
        assert len(first) == 172
        second = far.recv(600)
        assert int.from_bytes(second[2:4], "big") == (int.from_bytes(first[2:4], "big") + 1) % 65536
        assert plane.table.rx_head[0] >= 640
        woken = select.poll()
        for fd in (plane.worker_fd, plane.ears_fd):
            woken.register(fd, select.POLLIN)
        assert woken.poll(1000)
        plane.send(CloseRow(0, 1))
        closed = plane.event()
        assert isinstance(closed, RowClosed) and closed.counters["packets_received"] == 5
        assert plane.table.plane[PLANE_COUNTER["ticks"]] > 0
    plane.send(Shutdown())
    plane.process.join(5)
    assert plane.process.exitcode == 0


def ticks(plane: Plane) -> int:
    return int(plane.table.plane[PLANE_COUNTER["ticks"]])


def test_ticks_in_which_nothing_is_due_are_slept_through(plane: Plane) -> None:
    plane.event()
    sent = plane.table.counters[:, COUNTER["packets_sent"]]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", PORT + 50))
        far.settimeout(2)
        plane.send(OpenRow(0, 1, worker=0))
        plane.send(SetStream(0, 1, "127.0.0.1", PORT + 50, PCMU, (PCMU,)))
        far.recv(600)
        begun, packets = ticks(plane), int(sent[0])
        for _ in range(50):
            far.recv(600)
        worked = (ticks(plane) - begun) / (int(sent[0]) - packets)
        assert 1.5 < worked < 2.7, "of the four ticks of a packet time every second one is worked in"
        plane.send(CloseRow(0, 1))
        assert isinstance(plane.event(), RowClosed)
    published = []
    for _ in range(2):  # in every fourth tick; the first time it is one that was counted before
        begun = ticks(plane)
        while ticks(plane) == begun:
            time.sleep(0.01)
        published.append(time.monotonic())
    assert published[1] - published[0] > 0.1, "without a row the plane waits for commands"


def test_a_recording_is_closed_while_no_other_row_is_open(plane: Plane, tmp_path: Path) -> None:
    plane.event()
    path = str(tmp_path / "call.wav")
    for generation in range(1, 6):
        plane.send(OpenRow(0, generation, worker=0))
        plane.send(SetStream(0, generation, "127.0.0.1", PORT + 50, PCMU, (PCMU,)))
        plane.send(Record(0, generation, path))
        time.sleep(0.05 + 0.013 * generation)
        plane.send(CloseRow(0, generation))
        events = [plane.event(), plane.event()]
        assert any(isinstance(event, RecordingEnded) and event.path == path for event in events)


def test_the_process_ends_when_the_other_end_of_its_channel_is_gone(plane: Plane) -> None:
    plane.event()
    plane.end.close()
    plane.process.join(5)
    assert plane.process.exitcode == 0


def test_commands_that_make_no_sense_are_survived(plane: Plane) -> None:
    plane.event()
    plane.end.send(b"\xc1 no message")
    plane.send(CloseRow(0, 77))
    plane.send(CloseRow(4711, 1))
    plane.send(SetStream(1, 1, "127.0.0.1", 4000, PCMU, (PCMU,)))
    assert "4711" in plane.event().problem
    plane.send(Shutdown())
    plane.process.join(5)
    assert plane.process.exitcode == 0


class FaultyPlane(Plane):
    """A plane whose meters raise when a column says so, and whose prompts always do."""

    def _run(self, theirs: socket.socket, fd: int, options: MediaOptions) -> None:
        meters = Meters.on_tick

        def on_tick(self: Meters, tick: int) -> None:
            faulty = self._table.tx_audience[0]
            if faulty == FAULTY_ONCE:
                self._table.tx_audience[0] = 1
            if faulty in (FAULTY_ONCE, FAULTY):
                raise KeyError("of a meter")
            meters(self, tick)

        def play(self: Playback, command: Play, rate_hz: int) -> None:
            raise ValueError("no prompt")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Meters, "on_tick", on_tick)
            patch.setattr(Playback, "play", play)
            super()._run(theirs, fd, options)


@pytest.fixture
def faulty() -> Iterator[FaultyPlane]:
    plane = FaultyPlane()
    yield plane
    plane.close()


def test_what_one_command_or_tick_raises_is_told_and_the_calls_go_on(faulty: FaultyPlane) -> None:
    assert isinstance(faulty.event(), MediaReady)
    faulty.send(OpenRow(0, 1))
    faulty.send(Play(0, 1, "welcome.wav"))
    failed = faulty.event()
    assert isinstance(failed, MediaProblem) and (failed.row, failed.generation) == (0, 1)
    assert failed.problem.startswith("Play failed: ValueError('no prompt'), at test_process.py:")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", PORT + 50))
        far.settimeout(2)
        faulty.send(SetStream(0, 1, "127.0.0.1", PORT + 50, PCMU, (PCMU,)))
        numbers = [int.from_bytes(far.recv(600)[2:4], "big")]
        faulty.table.tx_audience[0] = FAULTY_ONCE
        failed = faulty.event()
        assert isinstance(failed, MediaProblem) and failed.row == -1
        assert failed.problem.startswith("a tick failed: KeyError('of a meter'), at test_process.py:")
        numbers += [int.from_bytes(far.recv(600)[2:4], "big") for _ in range(10)]
    assert numbers == [numbers[0] + count for count in range(11)]


def test_a_plane_whose_ticks_go_on_failing_ends(faulty: FaultyPlane) -> None:
    assert isinstance(faulty.event(), MediaReady)
    faulty.send(OpenRow(0, 1))
    faulty.table.tx_audience[0] = FAULTY
    faulty.process.join(5)
    assert faulty.process.exitcode == 1
