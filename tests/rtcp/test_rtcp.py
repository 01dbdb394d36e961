"""RTCP of a plane in virtual time: what it reports, what it makes of reports, and that nobody can misuse it."""

import dataclasses
import itertools

import pytest

from sipagent.rtp.control import CloseRow, NoMedia, OpenRow
from sipagent.rtp.rtcp import REPORTS_AT_ONCE
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
from sipagent.rtp.sockets import Datagram
from sipagent.rtp.table import GAUGE
from sipagent.rtp.xr import ExtendedReport
from tests.rtp.line import FAR_END, PCMU, START_NS, Line, rtp, talk

FAR = (FAR_END, 4001)
OURS = {"rtcp_address": FAR_END, "rtcp_port": 4001}
FAR_SSRC = 7


def gauge(line: Line, name: str) -> float:
    return float(line.table.gauges[0, GAUGE[name]])


def compounds(line: Line) -> list[tuple[Packet, ...]]:
    found = [parse(data) for _, data, _ in line.sockets.control]
    assert None not in found
    return [packets for packets in found if packets]


def arrive(line: Line, *packets: Packet, source: tuple[str, int] = FAR) -> None:
    line.sockets.datagrams.append(Datagram(0, True, build(*packets), source))
    line.tick()


def our_ssrc(line: Line) -> int:
    return int(line.plane.sender.ssrc[0])


def block(line: Line, **fields: int) -> ReportBlock:
    return dataclasses.replace(ReportBlock(our_ssrc(line), 0, 0, 0, 0, 0, 0), **fields)


def sender_report(line: Line, packets: int = 0, ntp: int = 1, *blocks: ReportBlock) -> Report:
    return Report(FAR_SSRC, SenderInfo(ntp, 0, packets, 160 * packets), blocks)


# ---- what we say


@pytest.mark.rfc(
    "3550", "6.2", "SHOULD", role="both", text="reports each 5 s, at random from half to one and a half of that"
)
def test_reports_go_out_every_five_seconds_give_or_take_half() -> None:
    line = Line().open(**OURS)
    times = []
    for _ in range(150_000 // 5):
        before = len(line.sockets.control)
        line.tick()
        times += [line.now_ns / 1e9] * (len(line.sockets.control) - before)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert 1.2 <= times[0] - START_NS / 1e9 <= 3.8
    assert min(gaps) >= 2.49 and max(gaps) <= 7.51
    assert sum(gaps) / len(gaps) == pytest.approx(5, abs=0.8)
    assert max(gaps) - min(gaps) > 3


@pytest.mark.rfc("3550", "6.1", "MUST", role="both", text="a compound begins with a report and holds a CNAME")
def test_a_compound_holds_report_name_and_voip_metrics() -> None:
    line = Line().open(**OURS)
    talk(line, [(20 * n, rtp(65530 + n, 160 * n, b"\xff" * 160)) for n in range(400)], until_ms=8000)
    report, description, extended = compounds(line)[0]
    assert isinstance(report, Report) and isinstance(description, Description) and isinstance(extended, ExtendedReport)
    assert report.ssrc == description.ssrc == extended.ssrc == our_ssrc(line)
    assert len(description.cname) == 16
    assert report.sender is not None and report.sender.octets == 160 * report.sender.packets
    heard = report.blocks[0]
    assert heard.ssrc == FAR_SSRC and heard.highest_sequence >> 16 == 1
    assert heard.cumulative_lost == heard.fraction_lost == heard.last_sr == 0
    metrics = extended.metrics[0]
    assert metrics.ssrc == FAR_SSRC and metrics.loss_rate == 0
    assert metrics.r_factor == 93 and metrics.mos_conversational == 44
    assert metrics.signal_level_dbm0 == 127, "nobody spoke"


@pytest.mark.rfc("7022", "4.2", "SHOULD", role="both", text="a short-term CNAME of its own for each call")
def test_every_call_has_a_name_of_its_own() -> None:
    names = set()
    line = Line().open(**OURS)
    for generation in range(2, 6):
        line.run_ms(5000)
        names |= {packet.cname for packet in compounds(line)[-1] if isinstance(packet, Description)}
        line.open(generation=generation, **OURS)
    assert len(names) == 4


@pytest.mark.rfc("3550", "6.4.1", "MUST", role="both", text="fraction lost and cumulative loss")
def test_loss_is_reported_for_the_interval_and_in_all() -> None:
    line = Line().open(**OURS)
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(1500) if n >= 500 or n % 4 != 3], until_ms=30_000)
    blocks = [packets[0].blocks[0] for packets in compounds(line) if isinstance(packets[0], Report)]
    assert blocks[0].fraction_lost == pytest.approx(64, abs=6)
    assert blocks[-1].fraction_lost == 0
    assert blocks[-1].cumulative_lost == 125 == line.counter("lost")


def test_packets_that_come_twice_make_up_for_lost_ones_in_reports_and_not_in_our_own_figures() -> None:
    line = Line().open(**OURS)
    packets = [(20 * n, rtp(n, 160 * n)) for n in range(1000) if n % 10 != 3]
    twice = [(20 * n + 5, rtp(n, 160 * n)) for n in range(0, 1000, 5)]
    talk(line, packets + twice, until_ms=20_000)
    line.do(CloseRow(0, 1))
    last = compounds(line)[-1]
    assert isinstance(last[0], Report) and isinstance(last[2], ExtendedReport)
    # RFC 3550 §6.4.1: what was received "includes any which are late or duplicates"; tshark counts as well so.
    assert last[0].blocks[0].cumulative_lost == 100 - 200 and last[0].blocks[0].fraction_lost == 0
    # RFC 3611 §4.7.1: duplicates do not enter into the loss rate.
    assert last[2].metrics[0].loss_rate == 25
    assert gauge(line, "loss_fraction") == pytest.approx(0.1)


@pytest.mark.rfc(
    "3550", "6.4.1", "MUST", role="both", text="NTP and RTP time of a sender report are of the same instant"
)
def test_ntp_and_rtp_time_run_together() -> None:
    line = Line().open(**OURS)
    line.run_ms(60_000)
    infos = [packets[0].sender for packets in compounds(line) if isinstance(packets[0], Report)]
    first, last = infos[0], infos[-1]
    assert first is not None and last is not None
    seconds = (last.ntp - first.ntp) / 2**32
    ticks = (last.rtp_timestamp - first.rtp_timestamp) & 0xFFFFFFFF
    assert ticks / 8000 == pytest.approx(seconds, abs=0.0001)
    assert first.ntp >> 32 == pytest.approx(2_208_988_800 + 3, abs=3)


@pytest.mark.rfc("3550", "6.4", "MUST", role="both", text="who sent nothing sends receiver reports")
def test_who_only_listens_sends_receiver_reports() -> None:
    line = Line().open(**OURS, sending=False)
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(500)])
    reports = [packets[0] for packets in compounds(line)]
    assert reports and all(isinstance(report, Report) and report.sender is None for report in reports)


def test_reports_share_the_port_where_that_was_agreed() -> None:
    line = Line().open(rtcp_port=0)
    line.run_ms(8000)
    assert line.sockets.control == []
    shared = [sent.data for sent in line.sent() if 192 <= sent.data[1] <= 223]
    assert shared and isinstance((parse(shared[0]) or ())[0], Report)


@pytest.mark.rfc("3550", "6.3.7", "SHOULD", role="both", text="BYE at the end of the stream")
def test_goodbye_is_said_once_at_the_end() -> None:
    line = Line().open(**OURS)
    line.run_ms(100)
    line.do(CloseRow(0, 1))
    assert compounds(line)[-1][-1] == Goodbye((our_ssrc(line),))
    count = len(line.sockets.control)
    line.run_ms(10_000)
    assert len(line.sockets.control) == count


def test_a_stream_that_goes_on_from_a_new_plane_is_counted_from_its_own_beginning() -> None:
    line = Line().open(**OURS)
    line.run_ms(10_000)
    before = line.counter("packets_sent")
    line.do(OpenRow(0, 1, 0, 8000, resumed_ms=0))  # the call's counters go on, its SSRC is another one
    line.stream(**OURS)
    line.sockets.control.clear()
    line.run_ms(2000)
    arrive(line, Report(FAR_SSRC, None, (block(line, cumulative_lost=50),)))
    assert line.counter("packets_sent") > before + 90
    assert gauge(line, "remote_loss_fraction") == pytest.approx(0.5, abs=0.02)
    line.do(CloseRow(0, 1))
    report = compounds(line)[-1][0]
    assert isinstance(report, Report) and report.sender is not None
    assert report.sender.packets == line.counter("packets_sent") - before
    assert report.sender.octets == 160 * report.sender.packets


@pytest.mark.rfc("3550", "6.3.7", "MUST", role="both", text="who sent neither RTP nor RTCP sends no BYE")
def test_who_never_sent_anything_says_no_goodbye() -> None:
    line = Line().open(**OURS, sending=False)
    line.run_ms(100)
    line.do(CloseRow(0, 1))
    assert line.sockets.control == []


def test_a_call_on_hold_with_a_null_address_is_sent_no_reports() -> None:
    line = Line().open(remote_address="0.0.0.0", **OURS)
    line.run_ms(20_000)
    assert line.sockets.control == []


def test_no_reports_when_the_interval_is_zero() -> None:
    line = Line(rtcp_interval_ms=0).open(**OURS)
    line.run_ms(20_000)
    assert line.sockets.control == []


@pytest.mark.rfc("3550", "6.3.1", "SHOULD", role="both", text="reports are spread in time")
def test_a_thousand_calls_that_begin_at_once_do_not_report_at_once() -> None:
    rows = 1000
    line = Line(rows=rows)
    for row in range(rows):
        line.open(row, **OURS)
    most = 0
    for _ in range(800):
        before = len(line.sockets.control)
        line.tick()
        most = max(most, len(line.sockets.control) - before)
    assert len(line.sockets.control) >= rows
    assert most <= REPORTS_AT_ONCE


def test_a_new_source_is_reported_from_its_own_beginning() -> None:
    line = Line().open(**OURS)
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(400) if n % 2], until_ms=8000)
    talk(line, [(20 * n, rtp(9000 + n, 160 * n, ssrc=8)) for n in range(800)], until_ms=16_000)
    last = compounds(line)[-1][0]
    assert isinstance(last, Report)
    assert last.blocks[0].ssrc == 8
    assert last.blocks[0].cumulative_lost <= 2 and last.blocks[0].highest_sequence < 9800


# ---- what we hear


@pytest.mark.rfc("3550", "6.4.1", "SHOULD", role="both", text="round-trip time from LSR and DLSR")
@pytest.mark.parametrize("round_trip_ms", [0, 80, 350])
def test_the_round_trip_is_the_echo_of_our_report_less_the_far_ends_pause(round_trip_ms: int) -> None:
    line = Line().open(**OURS)
    while not line.sockets.control:
        line.tick()
    report = compounds(line)[0][0]
    assert isinstance(report, Report) and report.sender is not None
    line.run_ms(round_trip_ms + 500 - 5)
    arrive(
        line,
        Report(FAR_SSRC, None, (block(line, last_sr=report.sender.ntp >> 16 & 0xFFFFFFFF, delay_since_last_sr=32768),)),
    )
    assert gauge(line, "round_trip_ms") == pytest.approx(round_trip_ms, abs=0.1)


def test_a_forged_round_trip_is_not_believed() -> None:
    line = Line().open(**OURS)
    arrive(line, Report(FAR_SSRC, None, (block(line, last_sr=1, delay_since_last_sr=1),)))
    assert gauge(line, "round_trip_ms") == 0


def test_the_far_ends_clock_is_given_back_with_our_pause() -> None:
    line = Line().open(**OURS)
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(10)])
    arrive(line, sender_report(line, ntp=0x11112222_33334444))
    heard_ns = line.now_ns
    sent = len(line.sockets.control)
    while len(line.sockets.control) == sent:
        line.tick()
    report = compounds(line)[-1][0]
    assert isinstance(report, Report)
    assert report.blocks[0].last_sr == 0x22223333
    assert report.blocks[0].delay_since_last_sr / 65536 == pytest.approx((line.now_ns - heard_ns) / 1e9, abs=0.001)


def test_what_the_far_end_hears_becomes_its_score() -> None:
    line = Line().open(**OURS)
    line.run_ms(2000)
    arrive(line, Report(FAR_SSRC, None, (block(line, cumulative_lost=10, jitter_ticks=80),)))
    line.run_ms(1000)
    assert gauge(line, "remote_loss_fraction") == pytest.approx(0.1, abs=0.01)
    assert gauge(line, "remote_jitter_ms") == pytest.approx(10)
    assert gauge(line, "r_factor_out") == pytest.approx(64.7, abs=1.5)
    assert 3 < gauge(line, "mos_out") < 3.5


@pytest.mark.rfc("3611", "4.7", "MAY", role="both", text="VoIP metrics of the far end are read, and ours are sent")
def test_the_far_ends_own_verdict_goes_before_our_estimate() -> None:
    there = Line().open(**OURS)
    talk(there, [(20 * n, rtp(n, 160 * n)) for n in range(400)])
    metrics = next(packet for packet in compounds(there)[0] if isinstance(packet, ExtendedReport)).metrics[0]
    line = Line().open(**OURS)
    verdict = dataclasses.replace(metrics, ssrc=our_ssrc(line), r_factor=70, mos_conversational=36)
    arrive(line, Report(FAR_SSRC, None, (block(line),)), ExtendedReport(FAR_SSRC, (verdict,)))
    line.run_ms(2000)
    assert gauge(line, "r_factor_out") == 70
    assert gauge(line, "mos_out") == pytest.approx(3.6)


def test_unavailable_metrics_are_not_taken_for_a_score() -> None:
    there = Line().open(**OURS)
    talk(there, [(20 * n, rtp(n, 160 * n)) for n in range(400)])
    metrics = next(packet for packet in compounds(there)[0] if isinstance(packet, ExtendedReport)).metrics[0]
    line = Line().open(**OURS)
    verdict = dataclasses.replace(metrics, ssrc=our_ssrc(line), r_factor=127, mos_conversational=127)
    arrive(line, ExtendedReport(FAR_SSRC, (verdict,)))
    assert gauge(line, "r_factor_out") == gauge(line, "mos_out") == 0


def test_reports_about_others_say_nothing_of_us() -> None:
    line = Line().open(**OURS)
    line.run_ms(1000)
    arrive(line, Report(FAR_SSRC, None, (block(line, ssrc=12345, cumulative_lost=40, jitter_ticks=800),)))
    assert gauge(line, "remote_loss_fraction") == gauge(line, "remote_jitter_ms") == 0


def test_a_goodbye_from_the_line_ends_nothing() -> None:
    line = Line().open(**OURS)
    packets = [(20 * n, rtp(n, 160 * n)) for n in range(200)]
    talk(line, packets[:100])
    arrive(line, Report(FAR_SSRC, None, ()), Goodbye((FAR_SSRC,)))
    for _, packet in packets[100:]:
        line.arrive(packet)
        line.tick(4)
    assert line.table.active[0] == 1
    assert line.counter("packets_received") == 200 and line.counter("lost") == 0
    assert len(line.sent()) > 190


@pytest.mark.parametrize("shared", [False, True])
def test_reports_from_a_stranger_are_counted_and_dropped(shared: bool) -> None:
    line = Line().open(**({} if shared else OURS))
    line.run_ms(1000)
    data = build(Report(FAR_SSRC, None, (block(line, cumulative_lost=40),)))
    line.sockets.datagrams.append(Datagram(0, not shared, data, ("198.51.100.9", 4001)))
    line.tick()
    assert line.counter("dropped_source") == 1
    assert gauge(line, "remote_loss_fraction") == 0
    line.run_ms(8000)
    assert all(remote == FAR for _, _, remote in line.sockets.control)


@pytest.mark.rfc("5761", "4", "MUST", role="both", text="RTCP on the RTP port is told apart by its packet type")
def test_reports_on_the_shared_port_are_read_and_not_taken_for_media() -> None:
    line = Line().open(rtcp_port=0)
    line.run_ms(1000)
    line.arrive(build(Report(FAR_SSRC, None, (block(line, cumulative_lost=25),))))
    line.tick()
    assert gauge(line, "remote_loss_fraction") > 0.4
    assert line.counter("packets_received") == line.counter("dropped_malformed") == 0


def test_what_is_no_rtcp_is_counted_as_malformed() -> None:
    line = Line().open(**OURS)
    line.sockets.datagrams.append(Datagram(0, True, b"\x80\xc9\x00\x09none", FAR))
    line.tick()
    assert line.counter("dropped_malformed") == 1


def test_reports_follow_the_far_end_to_the_port_that_it_reports_from() -> None:
    line = Line().open(**OURS)
    arrive(line, Report(FAR_SSRC, None, ()), source=(FAR_END, 61_001))
    line.run_ms(8000)
    assert line.sockets.control and all(remote == (FAR_END, 61_001) for _, _, remote in line.sockets.control)


# ---- a sign of life


def test_a_far_end_that_pauses_but_reports_is_alive() -> None:
    line = Line().open(**OURS)
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(50)])
    for number in range(12):
        arrive(line, sender_report(line, 50, number))
        line.run_ms(5000)
    assert line.events_of(NoMedia) == []
    line.run_ms(12_000)
    silences = line.events_of(NoMedia)
    assert silences and silences[0].silent_ms > 60_000, "once it reports no more, it is silent since its last packet"


def test_a_far_end_that_sends_what_does_not_come_is_not_heard() -> None:
    line = Line().open(**OURS)
    talk(line, [(20 * n, rtp(n, 160 * n)) for n in range(50)])
    for number in range(12):
        arrive(line, sender_report(line, 50 + 250 * number, number))
        line.run_ms(5000)
    assert line.events_of(NoMedia)


def test_without_reports_silence_is_told_after_two_seconds() -> None:
    line = Line().open(**OURS)
    line.run_ms(2500)
    assert line.events_of(NoMedia)


def test_reports_of_the_call_before_do_not_keep_the_next_one_alive() -> None:
    line = Line().open(**OURS)
    arrive(line, sender_report(line))
    line.open(generation=2, **OURS)
    line.run_ms(3000)
    assert line.events_of(NoMedia)


def test_reports_say_how_the_call_sounds_after_a_change_of_the_agreement() -> None:
    line = Line().open(**OURS)
    line.run_ms(6000)
    line.stream(send=PCMU, rtcp_port=0)
    before = len(line.sockets.control)
    line.run_ms(8000)
    assert len(line.sockets.control) == before
    assert any(192 <= sent.data[1] <= 223 for sent in line.sent())
