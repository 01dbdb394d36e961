import numpy as np
import pytest

from sipagent.codecs import g711
from sipagent.rtp.control import Bridge, Bridged, CloseRow, MediaProblem, OpenRow, Play, StopPlay, Unbridge
from sipagent.rtp.table import FAR_END, OTHER_SIDE
from tests.rtp.line import Line, Sent, marked, rtp, talk
from tests.rtp.test_send import level, speak

A, B = 11, 55
BOTH = FAR_END | OTHER_SIDE


def values(packets: list[Sent]) -> set[int]:
    """The loudness of the packets that carry one value throughout, in whole hundreds."""
    return {round(int(np.median(packet.pcm)), -2) for packet in packets}


@pytest.fixture
def joined() -> Line:
    return Line(rows=3).open(0).open(1).open(2)


def carry_on(line: Line, milliseconds: int = 400) -> None:
    """Row 0 hears packets of value A, row 1 of value B."""
    for _ in range(milliseconds // 20):
        number = getattr(line, "number", 0)
        line.arrive(rtp(number, 160 * number, marked(A)), row=0)
        line.arrive(rtp(number, 160 * number, marked(B)), row=1)
        line.number = number + 1  # type: ignore[attr-defined]
        line.tick(4)


def sent(line: Line, row: int, after: int = 0) -> list[Sent]:
    """The RTP that was sent to a row, without what was sent before; no reports."""
    return [packet for packet in line.sent(row)[after:] if packet.payload_type == 0]


def assert_relayed(line: Line) -> None:
    """What row 1 received from its first sound on was sent to row 0, sample for sample."""
    relayed = np.concatenate([packet.pcm for packet in sent(line, 0)])
    received = g711.ulaw_decode(g711.ulaw_encode(line.heard(1)))
    relayed, received = relayed[np.flatnonzero(relayed)[0] :], received[np.flatnonzero(received)[0] :]
    assert len(relayed) > 0.9 * len(received)
    assert np.array_equal(relayed, received[: len(relayed)])


def loudness(number: int) -> int:
    return round(int(Sent(0, bytes(12) + marked(number)).pcm[0]), -2)


def who_hears(line: Line, audience: int, milliseconds: int = 300) -> tuple[bool, bool]:
    """Whether row 0 and row 1 are sent what the agent of row 0 says to `audience`."""
    line.table.tx_audience[0] = audience
    line.run_ms(40)
    before = len(line.sent(0)), len(line.sent(1))
    speak(line, level(3000, milliseconds * 8))
    line.run_ms(milliseconds + 100)
    loud = [any(abs(np.median(packet.pcm) - 3000) < 200 for packet in sent(line, row, before[row])) for row in (0, 1)]
    loudest = [max(int(np.abs(packet.pcm).max()) for packet in sent(line, row, before[row])) for row in (0, 1)]
    assert [peak > 10 for peak in loudest] == loud
    return loud[0], loud[1]


def test_two_callers_who_are_joined_hear_each_other(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    carry_on(joined)
    assert loudness(B) in values(sent(joined, 0, 5))
    assert loudness(A) in values(sent(joined, 1, 5))
    assert values(sent(joined, 2, 5)) <= {0}
    assert joined.events_of(Bridged) == [Bridged(0, 1)]


def test_nothing_of_the_other_caller_is_lost_once_it_flows(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    carry_on(joined, 1000)
    assert values(sent(joined, 1, 10)) == {loudness(A)}


@pytest.mark.parametrize("phase_ms", [0, 10])
@pytest.mark.parametrize("jitter_ms", [12, 18])
def test_a_packet_that_is_late_by_less_than_the_gap_deadline_tears_no_hole(phase_ms: int, jitter_ms: int) -> None:
    line = Line(rows=2).open(0).open(1)
    late = np.random.default_rng(phase_ms + jitter_ms).uniform(0, jitter_ms, 150)
    sound = [rtp(number, 160 * number, marked(1 + number % 98)) for number in range(150)]
    line.do(Bridge(0, 1, 1, 1))
    talk(line, [(100 + phase_ms + 20 * number + int(late[number]), sound[number]) for number in range(150)], row=1)
    assert_relayed(line)


def test_what_is_concealed_is_heard_once_and_in_its_place(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    lost = {60, 61, 62, 130}
    sound = [(100 + 20 * number, rtp(number, 160 * number, marked(1 + number % 98))) for number in range(200)]
    talk(joined, [packet for number, packet in enumerate(sound) if number not in lost], row=1)
    assert joined.counter("concealed_samples", 1) == 4 * 160
    assert_relayed(joined)


def delay_ms(line: Line, row: int) -> float:
    """How long after its packet came a sound was sent to row 0; the sound begins at once after silence."""
    before = len(line.sent(0))
    came_ns = line.now_ns
    carry_on(line, 300)
    loud = next(packet for packet in sent(line, 0, before) if np.median(packet.pcm[-8:]) != 0)
    return (loud.at_ns - came_ns) / 1e6 - 20 * np.argmax(loud.pcm != 0) / 160


def test_the_other_side_is_heard_within_deadline_and_a_packet(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    joined.run_ms(500)
    assert 0 < delay_ms(joined, 0) <= 20 + 20 + 2 * 5


def test_what_has_piled_up_is_left_out_while_the_other_side_is_silent(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    quiet, number = bytes([0xFF]) * 160, 0
    behind = []
    for _ in range(3):  # three packets at once, as after a stall; then silence
        joined.arrive(*(rtp(number + more, 160 * (number + more), marked(B)) for more in range(4)), row=1)
        number += 4
        joined.tick(4)
        for _ in range(40):
            joined.arrive(rtp(number, 160 * number, quiet), row=1)
            number += 1
            joined.tick(4)
        behind.append(int(joined.table.rx_head[1]) - int(joined.plane._bridges._heard[0]))
    assert max(behind) <= 3 * 160


def test_a_reader_does_not_move_to_and_fro_with_the_phase_of_the_packets() -> None:
    line = Line(rows=2).open(0).open(1)
    quiet, places = bytes([0xFF]) * 160, []
    late = np.random.default_rng(7).integers(0, 3, 400)  # ticks
    line.do(Bridge(0, 1, 1, 1))
    for number in range(400):
        for tick in range(4):
            if tick == late[number]:
                line.arrive(rtp(number, 160 * number, quiet), row=1)
            line.tick()
        places.append(int(line.plane._bridges._heard[0]))
    assert set(np.diff(places[100:])) == {160}


@pytest.mark.parametrize(
    ("audience", "heard"),
    [(FAR_END, (True, False)), (OTHER_SIDE, (False, True)), (BOTH, (True, True)), (0, (False, False))],
)
def test_the_agent_is_heard_by_whom_it_speaks_to(joined: Line, audience: int, heard: tuple[bool, bool]) -> None:
    joined.do(Bridge(0, 1, 1, 1, agent=True))
    assert who_hears(joined, audience) == heard


def test_an_agent_that_has_left_is_heard_by_nobody(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    assert who_hears(joined, BOTH) == (False, False)


def test_not_a_sample_of_a_whisper_reaches_the_far_end_when_the_audience_changes_in_speech(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1, agent=True))
    joined.table.tx_audience[0] = OTHER_SIDE
    speak(joined, np.concatenate([level(0, 320), level(3000, 4000)]))
    joined.run_ms(700)
    assert not any(packet.pcm.any() for packet in sent(joined, 0))
    assert 3000 in {round(int(np.median(packet.pcm)), -3) for packet in sent(joined, 1)}


def test_while_they_are_apart_one_side_hears_the_agent_and_the_other_its_music(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1, agent=True, apart=True))
    joined.do(Play(0, 1, "tone:busy", loop=True))
    joined.table.tx_audience[0] = OTHER_SIDE
    speak(joined, level(3000, 4000))
    joined.plane._playback._loading[0][1].result()
    carry_on(joined)
    heard = np.concatenate([packet.pcm for packet in sent(joined, 0, 3)])
    tone_hz = np.fft.rfftfreq(len(heard), 1 / 8000)[np.argmax(np.abs(np.fft.rfft(heard.astype(float))))]
    assert 400 < tone_hz < 500 and not {loudness(A), loudness(B), 3000} & values(sent(joined, 0))
    assert 3000 in {round(value, -3) for value in values(sent(joined, 1))} and loudness(A) not in values(
        sent(joined, 1)
    )
    joined.do(StopPlay(0, 1))
    joined.do(Bridge(0, 1, 1, 1, agent=True))
    before = len(joined.sent(0))
    carry_on(joined)
    assert loudness(B) in values(sent(joined, 0, before)) and loudness(A) in values(sent(joined, 1, before))


def test_another_word_about_the_same_two_rows_tears_no_hole(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1, agent=True))
    carry_on(joined)
    joined.do(Bridge(0, 1, 1, 1))
    carry_on(joined)
    joined.do(Bridge(0, 1, 1, 1, agent=True))
    carry_on(joined)
    assert values(sent(joined, 1, 8)) == {loudness(A)}


@pytest.mark.parametrize("end", [Unbridge(0, 1), CloseRow(1, 1)])
def test_what_is_left_of_a_whisper_is_not_heard_by_the_far_end_when_they_part(
    joined: Line, end: Unbridge | CloseRow
) -> None:
    joined.do(Bridge(0, 1, 1, 1, agent=True, apart=True))
    joined.table.tx_audience[0] = OTHER_SIDE
    joined.run_ms(20)
    speak(joined, level(3000, 8000))
    joined.run_ms(200)
    joined.do(end)
    joined.run_ms(1500)
    assert not any(packet.pcm.any() for packet in sent(joined, 0))
    assert not joined.table.active[1] or who_hears(joined, FAR_END) == (True, False)


def test_when_they_part_each_hears_the_agent_alone_again(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    carry_on(joined)
    joined.do(Unbridge(1, 1))
    count = len(joined.sent(0))
    carry_on(joined)
    assert values(sent(joined, 0, count + 1)) <= {0}
    assert who_hears(joined, FAR_END) == (True, False)


def test_a_call_that_ends_parts_the_bridge(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    joined.do(CloseRow(1, 1))
    carry_on(joined, 100)
    assert values(sent(joined, 0)[-3:]) <= {0}


def test_the_next_call_of_a_row_has_nothing_of_the_bridge(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1, agent=True))
    joined.table.tx_audience[0] = OTHER_SIDE
    joined.run_ms(40)
    joined.do(CloseRow(0, 1))
    joined.do(OpenRow(0, 2))
    joined.stream(0, 2)
    assert who_hears(joined, OTHER_SIDE) == (True, False)


def test_a_bridge_to_a_row_of_another_call_is_refused(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 2))
    joined.do(Bridge(0, 1, 0, 1))
    assert len(joined.events_of(MediaProblem)) == 2 and not joined.events_of(Bridged)


def test_narrow_and_wide_rows_can_be_joined() -> None:
    line = Line(rows=2).open(0).open(1, rate_hz=16000)
    line.do(Bridge(0, 1, 1, 1, agent=True))
    assert who_hears(line, OTHER_SIDE) == (False, True)
    carry_on(line)
    assert loudness(A) in values(sent(line, 1)[-10:])
    assert loudness(B) in values(sent(line, 0)[-10:])


def test_many_pairs_hear_each_their_own() -> None:
    line = Line(rows=12)
    for row in range(12):
        line.open(row, rate_hz=16000 if row % 5 == 0 else 8000)
    for row in range(0, 12, 2):
        line.do(Bridge(row, 1, row + 1, 1))
    for number in range(40):
        for row in range(12):
            line.arrive(rtp(number, 160 * number, marked(10 + 7 * row)), row=row)
        line.tick(4)
    assert [values(sent(line, row)[-10:]) for row in range(12)] == [{loudness(10 + 7 * (row ^ 1))} for row in range(12)]
