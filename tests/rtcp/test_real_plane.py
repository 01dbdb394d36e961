"""One real process and real sockets, epoll and io_uring: SRTP both ways, SRTCP, keys that come late."""

import os
import socket
import time
from collections.abc import Iterator

import pytest
from pylibsrtp import Policy, Session

from sipagent.rtp.control import CloseRow, FirstPacket, OpenRow, RowClosed, SetStream, SrtpKeys
from sipagent.rtp.rtcp_packet import Goodbye, Report, parse
from tests.rtp import test_process
from tests.rtp.line import PCMU, marked, rtp
from tests.rtp.test_process import Plane
from tests.support.ports import free_port

PROFILE = "AES_CM_128_HMAC_SHA1_80"


@pytest.fixture(params=["epoll", "io_uring"])
def plane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    monkeypatch.setattr(test_process, "PORT", free_port(count=4))
    made = Plane(request.param)
    made.event()
    yield made
    made.close()


@pytest.mark.parametrize("shared", [False, True])
def test_an_encrypted_call_is_carried_over_real_sockets(plane: Plane, shared: bool) -> None:
    port, far_port = test_process.PORT, free_port(count=2)
    keys = SrtpKeys(PROFILE, os.urandom(30), os.urandom(30))
    ours = Session(Policy(keys.remote, Policy.SSRC_ANY_OUTBOUND))
    theirs = Session(Policy(keys.local, Policy.SSRC_ANY_INBOUND))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far_control,
    ):
        far.bind(("127.0.0.1", far_port))
        far_control.bind(("127.0.0.1", far_port + 1))
        far.settimeout(2)
        far_control.settimeout(8)
        plane.send(OpenRow(0, 1, worker=0))
        deadline = time.monotonic() + 5
        while not plane.table.active[0] and time.monotonic() < deadline:
            time.sleep(0.001)
        for number in range(1, 4):  # these outrun the key
            far.sendto(ours.protect(rtp(number, 160 * number, marked(number))), ("127.0.0.1", port))
        time.sleep(0.01)
        rtcp_port = 0 if shared else far_port + 1
        plane.send(SetStream(0, 1, "127.0.0.1", far_port, PCMU, (PCMU,), rtcp_port=rtcp_port, srtp=keys))
        for number in range(4, 12):
            secret = ours.protect(rtp(number, 160 * number, marked(number)))
            for data in (secret, secret, rtp(number + 50, 160 * number, marked(99))):
                far.sendto(data, ("127.0.0.1", port))
            time.sleep(0.02)
        assert plane.event() == FirstPacket(0, 1, "127.0.0.1", far_port)
        clear = [theirs.unprotect(far.recv(600)) for _ in range(5)]
        assert {len(packet) for packet in clear} == {172}
        plane.send(CloseRow(0, 1))
        closed = plane.event()
        assert isinstance(closed, RowClosed)
        assert closed.counters["packets_received"] == 11, "three of them had outrun the key"
        assert closed.counters["dropped_replay"] == closed.counters["dropped_auth"] == 8
        if shared:
            last = b""
            while not (last and 192 <= last[1] <= 223):
                last = far.recv(600)
        else:
            last = far_control.recv(600)
        goodbye = parse(theirs.unprotect_rtcp(last))
        assert goodbye is not None and isinstance(goodbye[0], Report) and isinstance(goodbye[-1], Goodbye)
        assert goodbye[0].blocks[0].highest_sequence == 11
