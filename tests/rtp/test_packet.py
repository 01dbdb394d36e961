import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.rtp.packet import Batch, is_rtcp, parse, payloads
from tests.rtp.line import rtp


def batch(*packets: bytes, stride: int = 256) -> Batch:
    data = np.zeros((len(packets), stride), np.uint8)
    for index, packet in enumerate(packets):
        data[index, : len(packet)] = np.frombuffer(packet[:stride], np.uint8)
    return Batch(np.arange(len(packets)), data, np.array([len(packet) for packet in packets]))


def test_the_fields_of_a_plain_packet_are_read() -> None:
    it = batch(rtp(65535, 0xFFFFFFFF, b"abcd", ssrc=0xDEADBEEF, payload_type=8, marker=True))
    headers = parse(it.data, it.length)
    assert headers.valid.all()
    assert (headers.sequence[0], headers.timestamp[0], headers.ssrc[0]) == (65535, 0xFFFFFFFF, 0xDEADBEEF)
    assert headers.marker[0] and headers.payload_type[0] == 8
    assert payloads(it, headers, 4)[0].tobytes() == b"abcd"


def test_contributing_sources_extension_and_padding_are_left_out_of_the_payload() -> None:
    plain = bytearray(rtp(1, 2, b""))
    plain[0] = 0x80 | 0x20 | 0x10 | 2  # padding, extension, two CSRCs
    packet = bytes(plain) + b"C" * 8 + b"\xbe\xde\x00\x01" + b"EEEE" + b"voice" + b"\0\0\3"
    it = batch(packet)
    headers = parse(it.data, it.length)
    assert headers.valid[0] and headers.payload_length[0] == 5
    assert payloads(it, headers, 5)[0].tobytes() == b"voice"


def test_what_is_no_rtp_is_marked_and_nothing_is_raised() -> None:
    wrong_version = b"\x40" + rtp(1, 2)[1:]
    too_short = rtp(1, 2, b"")[:11]
    too_many_sources = b"\x8f" + rtp(1, 2, b"xx")[1:]
    padding_longer_than_packet = b"\xa0" + rtp(1, 2, b"\xff")[1:]
    no_padding_after_all = b"\xa0" + rtp(1, 2, b"ab\0")[1:]
    long_extension = b"\x90" + rtp(1, 2, b"\0\0\xff\xff")[1:]
    packets = (wrong_version, too_short, too_many_sources, padding_longer_than_packet, no_padding_after_all)
    it = batch(*packets, long_extension, b"")
    assert not parse(it.data, it.length).valid.any()


def test_rtcp_on_the_rtp_port_is_told_from_rtp() -> None:
    it = batch(b"\x80\xc8\0\1" + b"ssrc", rtp(1, 2, marker=True, payload_type=8), b"\x81\xc9")
    assert is_rtcp(it.data, it.length).tolist() == [True, False, False]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8))
def test_any_octets_are_parsed_without_an_error_and_valid_payloads_lie_within_their_packet(
    packets: list[bytes],
) -> None:
    it = batch(*packets)
    headers = parse(it.data, it.length)
    for index in np.flatnonzero(headers.valid):
        assert headers.payload_offset[index] >= 12
        assert headers.payload_length[index] >= 0
        assert headers.payload_offset[index] + headers.payload_length[index] <= len(packets[index])
