"""What holds for a line whatever arrives, and for hours of line in virtual time."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sipagent.codecs import g711
from sipagent.rtp.concealer import SilenceInstead
from sipagent.rtp.formats import MAX_PAYLOAD
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.placement import MAX_LAG_NS
from sipagent.rtp.table import RX_RING
from tests.rtp.line import START_NS, TICK_NS, Line, rtp

PACKETS = 60
LONGEST_MS = 160

# Each packet: whether it comes at all, how late, and how many copies.
fates = st.lists(
    st.tuples(st.booleans(), st.integers(0, LONGEST_MS), st.integers(1, 2)), min_size=PACKETS, max_size=PACKETS
)


def fate(arrivals: dict[int, tuple[int, int]]) -> list[tuple[bool, int, int]]:
    """Only these packets come: number → (how late, copies)."""
    return [(number in arrivals, *arrivals.get(number, (0, 1))) for number in range(PACKETS)]


def number_of(samples: np.ndarray) -> int:
    """Which packet these samples are of, -1 for none."""
    low, high = int(samples[0]), int(samples[1])
    return _VALUE.get(low, -1) + 16 * _VALUE[high] if low in _VALUE and high in _VALUE else -1


def numbered(number: int) -> bytes:
    return bytes([0x80 | number % 16 << 3, 0x80 | number // 16 << 3]) * 80


_VALUE = {int(g711.DECODE[0, 0x80 | digit << 3]): digit for digit in range(16)}


@settings(max_examples=200, deadline=None)
@example(fate({25: (51, 1), 57: (0, 1), 58: (0, 1), 59: (0, 1)}), 0, 0)  # found no room, and was counted as lost too
@example(fate({24: (126, 1), 57: (0, 2), 58: (0, 2), 59: (111, 2)}), 0, 0)  # copies are no late packets
@given(fates, st.sampled_from([0, 65500]), st.sampled_from([0, 2**32 - 3000]))
def test_whatever_the_order_of_arrival_packets_are_heard_once_in_order_and_the_counts_add_up(
    fate: list[tuple[bool, int, int]], first_number: int, first_timestamp: int
) -> None:
    line = Line(concealer=SilenceInstead()).open()
    arrivals: list[tuple[int, bytes]] = []
    for number, (comes, delay_ms, copies) in enumerate(fate):
        if comes or number == 0:
            packet = rtp(first_number + number, first_timestamp + 160 * number, numbered(number))
            late = delay_ms if number else 0
            arrivals += [(20 * number + late + 15 * copy, packet) for copy in range(copies)]
    arrivals.sort(key=lambda item: item[0])
    index, heads = 0, []
    for tick in range((20 * PACKETS + 500) // 5):
        while index < len(arrivals) and arrivals[index][0] <= 5 * tick:
            line.arrive(arrivals[index][1])
            index += 1
        line.tick()
        heads.append(int(line.table.rx_head[0]))
    assert index == len(arrivals)
    # Never backwards, and never far from the clock.
    assert all(after >= before for before, after in itertools.pairwise(heads))
    passed = (line.now_ns - START_NS) * 8 // 1_000_000
    behind = passed - heads[-1]
    assert -8 * 200 <= behind <= 8 * (LONGEST_MS + MediaOptions().gap_deadline_max_ms)
    # In order, each at most once.
    pcm = line.heard()
    order: list[int] = []
    edges = np.flatnonzero(pcm) if pcm.any() else np.zeros(0, int)
    at = 0
    while at < len(edges):
        number = number_of(pcm[edges[at] : edges[at] + 2])
        assert number >= 0
        length = 0
        while length < 160 and at + length < len(edges) and edges[at + length] == edges[at] + length:
            length += 1
        order.append(number)
        at += length
    assert all(after > before for before, after in itertools.pairwise(order))
    # Every packet is accounted for.
    counts = {name: line.counter(name) for name in ("packets_received", "dropped_late", "dropped_duplicate", "lost")}
    assert counts["packets_received"] == len(arrivals)
    unique = len({packet for _, packet in arrivals})
    assert counts["dropped_duplicate"] == len(arrivals) - unique
    highest = max(number for number, (comes, _, _) in enumerate(fate) if comes or number == 0)
    assert counts["lost"] == highest + 1 - unique
    assert len(order) == unique - counts["dropped_late"] - line.counter("dropped_full")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=200)), max_size=40))
def test_any_datagrams_at_all_are_survived_and_the_line_runs_on(datagrams: list[tuple[int, bytes]]) -> None:
    line = Line(rows=4)
    for row in range(4):
        line.open(row)
    for row, data in datagrams:
        line.arrive(data, row=row)
        line.tick()
    line.run_ms(200)
    for row in range(4):
        sent = line.sent(row)
        assert (np.diff([packet.sequence for packet in sent]) % 65536 == 1).all()
        assert (np.diff([packet.timestamp for packet in sent]) % 2**32 == 160).all()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_packets_that_are_nearly_right_are_survived(data: st.DataObject) -> None:
    line = Line().open(comfort_noise=13)
    number = 0
    for _ in range(data.draw(st.integers(1, 40))):
        number += data.draw(st.sampled_from([1, 1, 1, 0, -1, 2, 40, 5000]))
        packet = rtp(
            number,
            160 * number + data.draw(st.sampled_from([0, 0, 0, 80, -160, 10**6, 2**31])),
            bytes(data.draw(st.sampled_from([160, 160, 160, 0, 1, 80, 240, 480, 481]))),
            ssrc=data.draw(st.sampled_from([7, 7, 7, 8])),
            payload_type=data.draw(st.sampled_from([0, 0, 0, 8, 13, 101, 96])),
        )
        line.arrive(packet)
        before = int(line.table.rx_head[0])
        line.tick(data.draw(st.integers(1, 8)))
        assert int(line.table.rx_head[0]) >= before
    line.run_ms(300)
    behind_ms = (line.now_ns - START_NS) // 1_000_000 - int(line.table.rx_head[0]) // 8
    # A line may begin behind our clock; then a gap is waited for, and filled by whole packets.
    lag_ms, waited_ms, packet_ms = MAX_LAG_NS // 1_000_000, MediaOptions().gap_deadline_max_ms, MAX_PAYLOAD // 8
    assert behind_ms <= lag_ms + waited_ms + packet_ms + MediaOptions().tick_ms


def hour(line: Line, minutes: float, drift_ppm: float, loss: float, jitter_ms: float) -> None:
    """A far end whose clock runs `drift_ppm` fast talks for so long."""
    random = np.random.default_rng(5)
    packets = int(minutes * 60 * 50)
    period_ns = 20_000_000 / (1 + drift_ppm / 1e6)
    at = np.arange(packets) * period_ns + random.exponential(jitter_ms * 1e6, packets)
    comes = random.random(packets) >= loss
    comes[0] = True
    order = np.argsort(at, kind="stable")
    index = 0
    begin = line.now_ns
    while index < packets:
        while index < packets and at[order[index]] <= line.now_ns + TICK_NS - begin:
            number = int(order[index])
            if comes[number]:
                line.arrive(rtp(number, 160 * number, _PAYLOAD))
            index += 1
        line.tick()


_PAYLOAD = bytes([0x90]) * 160


@pytest.mark.parametrize("drift_ppm", [200.0, -200.0])
def test_a_clock_that_is_wrong_by_200_ppm_loses_nothing_in_minutes(drift_ppm: float) -> None:
    line = Line(rows=1, concealer=SilenceInstead()).open()
    hour(line, 3, drift_ppm, loss=0.0, jitter_ms=1.0)
    assert line.counter("dropped_late") <= 3
    assert line.counter("concealed_samples") <= 3 * 160
    assert abs(int(line.table.rx_head[0]) - 9_000 * 160) <= 4 * 160


@pytest.mark.long
def test_an_hour_with_five_percent_loss_is_an_hour_long_to_the_packet() -> None:
    line = Line(rows=1, concealer=SilenceInstead()).open()
    hour(line, 60, 0.0, loss=0.05, jitter_ms=3.0)
    line.run_ms(200)
    assert abs(int(line.table.rx_head[0]) - (line.now_ns - START_NS) * 8 // 1_000_000) <= 4 * 160
    lost = line.counter("lost") / 180_000
    assert 0.045 < lost < 0.055


def test_a_minute_with_five_percent_loss_is_a_minute_long_to_the_packet() -> None:
    line = Line(rows=1, concealer=SilenceInstead()).open()
    hour(line, 1, 0.0, loss=0.05, jitter_ms=3.0)
    heard = int(line.table.rx_head[0])
    assert abs(heard - (line.now_ns - START_NS) * 8 // 1_000_000) <= 3 * 160
    made_up = line.counter("concealed_samples") + line.counter("silence_samples")
    received = (line.counter("packets_received") - line.counter("dropped_late")) * 160
    assert abs(received + made_up - heard) <= 160 * 2
    assert heard > RX_RING
