"""Both packet engines under the same tests, over real sockets."""

import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.rtp import io_epoll, io_uring, process
from sipagent.rtp.io import PacketIo
from sipagent.rtp.io_epoll import EpollIo
from sipagent.rtp.io_uring import UringIo
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import Batch
from sipagent.rtp.sockets import RowSockets
from tests.rtp.line import rtp

FIRST = 22700


class Rig:
    def __init__(self, make: Callable[[NDArray[np.uint8]], PacketIo]) -> None:
        self.packets = np.zeros((4, 512), np.uint8)
        self.packets[:] = np.arange(4)[:, None]
        self.io = make(self.packets)
        self.sockets = RowSockets(MediaOptions(first_port=FIRST, rows=4))
        self.far = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
        for row, sock in enumerate(self.far):
            sock.settimeout(2)
            sock.bind(("127.0.0.1", FIRST + 20 + row))
            self.connect(row, FIRST + 20 + row)

    def connect(self, row: int, port: int) -> None:
        self.io.remove(row)
        sock = self.sockets.connect(row, ("127.0.0.1", port))
        assert sock is not None
        self.io.add(row, sock)

    def say(self, row: int, data: bytes) -> None:
        self.far[row].sendto(data, ("127.0.0.1", FIRST + 2 * row))

    def receive(self, count: int) -> list[tuple[int, bytes]]:
        got: list[tuple[int, bytes]] = []
        until = time.monotonic() + 2
        while len(got) < count and time.monotonic() < until:
            for batch in self.io.receive():
                got.extend(unpack(batch))
        return got

    def close(self) -> None:
        self.io.close()
        self.sockets.close_all()
        for sock in self.far:
            sock.close()


def unpack(batch: Batch) -> list[tuple[int, bytes]]:
    assert batch.data.shape[1] % 4 == 0
    each = zip(batch.rows.tolist(), batch.data, batch.length.tolist(), strict=True)
    return [(row, data[:length].tobytes()) for row, data, length in each]


@pytest.fixture(params=["epoll", "io_uring"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    try:
        made = Rig(EpollIo if request.param == "epoll" else UringIo)
    except OSError as error:
        pytest.skip(f"this kernel or container gives us no io_uring: {error}")
    yield made
    made.close()


def test_packets_arrive_with_their_row_and_in_their_order(rig: Rig) -> None:
    for number in range(5):
        for row in range(4):
            rig.say(row, rtp(number, row))
    got = rig.receive(20)
    assert len(got) == 20
    for row in range(4):
        assert [data for at, data in got if at == row] == [rtp(number, row) for number in range(5)]


def test_datagrams_of_any_length_are_survived(rig: Rig) -> None:
    sizes = [0, 1, 11, 12, 13, 172, 1000]
    for size in sizes:
        rig.say(0, b"x" * size)
    rig.say(0, b"x" * 1400)
    got = [len(data) for _, data in rig.receive(7) if data]  # an empty one need not be told of
    assert got[:6] == sizes[1:]


def test_the_packet_buffers_are_sent_at_their_length(rig: Rig) -> None:
    rig.io.send(np.array([0, 2]), np.array([172, 252]))
    rig.io.send(np.array([1]), np.array([12]))
    assert rig.far[0].recv(600) == bytes([0]) * 172
    assert rig.far[2].recv(600) == bytes([2]) * 252
    assert rig.far[1].recv(600) == bytes([1]) * 12


def test_a_packet_of_its_own_can_be_sent(rig: Rig) -> None:
    rig.io.send_one(3, b"event")
    assert rig.far[3].recv(600) == b"event"


def test_a_row_without_a_socket_sends_nothing_and_hears_nothing(rig: Rig) -> None:
    rig.io.remove(1)
    rig.sockets.close(1)
    rig.io.send(np.array([0, 1, 2]), np.full(3, 20))
    rig.io.send_one(1, b"lost")
    assert len(rig.far[0].recv(600)) == len(rig.far[2].recv(600)) == 20
    rig.far[1].settimeout(0.05)
    with pytest.raises(TimeoutError):
        rig.far[1].recv(600)
    rig.say(1, b"anyone?")
    rig.say(0, b"yes")
    assert rig.receive(1) == [(0, b"yes")]


def test_a_row_may_move_to_another_far_end_as_often_as_it_likes(rig: Rig) -> None:
    for _ in range(20):
        rig.connect(0, FIRST + 21)
        rig.connect(0, FIRST + 20)
    rig.say(0, b"still here")
    assert rig.receive(1) == [(0, b"still here")]


def test_a_far_end_that_refuses_packets_is_heard_again_when_it_is_back(rig: Rig) -> None:
    port = FIRST + 20
    rig.far[0].close()
    for _ in range(5):
        rig.io.send(np.array([0]), np.array([172]))
        time.sleep(0.002)
        rig.io.receive()
    assert set(rig.io.take_errors().tolist()) <= {0}
    rig.far[0] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    rig.far[0].bind(("127.0.0.1", port))
    rig.far[0].settimeout(1)
    rig.say(0, b"back")
    assert rig.receive(1) == [(0, b"back")]
    rig.io.send(np.array([0]), np.array([172]))
    rig.io.send(np.array([0]), np.array([172]))
    assert len(rig.far[0].recv(600)) == 172


def test_many_more_packets_than_buffers_pass_through(rig: Rig) -> None:
    total = 0
    for _ in range(200):
        for number in range(50):
            rig.say(number % 4, b"%d" % number)
        total += len(rig.receive(50))
    assert total == 10_000


@pytest.mark.parametrize("make", [EpollIo, UringIo])
def test_what_came_while_the_tick_was_held_up_is_told_of_and_received_in_order(
    make: Callable[[NDArray[np.uint8]], PacketIo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_uring, "BUFFERS", 32)
    monkeypatch.setattr(io_epoll, "BATCH", 32)
    try:
        rig = Rig(make)
    except OSError as error:
        pytest.skip(f"this kernel or container gives us no io_uring: {error}")
    try:
        for number in range(40):
            for row in range(4):
                rig.say(row, rtp(number, row))
        got = []
        while not got or len(rig.io.waiting):
            got += [packet for batch in rig.io.receive() for packet in unpack(batch)]
        assert len(got) == 160
        for row in range(4):
            assert [data for at, data in got if at == row] == [rtp(number, row) for number in range(40)]
    finally:
        rig.close()


def test_a_row_that_moves_while_it_waits_for_buffers_listens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_uring, "BUFFERS", 32)
    try:
        rig = Rig(UringIo)
    except OSError as error:
        pytest.skip(f"this kernel or container gives us no io_uring: {error}")
    armed: list[int] = []
    arm = UringIo._arm
    monkeypatch.setattr(UringIo, "_arm", lambda io, rows: (armed.extend(rows.tolist()), arm(io, rows))[-1])
    try:
        for number in range(40):
            rig.say(0, rtp(number, 0))
        rig.io.receive()
        assert rig.io.waiting.tolist() == [0]
        rig.connect(0, FIRST + 20)
        while len(rig.io.waiting):
            rig.io.receive()
        assert armed.count(0) == 1
    finally:
        rig.close()


def test_epoll_takes_over_where_io_uring_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(entries: int, completions: int) -> None:
        raise PermissionError(1, "io_uring is disabled")

    monkeypatch.setattr(io_uring, "Ring", forbidden)
    for wanted in ("auto", "io_uring"):
        io = process.make_io(np.zeros((1, 512), np.uint8), wanted)
        assert io.name == "epoll"
        io.close()


def test_the_engine_that_was_asked_for_is_used_where_it_can_be() -> None:
    packets = np.zeros((1, 512), np.uint8)
    assert process.make_io(packets, "epoll").name == "epoll"
    try:
        UringIo(packets).close()
    except OSError as error:
        pytest.skip(f"this kernel or container gives us no io_uring: {error}")
    io = process.make_io(packets, "auto")
    assert io.name == "io_uring"
    io.close()
