import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from sipagent.rtp.control import Latched, MediaProblem
from sipagent.rtp.io_epoll import EpollIo
from sipagent.rtp.latch import CANDIDATES, SourcePolicy
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.sockets import Datagram, RowSockets
from tests.rtp.line import FAR_END, Line, marked, packets_heard, rtp, talk

NAT = (FAR_END, 61000)
STRANGER = ("198.51.100.66", 4000)


def stranger(line: Line, source: tuple[str, int], *packets: bytes) -> None:
    line.sockets.datagrams.extend(Datagram(0, False, packet, source) for packet in packets)
    line.tick()


def test_media_goes_to_the_address_of_the_sdp_at_once() -> None:
    line = Line().open()
    line.run_ms(40)
    assert line.sockets.connected == {0: (FAR_END, 4000)}
    assert len(line.sent()) == 2


def test_a_source_behind_nat_is_latched_after_four_packets_and_all_of_them_are_heard() -> None:
    line = Line().open()
    stranger(line, NAT, *[rtp(n, 160 * n, marked(n)) for n in range(3)])
    assert line.sockets.connected == {0: (FAR_END, 4000)}
    assert line.counter("dropped_source") == 3
    stranger(line, NAT, rtp(3, 480, marked(3)))
    assert line.sockets.connected == {0: NAT}
    assert line.events_of(Latched) == [Latched(0, 1, *NAT)]
    assert [number for number in packets_heard(line) if number >= 0] == [0, 1, 2, 3]
    assert line.counter("latches") == 1 and line.counter("dropped_source") == 0


@pytest.mark.parametrize(
    "packets",
    [
        [rtp(n, 160 * n, payload_type=96) for n in range(20)],
        [rtp(7 * n, 160 * n) for n in range(20)],
        [rtp(n, 160 * n, ssrc=n) for n in range(20)],
        [b"no rtp at all"] * 20,
        [b""] * 20,
    ],
    ids=["unknown payload type", "numbers that jump", "sources that change", "noise", "nothing"],
)
def test_what_is_no_stream_is_never_latched(packets: list[bytes]) -> None:
    line = Line().open()
    stranger(line, NAT, *packets)
    assert line.sockets.connected == {0: (FAR_END, 4000)}
    assert line.counter("dropped_source") == 20
    assert line.counter("packets_received") == 0


def test_a_stranger_with_well_formed_packets_is_counted_not_heard_and_not_answered() -> None:
    line = Line().open()
    for n in range(50):
        stranger(line, STRANGER, rtp(n, 160 * n, marked(n)))
    assert line.counter("dropped_source") == 50
    assert line.sockets.connected == {0: (FAR_END, 4000)}
    assert not line.heard().any()


def test_once_the_sdp_address_is_heard_no_other_source_is_latched() -> None:
    line = Line().open()
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(5)])
    stranger(line, NAT, *[rtp(n, 160 * n, ssrc=8) for n in range(20)])
    assert line.events_of(Latched) == []


def test_a_latched_source_is_kept_until_the_next_exchange() -> None:
    line = Line().open()
    stranger(line, NAT, *[rtp(n, 160 * n) for n in range(4)])
    stranger(line, (FAR_END, 62000), *[rtp(n, 160 * n, ssrc=8) for n in range(20)])
    assert line.sockets.connected == {0: NAT}
    line.stream()  # the same address again: what was latched stays until another source shows itself
    assert line.sockets.connected == {0: NAT}
    stranger(line, (FAR_END, 62000), *[rtp(n, 160 * n, ssrc=8) for n in range(4)])
    assert line.sockets.connected == {0: (FAR_END, 62000)}


def test_a_stream_that_fell_silent_may_go_on_from_another_port() -> None:
    line = Line().open()
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(10)])
    line.run_ms(400)
    stranger(line, NAT, *[rtp(n, 160 * n) for n in range(30, 34)])
    assert line.sockets.connected == {0: NAT}


def test_of_two_ports_that_send_at_the_same_time_the_first_one_is_latched() -> None:
    line = Line().open()
    for n in range(20):
        if n < 4:
            stranger(line, NAT, rtp(n, 160 * n, marked(n)))
        else:  # the kernel steers it to the connected socket
            line.arrive(rtp(n, 160 * n, marked(n)))
        stranger(line, (FAR_END, 62000), rtp(500 + n, 160 * n, marked(50), ssrc=8))
        line.run_ms(15)
    assert line.events_of(Latched) == [Latched(0, 1, *NAT)]
    assert [number for number in packets_heard(line) if number >= 0] == list(range(20))
    assert line.counter("dropped_source") == 20


def test_ports_without_end_take_no_room_and_do_not_keep_a_caller_from_being_heard() -> None:
    policy = SourcePolicy((FAR_END, 4000), frozenset({FAR_END}), frozenset({0}), 4)
    for n in range(1000):
        policy.stranger((FAR_END, 10000 + n), rtp(n, 160 * n), n, heard_ns=0, continues=False)
    assert len(policy._candidates) == CANDIDATES
    for n in range(4):
        packets = policy.stranger(NAT, rtp(n, 160 * n), 1000 + n, heard_ns=0, continues=False)
    assert packets is not None and len(packets) == 4


def test_a_probation_that_takes_too_long_begins_anew() -> None:
    line = Line().open()
    stranger(line, NAT, *[rtp(n, 160 * n) for n in range(3)])
    line.run_ms(3500)
    stranger(line, NAT, rtp(3, 480))
    assert line.events_of(Latched) == []


def test_another_address_in_the_sdp_moves_the_media() -> None:
    line = Line().open()
    line.stream(remote_address="192.0.2.77")
    assert line.sockets.connected == {0: ("192.0.2.77", 4000)}


def test_an_address_of_zero_is_hold() -> None:
    line = Line().open()
    line.run_ms(60)
    line.stream(remote_address="0.0.0.0")
    line.run_ms(100)
    assert len(line.sent()) == 3
    assert line.events_of(MediaProblem) == []


@pytest.mark.parametrize("source", [(FAR_END, 4000), NAT], ids=["as its SDP says", "behind a NAT"])
def test_a_far_end_that_held_by_an_address_of_zero_is_where_it_was(source: tuple[str, int]) -> None:
    line = Line().open()
    if source == NAT:
        stranger(line, NAT, *[rtp(n, 160 * n) for n in range(4)])
    line.stream(remote_address="0.0.0.0")
    assert line.plane._far_ends.remote(0) == source
    line.run_ms(1000)
    line.stream()
    assert line.plane._far_ends.remote(0) == source and line.sockets.connected == {0: source}


@pytest.fixture
def sockets() -> Iterator[RowSockets]:
    made = RowSockets(MediaOptions(first_port=22500, rows=2))
    yield made
    made.close_all()


def far(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    return sock


def test_the_kernel_steers_the_far_end_to_the_connected_socket_and_strangers_to_the_listening_one(
    sockets: RowSockets,
) -> None:
    sockets.open(0)
    with far(22550) as friend, far(22552) as other:
        connected = sockets.connect(0, ("127.0.0.1", 22550))
        assert connected is not None
        for _ in range(20):
            friend.sendto(b"friend", ("127.0.0.1", 22500))
            other.sendto(b"stranger", ("127.0.0.1", 22500))
        other.sendto(b"rtcp", ("127.0.0.1", 22501))
        slow = sockets.receive()
        assert {item.data for item in slow} == {b"stranger", b"rtcp"} and len(slow) == 21
        assert {item.rtcp for item in slow if item.data == b"rtcp"} == {True}
        io = EpollIo(np.zeros((2, 512), np.uint8))
        io.add(0, connected)
        (batch,) = io.receive()
        assert len(batch) == 8  # one packet per socket and pass, 8 passes a tick
        assert batch.data[0, :6].tobytes() == b"friend"
        io.close()


def test_stale_packets_are_drained_when_a_row_is_opened(sockets: RowSockets) -> None:
    with far(22550) as sender:
        for _ in range(5):
            sender.sendto(b"old", ("127.0.0.1", 22502))
        assert sockets.open(1) == 5
        assert sockets.receive() == []


def test_a_port_that_another_process_holds_is_reported_as_missing() -> None:
    with far(22510):
        made = RowSockets(MediaOptions(first_port=22508, rows=3))
        assert made.ports == (22508, 0, 22512)
        made.close_all()


def test_a_far_end_that_refuses_packets_ends_nothing(sockets: RowSockets) -> None:
    sockets.open(0)
    connected = sockets.connect(0, ("127.0.0.1", 22599))
    assert connected is not None
    io = EpollIo(np.ones((2, 512), np.uint8))
    io.add(0, connected)
    for _ in range(5):
        io.send(np.array([0]), np.array([172]))
        time.sleep(0.002)
        assert io.receive() == []
    assert set(io.take_errors().tolist()) <= {0}
    with far(22599) as late:
        late.settimeout(1)
        io.send(np.array([0]), np.array([172]))
        io.send(np.array([0]), np.array([172]))
        assert len(late.recv(600)) == 172
    io.close()
