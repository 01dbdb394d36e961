"""Datagrams for which a socket had no room, over real sockets: the plane ticks when the test says so."""

import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.rtp import io_uring
from sipagent.rtp import sockets as row_sockets
from sipagent.rtp.concealer import PitchConcealer
from sipagent.rtp.control import CloseRow, Event, MediaProblem, OpenRow, RowClosed, SetStream
from sipagent.rtp.io import PacketIo
from sipagent.rtp.io_epoll import EpollIo
from sipagent.rtp.io_uring import UringIo
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.plane import GAUGE_TURNS, SLOW_TICKS, MediaPlane
from sipagent.rtp.sockets import RowSockets
from sipagent.rtp.table import COUNTER, CallTable
from tests.rtp.line import PCMU, START_NS, TICK_NS, marked, rtp
from tests.support.ports import free_port

PORT = free_port(count=60)
HERE = "127.0.0.1"
A_SECOND = SLOW_TICKS * GAUGE_TURNS + SLOW_TICKS  # in ticks, after which every row has been looked at


class Rig:
    """A plane of two rows with room for a few packets only, and the far ends of row 0."""

    def __init__(self, make: Callable[[NDArray[np.uint8]], PacketIo]) -> None:
        table, options = CallTable.create(2)[0], MediaOptions(HERE, first_port=PORT, rows=2)
        self.events: list[Event] = []
        self.plane = MediaPlane(table, options, RowSockets(options), make, PitchConcealer(table), self.events.append)
        self.tick_number, self.now_ns = 0, START_NS
        self.far = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for index, sock in enumerate(self.far):
            sock.bind((HERE, PORT + 50 + index))

    def open(self, generation: int = 1) -> None:
        self.plane.handle(OpenRow(0, generation, 0), self.now_ns)
        self.name(0, generation)

    def name(self, far: int, generation: int = 1) -> None:
        self.plane.handle(SetStream(0, generation, HERE, PORT + 50 + far, PCMU, (PCMU,)), self.now_ns)

    def close(self, generation: int = 1) -> dict[str, int]:
        """The counters of the call's record."""
        self.plane.handle(CloseRow(0, generation), self.now_ns)
        return next(event.counters for event in reversed(self.events) if isinstance(event, RowClosed))

    def say(self, count: int, far: int = 0, first: int = 0) -> None:
        for number in range(first, first + count):
            self.far[far].sendto(rtp(number, 160 * number, marked(number), ssrc=far), (HERE, PORT))

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.tick_number += 1
            self.now_ns += TICK_NS
            self.plane.tick(self.tick_number, self.now_ns)

    def counter(self, name: str) -> int:
        return int(self.plane.table.counters[0, COUNTER[name]])

    def problems(self) -> list[str]:
        return [event.problem for event in self.events if isinstance(event, MediaProblem)]

    def shut_down(self) -> None:
        self.plane.shut_down()
        for sock in self.far:
            sock.close()


@pytest.fixture(params=[EpollIo, UringIo], ids=["epoll", "io_uring"])
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(row_sockets, "RECEIVE_BUFFER", 1 << 14)
    monkeypatch.setattr(io_uring, "BUFFERS", 32)
    try:
        made = Rig(request.param)
    except OSError as error:
        pytest.skip(f"this kernel or container gives us no io_uring: {error}")
    yield made
    made.shut_down()


def test_what_found_no_room_while_we_were_stopped_is_counted_to_the_packet_and_told_once(rig: Rig) -> None:
    rig.open()
    rig.tick()
    rig.say(400)
    rig.now_ns += 400_000_000
    rig.tick(A_SECOND)
    dropped = rig.counter("dropped_kernel")
    assert dropped > 300
    assert rig.counter("packets_received") == 400 - dropped
    assert rig.problems() == [f"the kernel dropped {dropped} packets of this call: too many came, or we were too slow"]
    rig.say(400, first=400)
    rig.tick(A_SECOND)
    assert rig.counter("dropped_kernel") > dropped
    assert len(rig.problems()) == 1


def test_a_flood_is_counted_to_the_packet_whoever_drops_it_and_told_of(rig: Rig) -> None:
    rig.open()
    for number in range(A_SECOND):
        rig.say(120, first=120 * number)
        rig.tick()
    rig.tick(A_SECOND)  # what waits has its turn
    counters = rig.close()
    dropped = counters["dropped_kernel"] + counters["dropped_flood"]
    assert dropped > 100 * A_SECOND
    assert counters["packets_received"] + dropped == 120 * A_SECOND
    assert rig.problems()


def test_the_record_of_a_call_has_what_was_dropped_to_its_end_from_every_far_end_it_had(rig: Rig) -> None:
    rig.open()
    rig.tick()
    for far in range(3):
        rig.name(far)
        rig.say(300, far)
        rig.tick(10)
    counters = rig.close()
    assert counters["packets_received"] < 300
    assert counters["packets_received"] + counters["dropped_kernel"] == 900


def test_the_next_call_of_the_row_begins_at_nothing(rig: Rig) -> None:
    rig.open()
    rig.say(300)
    rig.tick()
    assert rig.close()["dropped_kernel"] > 0
    rig.say(300)  # to the port, whose row is closed
    rig.open(generation=2)
    rig.say(5)
    rig.tick(A_SECOND)
    counters = rig.close(generation=2)
    assert (counters["packets_received"], counters["dropped_kernel"]) == (5, 0)
    assert len(rig.problems()) == 0


def test_strangers_who_fill_the_open_port_are_counted_too(rig: Rig) -> None:
    rig.open()
    rig.say(300, far=1)
    rig.tick(A_SECOND)
    counters = rig.close()
    assert counters["dropped_kernel"] > 200
    outcomes = ("dropped_kernel", "dropped_source", "packets_received")  # we go over to them: nobody else is heard
    assert sum(counters[outcome] for outcome in outcomes) == 300


def test_a_kernel_that_does_not_tell_leaves_the_count_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_sockets, "SO_MEMINFO", 12345)
    made = RowSockets(MediaOptions(HERE, first_port=PORT, rows=1))
    made.open(0)
    assert made.connect(0, (HERE, PORT + 50)) is not None
    assert made.take_dropped(np.array([0])).tolist() == [0]
    made.close_all()
