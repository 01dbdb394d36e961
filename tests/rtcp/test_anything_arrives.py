"""Nothing that arrives, by whichever way, stops the plane or is heard where it must not be."""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sipagent.rtp.control import SrtpKeys
from sipagent.rtp.sockets import Datagram
from tests.rtp.line import FAR_END, Line

KINDS = st.sampled_from([0x00, 0x80, 0xC8, 0xC9, 0xCA, 0xCB, 0xCF, 0x65, 0x0D])
SHAPED = st.tuples(st.integers(0x80, 0xBF), KINDS, st.binary(max_size=250))
DATA = st.binary(max_size=250) | SHAPED.map(lambda parts: bytes(parts[:2]) + parts[2])
WAYS = st.sampled_from(["connected", "listening", "control", "stranger"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(WAYS, st.integers(0, 2), DATA), max_size=60))
def test_any_datagram_on_any_socket_leaves_the_plane_alive_and_secured_rows_untouched(
    arriving: list[tuple[str, int, bytes]],
) -> None:
    line = Line(rows=4, rtcp_interval_ms=200)
    keys = SrtpKeys("AES_CM_128_HMAC_SHA1_80", os.urandom(30), os.urandom(30))
    line.open(0, rtcp_port=4001).open(1, srtp=keys, rtcp_port=0).open(2, rtcp_port=0)
    for way, row, data in arriving:
        if way == "connected":
            line.arrive(data, row=row)
        else:
            source = ("198.51.100.9" if way == "stranger" else FAR_END, 4000 + (way == "control"))
            line.sockets.datagrams.append(Datagram(row, way == "control", data, source))
        line.tick(2)
    line.run_ms(500)
    assert line.table.active[:3].all()
    assert line.counter("packets_received", 1) == 0 and not line.heard(1).any()
    assert len(line.sent(2)) > 20
