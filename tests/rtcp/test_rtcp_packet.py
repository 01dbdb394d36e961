import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.rtp.rtcp_packet import (
    Description,
    Goodbye,
    Packet,
    Report,
    ReportBlock,
    SenderInfo,
    build,
    parse,
)
from sipagent.rtp.xr import ExtendedReport, VoipMetrics

U8, U16, U32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))
S8 = st.integers(-128, 127)
BLOCKS = st.builds(ReportBlock, U32, U8, st.integers(-(1 << 23), (1 << 23) - 1), U32, U32, U32, U32)
SENDERS = st.builds(SenderInfo, st.integers(0, (1 << 64) - 1), U32, U32, U32)
REPORTS = st.builds(Report, U32, st.none() | SENDERS, st.lists(BLOCKS, max_size=31).map(tuple))
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
METRICS = st.builds(
    VoipMetrics, U32, U8, U8, U8, U8, U16, U16, U16, U16, S8, S8, *([U8] * 7), U16, U16, U16
)  # fmt: skip
PACKETS = st.one_of(
    REPORTS,
    st.builds(Description, U32, NAMES),
    st.builds(Goodbye, st.lists(U32, max_size=31).map(tuple)),
    st.builds(ExtendedReport, U32, st.lists(METRICS, max_size=3).map(tuple)),
)


@given(st.lists(PACKETS, min_size=1, max_size=4))
def test_what_was_built_is_what_is_parsed(packets: list[Packet]) -> None:
    data = build(*packets)
    assert len(data) % 4 == 0
    assert parse(data) == (tuple(packets) if len(data) <= 1500 else None)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_without_an_exception(data: bytes) -> None:
    parse(data)


@given(st.lists(PACKETS, min_size=1, max_size=3), st.data())
def test_damaged_and_cut_datagrams_are_parsed_without_an_exception(packets: list[Packet], data: st.DataObject) -> None:
    whole = bytearray(build(*packets))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(U8)
    parse(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_a_report_of_the_standards_layout_is_read() -> None:
    block = bytes.fromhex("00000007 40fffffe 00010005 00000010 aabbccdd 00010000")
    data = bytes.fromhex("81c80012") + bytes(4) + bytes(20) + block
    assert parse(data[:2] + struct.pack(">H", len(data) // 4 - 1) + data[4:]) == (
        Report(0, SenderInfo(0, 0, 0, 0), (ReportBlock(7, 64, -2, 0x10005, 16, 0xAABBCCDD, 65536),)),
    )


def test_a_profile_extension_behind_the_blocks_is_passed_over() -> None:
    data = bytes.fromhex("80c90002 00000009 12345678")
    assert parse(data) == (Report(9, None, ()),)


@pytest.mark.rfc("3550", "6.1", "MUST", role="both", text="RTCP packets of unknown types are ignored")
def test_packets_of_other_types_are_passed_over_and_the_rest_is_read() -> None:
    application = bytes.fromhex("80cc0002 00000009 41424344")
    assert parse(application + build(Goodbye((1,)))) == (Goodbye((1,)),)


def test_a_goodbye_with_a_reason_is_read() -> None:
    assert parse(bytes.fromhex("81cb0003 00000005 0562796521 210000")[:16]) == (Goodbye((5,)),)


@pytest.mark.rfc("3550", "6.4.1", "MUST", role="both", text="padding only on the last packet of a compound")
def test_only_the_last_packet_may_be_padded() -> None:
    padded = bytes.fromhex("a0c90002 00000009 00000004")
    assert parse(padded) == (Report(9, None, ()),)
    assert parse(padded + build(Goodbye((9,)))) is None
    assert parse(bytes.fromhex("a0c90002 00000009 00000000")) is None
    assert parse(bytes.fromhex("a0c90002 00000009 00000010")) is None


@pytest.mark.parametrize(
    "data",
    [
        "",
        "80c9",
        "00c90001 00000009",  # version 0
        "80000001 00000009",  # RTP, PT 0
        "80c90002 00000009",  # longer than the datagram
        "81c90001 00000009",  # a block that is not there
        "81ca0001 00000009",  # SDES without an end of its items
        "81ca0002 00000009 01ff6162",  # an item that is longer than its packet
        "81cb0000",  # BYE of a source that is not there
        "80cf0002 00000009 07000008",  # an XR block that is longer than its packet
    ],
)
def test_what_does_not_add_up_is_no_rtcp(data: str) -> None:
    assert parse(bytes.fromhex(data)) is None
