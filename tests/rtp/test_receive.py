import numpy as np
import pytest

from sipagent.rtp.concealer import SilenceInstead
from sipagent.rtp.control import CloseRow, FirstPacket, NoMedia
from sipagent.rtp.delay import DelayModel
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import MAX_PACKET
from sipagent.rtp.table import CONCEALED_BLOCK
from sipagent.rtp.turns import MAX_HELD_UP
from tests.rtp.line import START_NS, Line, marked, packets_heard, rtp, talk


def flow(numbers: list[int], first: int = 0, at_ms: int = 0) -> list[tuple[int, bytes]]:
    """Packets `numbers`, each at its time, 20 ms apart."""
    return [(at_ms + 20 * n, rtp(first + n, 1000 + 160 * n, marked(n))) for n in numbers]


def spoken(line: Line) -> list[int]:
    return [number for number in packets_heard(line) if number >= 0]


def test_a_packet_in_order_is_in_the_ring_after_the_tick_in_which_it_came() -> None:
    line = Line().open()
    for number in range(20):
        before = int(line.table.rx_head[0])
        line.arrive(rtp(number, 160 * number, marked(number)))
        line.tick()
        assert line.table.rx_head[0] == before + 160
        line.tick(3)
    assert spoken(line) == list(range(20))
    assert line.counter("packets_received") == 20
    assert line.counter("octets_received") == 3200


def test_the_first_packet_is_told_with_its_address() -> None:
    line = Line().open()
    talk(line, flow([0, 1, 2]))
    assert line.events_of(FirstPacket) == [FirstPacket(0, 1, "192.0.2.1", 4000)]


@pytest.mark.rfc("3550", "5.1", "SHOULD", role="both", text="packets out of order are put right before they are played")
def test_packets_in_the_wrong_order_are_put_right() -> None:
    line = Line().open()
    packets = flow(list(range(10)))
    packets[4], packets[5] = packets[5], (packets[5][0], packets[4][1])  # 4 comes right after 5
    talk(line, packets)
    assert spoken(line) == list(range(10))
    assert line.counter("reordered") == 1
    assert line.counter("lost") == line.counter("concealed_samples") == 0


def test_a_lost_packet_is_waited_for_until_its_deadline_and_then_concealed() -> None:
    line = Line(concealer=SilenceInstead()).open()
    talk(line, flow([0, 1, 2, 3, 4]), until_ms=90)
    line.run_ms(25)
    line.arrive(rtp(6, 1000 + 960, marked(6)))
    line.tick()
    assert spoken(line) == [0, 1, 2, 3, 4]  # 6 waits for 5
    line.tick()
    assert spoken(line) == [0, 1, 2, 3, 4, 6]
    assert line.counter("lost") == 1
    assert line.counter("concealed_samples") == 160


def test_concealed_samples_are_flagged_and_received_ones_are_not() -> None:
    line = Line(concealer=SilenceInstead()).open()
    line.arrive(rtp(0, 0, marked(0)))
    line.tick()
    head = int(line.table.rx_head[0])
    talk(
        line,
        [(at + 20, packet) for at, packet in [(0, rtp(1, 160, marked(1))), (40, rtp(3, 480, marked(3)))]],
        until_ms=150,
    )
    flags = line.table.rx_concealed[0, head // CONCEALED_BLOCK : head // CONCEALED_BLOCK + 15].tolist()
    assert flags == [0] * 5 + [1] * 5 + [0] * 5


def test_flags_of_an_older_round_of_the_ring_are_cleared() -> None:
    line = Line(concealer=SilenceInstead()).open()
    talk(line, flow([n for n in range(900) if n != 5 and n != 6]), until_ms=18000)
    head = int(line.table.rx_head[0])
    latest = (np.arange(head - 60000, head, CONCEALED_BLOCK) // CONCEALED_BLOCK) % line.table.rx_concealed.shape[1]
    assert not line.table.rx_concealed[0, latest].any()


def test_a_packet_after_its_deadline_is_dropped_and_counted() -> None:
    line = Line(concealer=SilenceInstead()).open()
    talk(line, [*flow([0, 1, 2, 4, 5, 6, 7]), (155, rtp(3, 1480, marked(3)))])
    assert spoken(line) == [0, 1, 2, 4, 5, 6, 7]
    assert line.counter("dropped_late") == 1
    assert line.counter("lost") == 0  # late is not lost


def test_a_duplicate_is_dropped_and_counted_whenever_it_comes() -> None:
    line = Line().open()
    packets = flow(list(range(8)))
    talk(line, [*packets, packets[2], (packets[3][0] + 50, packets[3][1])])
    assert spoken(line) == list(range(8))
    assert line.counter("dropped_duplicate") == 2
    assert line.counter("dropped_late") == 0


@pytest.mark.rfc("3550", "5.1", "MUST", role="both", text="sequence number and timestamp that wrap change nothing")
def test_sequence_and_timestamp_may_wrap() -> None:
    line = Line().open()
    talk(line, [(20 * n, rtp(65530 + n, 2**32 - 800 + 160 * n, marked(n))) for n in range(20)])
    assert spoken(line) == list(range(20))
    assert line.counter("lost") == 0


def test_a_gap_over_the_wrap_is_concealed() -> None:
    line = Line(concealer=SilenceInstead()).open()
    packets = [(20 * n, rtp(65533 + n, 2**32 - 480 + 160 * n, marked(n))) for n in range(10) if n != 3]
    talk(line, packets, until_ms=220)
    assert spoken(line) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert line.counter("lost") == 1


@pytest.mark.parametrize("stall_ms", [300, 1000, 3000])
def test_what_a_stall_of_the_line_held_back_does_not_make_the_call_longer(stall_ms: int) -> None:
    line = Line().open()
    packets = []
    for number in range(400):
        at_ms = 20 * number
        held_back = 2000 <= at_ms < 2000 + stall_ms
        packets.append((2000 + stall_ms if held_back else at_ms, rtp(number, 160 * number, marked(number))))
    talk(line, packets, until_ms=8000)
    assert abs(int(line.table.rx_head[0]) - 8 * 8000) <= 160
    order = [number for number in packets_heard(line) if number >= 0]
    assert order[-100:] == [number % 100 for number in range(300, 400)], "what comes on time again is heard"
    assert line.counter("lost") == 0 and line.counter("dropped_late") >= stall_ms // 20 - 12


def test_a_far_end_that_sends_more_than_real_time_does_not_make_the_call_longer_and_is_heard_again() -> None:
    line = Line().open()
    flood = [(5 * number, rtp(number, 160 * number, marked(number))) for number in range(2000)]
    after = [(10_000 + 20 * number, rtp(2000 + number, 160 * (2000 + number), marked(number))) for number in range(200)]
    talk(line, flood, until_ms=10_000)
    assert 0 <= int(line.table.rx_head[0]) / 8 - 10_000 <= 1050
    dropped = line.counter("dropped_late")
    assert dropped > 1300
    talk(line, [(at_ms - 10_000, data) for at_ms, data in after], until_ms=4000)
    assert 0 <= int(line.table.rx_head[0]) / 8 - 14_000 <= 1050
    assert line.counter("dropped_late") - dropped < 40 and line.counter("lost") == 0


@pytest.mark.parametrize(("marker", "most"), [(True, 0), (False, 6)])
def test_a_sender_whose_time_stands_still_while_it_pauses_is_heard_again(marker: bool, most: int) -> None:
    line = Line().open()
    begin = [(20 * number, rtp(number, 160 * number, marked(number))) for number in range(50)]
    again = [
        (2000 + 20 * number, rtp(number, 160 * number, marked(number), marker=marker and number == 50))
        for number in range(50, 100)
    ]
    talk(line, begin + again, until_ms=4000)
    missing = set(range(100)) - set(packets_heard(line))
    assert len(missing) <= most + 1 and line.counter("dropped_late") <= most


def test_a_stream_that_begins_again_and_again_does_not_hold_the_clock_up() -> None:
    line = Line().open()
    for number in range(100):  # every 100 ms one packet of another time line
        line.arrive(rtp(number, 160 * number + 1_000_000 * number, marked(number)))
        line.run_ms(100)
    behind_ms = (line.now_ns - START_NS) / 1e6 - int(line.table.rx_head[0]) / 8
    assert 0 <= behind_ms < 450, behind_ms


def test_a_jump_of_the_timestamp_begins_a_new_time_line_without_silence_of_its_length() -> None:
    line = Line().open()
    talk(line, flow(list(range(5))))
    head = int(line.table.rx_head[0])
    talk(line, [(10 + 20 * n, rtp(5 + n, 5_000_000 + 160 * n, marked(5 + n))) for n in range(5)])
    assert spoken(line) == list(range(10))
    assert line.table.rx_head[0] - head < 7 * 160


@pytest.mark.rfc("3550", "A.1", "SHOULD", role="both", text="a new source is believed after two packets in sequence")
def test_another_ssrc_is_followed_after_two_packets_in_sequence() -> None:
    line = Line(concealer=SilenceInstead()).open()
    talk(line, flow(list(range(5))))
    talk(line, [(10 + 20 * n, rtp(900 + n, 77 + 160 * n, marked(20 + n), ssrc=99)) for n in range(5)])
    assert spoken(line) == [0, 1, 2, 3, 4, 21, 22, 23, 24]
    assert line.counter("ssrc_changes") == 1
    assert line.counter("dropped_ssrc") == 1


def test_a_single_packet_of_another_ssrc_is_not_heard() -> None:
    line = Line().open()
    talk(line, [*flow(list(range(8))), (50, rtp(4000, 0, marked(66), ssrc=1)), (90, rtp(5000, 0, marked(67), ssrc=2))])
    assert spoken(line) == list(range(8))
    assert line.counter("dropped_ssrc") == 2


@pytest.mark.rfc("3550", "A.1", "SHOULD", role="both", text="a source that restarts its numbers is followed again")
def test_a_sender_that_restarts_its_numbers_is_followed_again() -> None:
    line = Line(concealer=SilenceInstead()).open()
    talk(line, flow(list(range(5)), first=30000))
    talk(line, [(10 + 20 * n, rtp(n, 160 * n, marked(40 + n))) for n in range(5)])
    assert spoken(line) == [0, 1, 2, 3, 4, 41, 42, 43, 44]
    assert line.counter("ssrc_changes") == 0


@pytest.mark.rfc(
    "3551", "4.1", "MUST", role="both", text="a timestamp that jumps while the number follows is a pause, not loss"
)
def test_silence_suppression_is_filled_by_the_clock_and_lost_by_nobody() -> None:
    line = Line().open()
    talk(line, flow(list(range(5))))
    line.run_ms(900)
    talk(
        line, [(20 * n, rtp(5 + n, 1000 + 160 * (5 + n) + 8000 - 160, marked(50 + n), marker=n == 0)) for n in range(5)]
    )
    assert spoken(line) == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]
    assert line.counter("lost") == line.counter("dropped_late") == 0
    assert line.counter("silence_samples") > 6000
    passed = (line.now_ns - 1_000_000_000) * 8 // 1_000_000
    assert abs(int(line.table.rx_head[0]) - passed) <= 800


@pytest.mark.rfc("3389", "3", "SHOULD", role="both", text="comfort noise at the level that the far end names")
def test_comfort_noise_is_played_at_the_level_that_the_far_end_names() -> None:
    line = Line().open(comfort_noise=13)
    talk(line, flow(list(range(5))))
    head = int(line.table.rx_head[0])
    line.arrive(rtp(5, 1000 + 800, bytes([40]), payload_type=13))
    line.run_ms(500)
    noise = line.heard()[head + 1600 :].astype(float)
    level = 20 * np.log10(np.sqrt((noise**2).mean()) / 32768)
    assert level == pytest.approx(-40, abs=1.5)
    assert line.counter("comfort_noise_packets") == 1
    assert line.counter("concealed_samples") == 0


def test_call_time_runs_before_the_first_packet_and_while_none_come() -> None:
    line = Line().open()
    line.run_ms(1000)
    assert 7600 <= line.table.rx_head[0] <= 8000
    assert line.counter("concealed_samples") == 0


@pytest.mark.rfc(
    "3551", "4.2", "SHOULD", role="both", text="packets of any duration are accepted, also when it changes"
)
def test_the_packet_time_may_change_in_the_middle_of_the_call() -> None:
    line = Line(concealer=SilenceInstead()).open()
    packets, at, timestamp = [], 0, 0
    for number, samples in enumerate([160] * 10 + [80] * 20 + [480] * 10 + [240] * 10 + [320] * 10):
        at += samples // 8
        packets.append((at, rtp(number, timestamp, marked(number % 50 + 1, samples))))
        timestamp += samples
    talk(line, packets)
    pcm = line.heard()
    assert line.counter("packets_received") == 60
    assert np.count_nonzero(pcm) >= timestamp - 480  # at the change to a longer time one packet may be cut short
    assert line.counter("lost") == 0


@pytest.mark.parametrize("sizes", [(160, 480), (80, 320), (80, 480), (160, 320, 80, 264), (160,) * 25 + (480,) * 9])
def test_a_far_end_whose_packets_differ_in_size_is_not_taken_to_be_late(sizes: tuple[int, ...]) -> None:
    line = Line().open()
    packets, timestamp = [], 0
    for number in range(4 * len(sizes) + 200):
        octets = sizes[number % len(sizes)]
        timestamp += octets
        packets.append((timestamp // 8, rtp(number, timestamp - octets, marked(number, octets))))
    first = [packet for packet in packets if packet[0] < 1000]
    talk(line, first, until_ms=1000)
    before = line.counter("concealed_samples")
    assert before <= 320
    talk(line, [(at - 1000, packet) for at, packet in packets[len(first) :]])
    assert line.counter("concealed_samples") == before
    assert line.counter("lost") == line.counter("dropped_late") == 0


def test_a_gap_is_waited_for_as_long_as_usual_some_seconds_after_the_packets_became_shorter() -> None:
    line = Line().open()
    long = [(60 + 60 * n, rtp(n, 480 * n, bytes(480))) for n in range(10)]
    short = [(620 + 20 * n, rtp(10 + n, 4800 + 160 * n)) for n in range(250)]
    talk(line, long + short)
    line.run_ms(40)
    assert line.counter("concealed_samples") > 0


def test_alaw_and_ulaw_may_follow_each_other() -> None:
    line = Line().open()
    talk(line, [(20 * n, rtp(n, 160 * n, bytes([0x90]) * 160, payload_type=8 if n % 2 else 0)) for n in range(10)])
    assert line.counter("packets_received") == 10
    assert line.counter("dropped_payload_type") == 0
    assert len(set(line.heard()[-320:].tolist())) == 2


@pytest.mark.rfc("3550", "5.1", "MUST", role="both", text="a payload type that was not negotiated is ignored")
def test_an_unknown_payload_type_is_counted_and_not_heard() -> None:
    line = Line().open()
    talk(line, [(20 * n, rtp(n, 160 * n, marked(n), payload_type=96)) for n in range(5)], until_ms=200)
    assert spoken(line) == []
    assert line.counter("dropped_payload_type") == 5


def test_what_is_no_rtp_is_counted() -> None:
    line = Line().open()
    line.arrive(b"", b"x", b"\x40" * 172, b"\x80", b"\x80\x00" + bytes(MAX_PACKET - 2))
    line.tick()
    assert line.counter("dropped_malformed") == 5
    assert line.counter("packets_received") == 0


def test_a_line_that_became_longer_is_followed_after_a_few_late_packets() -> None:
    line = Line(concealer=SilenceInstead()).open()
    talk(line, flow(list(range(20))))
    talk(line, [(400 + 10 + 20 * (n - 20), rtp(n, 1000 + 160 * n, marked(n))) for n in range(20, 40)])
    assert spoken(line)[-14:] == list(range(26, 40))


def test_the_deadline_grows_with_the_jitter_of_the_line_and_stays_within_its_bounds() -> None:
    random = np.random.default_rng(3)
    quiet, rough = Line().open(), Line().open()
    talk(quiet, flow(list(range(300))))
    talk(rough, [(at + int(random.uniform(0, 80)), packet) for at, packet in flow(list(range(300)))])
    assert quiet.plane.receiver.delay.deadline_ms(np.array([0]))[0] == 20
    assert 60 < rough.plane.receiver.delay.deadline_ms(np.array([0]))[0] <= 120
    assert rough.counter("dropped_late") < 40


def test_one_packet_that_was_held_up_for_long_does_not_keep_the_deadline_up_for_as_long() -> None:
    delay = DelayModel(1, MediaOptions(gap_deadline_max_ms=100))
    row = np.array([0])
    for late_ms in (0, 5000):
        delay.observe(row, np.array([late_ms * 1_000_000]))
    assert delay.deadline_ms(row) == 100
    for _ in range(50 * 15):  # 15 s
        delay.observe(row, np.array([0]))
    assert delay.deadline_ms(row) < 75


def test_what_waits_in_the_kernel_is_not_given_up_but_a_flood_does_not_hold_the_clock() -> None:
    line = Line().open()
    talk(line, flow(list(range(20))))
    head = int(line.table.rx_head[0])
    line.io.waiting = np.array([0])
    line.tick(MAX_HELD_UP)
    assert line.table.rx_head[0] == head
    line.tick()
    assert line.table.rx_head[0] > head and line.counter("concealed_samples") > 0


def test_the_deadline_does_not_learn_from_what_came_while_we_were_held_up_ourselves() -> None:
    line = Line().open()
    talk(line, flow(list(range(20))))
    line.arrive(*(packet for _, packet in flow(list(range(20, 28)))))
    line.now_ns += 155_000_000
    line.tick()
    talk(line, flow(list(range(28, 40)), at_ms=-28 * 20))
    assert spoken(line) == list(range(40))
    assert line.plane.receiver.delay.deadline_ms(np.array([0]))[0] == 20


@pytest.mark.rfc("3550", "6.4.1", "MUST", role="both", text="interarrival jitter")
def test_jitter_is_measured_as_rfc_3550_says() -> None:
    line = Line().open()
    packets = [(20 * n + (10 if n % 2 else 0), rtp(n, 160 * n)) for n in range(400)]
    talk(line, packets)
    assert line.plane.receiver.delay.jitter_ms(np.array([0]))[0] == pytest.approx(10, abs=0.5)


def test_silence_of_the_far_end_is_told_and_told_again_each_second() -> None:
    line = Line(no_media_ms=500).open()
    talk(line, flow(list(range(5))), until_ms=100)
    line.run_ms(2700)
    told = [event.silent_ms for event in line.events_of(NoMedia)]
    assert [round(ms, -3) for ms in told] == [1000, 2000, 3000] or len(told) == 3
    assert told[0] >= 500


def test_nothing_is_heard_while_the_direction_does_not_receive() -> None:
    line = Line().open()
    talk(line, flow(list(range(5))))
    line.stream(receiving=False)
    talk(line, flow(list(range(5, 10)), at_ms=-100), until_ms=100)
    assert max(spoken(line)) == 4


def test_the_clock_of_a_row_stands_once_it_is_closed() -> None:
    """Also when the last packet came in the same tick: what is learned from it must not start the clock again."""
    line = Line(rows=2).open()
    talk(line, [(20 * number, rtp(number, 160 * number)) for number in range(50)])
    line.arrive(rtp(50, 8000))
    line.tick()
    line.plane.handle(CloseRow(0, 1), line.now_ns)
    head = int(line.table.rx_head[0])
    line.run_ms(500)
    assert int(line.table.rx_head[0]) == head
