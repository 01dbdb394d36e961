"""The media plane over IPv6, real sockets and both packet engines: media, latching, reports, DSCP."""

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from sipagent.rtp.control import CloseRow, FirstPacket, Latched, OpenRow, RowClosed, SetStream
from sipagent.rtp.rtcp_packet import Goodbye, Report, ReportBlock, build, parse
from tests.rtp import test_process
from tests.rtp.line import PCMU, marked, rtp
from tests.rtp.test_process import Plane
from tests.support.ports import free_port

EXPEDITED = 46 << 2


@pytest.fixture(params=["epoll", "io_uring"])
def plane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    monkeypatch.setattr(test_process, "PORT", free_port(count=4))
    made = Plane(request.param, "::1")
    made.event()
    yield made
    made.close()


def far_end(port: int) -> socket.socket:
    far = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    far.bind(("::1", port))
    far.settimeout(5)
    return far


def test_a_call_is_carried_over_ipv6_with_reports_and_its_traffic_class(plane: Plane) -> None:
    port, far_port = test_process.PORT, free_port(count=2)
    with far_end(far_port) as far, far_end(far_port + 1) as far_control:
        far.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        plane.send(OpenRow(0, 1))
        # The address is written otherwise than the kernel writes it.
        plane.send(SetStream(0, 1, "0:0::0:1", far_port, PCMU, (PCMU,), rtcp_port=far_port + 1))
        first, ancillary, _, source = far.recvmsg(600, 100)
        assert source[:2] == ("::1", port) and len(first) == 172
        assert [struct.unpack("i", value)[0] for _, kind, value in ancillary] == [EXPEDITED]
        ssrc = int.from_bytes(first[8:12], "big")
        for number in range(10):
            far.sendto(rtp(number, 160 * number, marked(number)), ("::1", port))
            far.recv(600)
        assert plane.event() == FirstPacket(0, 1, "::1", far_port)
        block = ReportBlock(ssrc, 0, 3, 0, 0, 0, 0)
        far_control.sendto(build(Report(7, None, (block,))), ("::1", port + 1))
        for _ in range(4):
            far.recv(600)
        plane.send(CloseRow(0, 1))
        closed = plane.event()
        assert isinstance(closed, RowClosed)
        assert closed.counters["packets_received"] == 10 and closed.counters["dropped_source"] == 0
        assert closed.gauges["remote_loss_fraction"] > 0, "its report was read"
        goodbye = parse(far_control.recv(600))
        assert goodbye is not None and isinstance(goodbye[0], Report) and isinstance(goodbye[-1], Goodbye)
        assert goodbye[0].blocks[0].ssrc == 7 and goodbye[0].ssrc == ssrc


def test_a_source_behind_another_port_is_latched_over_ipv6(plane: Plane) -> None:
    port, said, real = test_process.PORT, free_port(count=2), free_port(count=2)
    with far_end(said), far_end(real) as far:
        plane.send(OpenRow(0, 1))
        plane.send(SetStream(0, 1, "::1", said, PCMU, (PCMU,), allowed=("::1",)))
        number, events = 0, []
        plane.end.settimeout(0.02)
        while len(events) < 2 and number < 250:
            far.sendto(rtp(number, 160 * number, marked(number)), ("::1", port))
            number += 1
            with contextlib.suppress(TimeoutError):
                events.append(plane.event())
        assert Latched(0, 1, "::1", real) in events and FirstPacket(0, 1, "::1", real) in events
        assert far.recv(600)[0] == 0x80, "media goes to where it comes from"
