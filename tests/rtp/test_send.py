from collections import Counter

import numpy as np
import pytest

from sipagent.rtp.control import AssignWorker, CloseRow, MediaProblem, Play, PlayEnded, StopPlay
from sipagent.rtp.send import ROWS_PER_PHASE
from sipagent.rtp.table import MARKS, TX_RING
from tests.rtp.line import PCMA, Line


def speak(line: Line, pcm: np.ndarray, row: int = 0) -> None:
    """What a worker does: write to the ring."""
    table = line.table
    head = int(table.tx_head[row])
    table.tx_pcm[row, np.arange(head, head + len(pcm)) % TX_RING] = pcm
    table.tx_head[row] = head + len(pcm)


def level(value: int, samples: int) -> np.ndarray:
    return np.full(samples, value, np.int16)


def continuous(line: Line, step: int = 160, row: int = 0) -> bool:
    sent = line.sent(row)
    sequence = np.diff([packet.sequence for packet in sent]) % 65536
    timestamp = np.diff([packet.timestamp for packet in sent]) % 2**32
    return bool((sequence == 1).all() and (timestamp == step).all())


def test_a_packet_leaves_every_packet_time_from_the_start_on_whatever_the_worker_does() -> None:
    line = Line().open()
    line.run_ms(300)
    speak(line, level(1000, 3200))
    line.run_ms(700)
    sent = line.sent()
    assert len(sent) == 50
    assert set(np.diff([packet.at_ns for packet in sent])) == {20_000_000}
    assert continuous(line)
    assert line.table.tx_clock[0] == 50 * 160


def phases(line: Line, rows: int) -> dict[int, int]:
    """How many rows send in each tick of 20 ms, by that tick; every row in one of them only."""
    ticks = [{packet.at_ns % 20_000_000 for packet in line.sent(row)} for row in range(rows)]
    assert {len(each) for each in ticks} == {1}
    return Counter(each.pop() for each in ticks)


def test_a_few_rows_send_in_the_same_tick_of_their_packet_time() -> None:
    line = Line(rows=8)
    for row in range(8):
        line.open(row)
        line.run_ms(5)
    line.run_ms(100)
    assert list(phases(line, 8).values()) == [8]


def test_many_rows_are_spread_over_the_ticks_of_their_packet_time() -> None:
    rows = 5 * ROWS_PER_PHASE
    line = Line(rows=rows)
    for row in range(rows):
        line.open(row)
    line.run_ms(60)
    assert sorted(phases(line, rows).values()) == [rows // 4] * 4


def test_a_row_takes_the_place_of_one_that_left() -> None:
    rows = 2 * ROWS_PER_PHASE
    line = Line(rows=rows)
    for row in range(rows):
        line.open(row)
    line.plane.handle(CloseRow(0, 1), line.now_ns)
    line.open(0)
    line.run_ms(60)
    assert sorted(phases(line, rows).values()) == [ROWS_PER_PHASE] * 2


@pytest.mark.rfc(
    "3550",
    "5.1",
    "MUST",
    role="both",
    text="numbers grow by one with each packet, timestamps by its samples, over the wrap",
)
def test_sequence_and_timestamp_wrap_without_a_gap() -> None:
    line = Line().open()
    line.plane.sender.sequence[0] = 65530
    line.plane.sender.timestamp[0] = 2**32 - 1000
    line.run_ms(400)
    assert continuous(line)


def test_speech_is_sent_as_it_was_written_and_the_rest_of_its_last_packet_is_silence() -> None:
    line = Line().open()
    speak(line, level(8000, 400))
    line.run_ms(100)
    heard = np.concatenate([packet.pcm for packet in line.sent()])
    assert (np.abs(heard[:400] - 8000) < 300).all()
    assert (np.abs(heard[400:]) <= 8).all()
    assert line.table.tx_read[0] == 400


@pytest.mark.rfc("3551", "4.1", "SHOULD", role="both", text="the marker is set on the first packet of a talk spurt")
def test_the_marker_is_set_at_the_beginning_of_each_talk_spurt_only() -> None:
    line = Line().open()
    line.run_ms(60)
    speak(line, level(8000, 480))
    line.run_ms(200)
    speak(line, level(8000, 320))
    line.run_ms(100)
    marks = [packet.marker for packet in line.sent()]
    assert sum(marks) == 2
    assert marks.index(True) == 3


def test_comfort_noise_of_the_configured_level_is_sent_when_nobody_speaks() -> None:
    line = Line(comfort_noise_dbov=-50.0).open()
    line.run_ms(1000)
    heard = np.concatenate([packet.pcm for packet in line.sent()]).astype(float)
    assert 20 * np.log10(np.sqrt((heard**2).mean()) / 32768) == pytest.approx(-50, abs=1)


def test_what_left_the_socket_is_in_the_ring_of_sent_samples() -> None:
    line = Line().open()
    speak(line, np.arange(1600, dtype=np.int16))
    line.run_ms(100)
    assert (line.table.sent_pcm[0, :640] == np.arange(640)).all()


def test_a_flush_leaves_at_most_one_packet_and_tells_where_it_cut() -> None:
    line = Line().open()
    speak(line, level(8000, 16000))
    line.run_ms(100)
    played = int(line.table.tx_read[0])
    line.table.tx_flush_to[0] = line.table.tx_head[0]
    count = len(line.sent())
    line.run_ms(100)
    assert line.table.tx_flush_at[0] == played
    assert line.table.tx_flush_done[0] == line.table.tx_read[0] == line.table.tx_head[0] == 16000
    after = [np.abs(packet.pcm).max() for packet in line.sent()[count:]]
    assert max(after[1:]) <= 8
    assert np.abs(line.sent()[count].pcm[40:]).max() <= 8  # the residue is a fade of 5 ms
    assert continuous(line)


def test_speech_written_after_a_flush_is_played() -> None:
    line = Line().open()
    speak(line, level(8000, 4000))
    line.run_ms(60)
    line.table.tx_flush_to[0] = line.table.tx_head[0]
    speak(line, level(-4000, 160))
    line.run_ms(20)
    assert np.abs(line.sent()[-1].pcm[60:] + 4000).max() < 200


def test_gain_is_ramped_and_comfort_noise_keeps_its_level() -> None:
    line = Line().open()
    speak(line, level(8000, 3200))
    line.run_ms(60)
    line.table.tx_gain[0] = 0.5
    line.run_ms(40)
    heard = np.concatenate([packet.pcm for packet in line.sent()]).astype(int)
    assert abs(heard[-1] - 4000) < 150
    assert np.abs(np.diff(heard)).max() < 600  # no click


def test_the_ears_duck_a_row_within_one_packet_and_only_where_the_route_allows_it() -> None:
    line = Line().open(0).open(1)
    line.table.reflex[1] = 0
    for row in (0, 1):
        speak(line, level(8000, 3200), row)
    line.run_ms(40)
    line.table.duck[:] = 1
    line.run_ms(40)
    assert abs(int(line.sent(0)[-1].pcm[-1]) - 2000) < 100
    assert abs(int(line.sent(1)[-1].pcm[-1]) - 8000) < 300
    line.table.duck[:] = 0
    line.run_ms(40)
    assert abs(int(line.sent(0)[-1].pcm[-1]) - 8000) < 300


def test_ears_and_worker_that_duck_at_once_duck_once() -> None:
    line = Line().open()
    speak(line, level(8000, 3200))
    line.run_ms(40)
    line.table.duck[:] = 1
    line.table.tx_gain[:] = 0.25
    line.run_ms(40)
    assert abs(int(line.sent()[-1].pcm[-1]) - 2000) < 100


def test_marks_come_back_with_the_call_time_at_which_they_left() -> None:
    line = Line().open()
    line.run_ms(100)
    clock = int(line.table.tx_clock[0])
    speak(line, level(1, 500))
    line.table.mark_position[0, :3] = (0, 200, 500)
    line.table.mark_count[0] = 3
    line.run_ms(20)
    assert line.table.mark_done[0] == 1
    line.run_ms(100)
    assert line.table.mark_done[0] == 3
    assert line.table.mark_clock[0, :3].tolist() == [clock, clock + 200, clock + 500]
    assert MARKS == 64


def test_a_packet_without_speech_between_two_with_it_is_a_dry_slot_but_a_pause_is_none() -> None:
    line = Line().open()
    speak(line, level(1, 320))
    line.run_ms(80)
    speak(line, level(1, 320))
    line.run_ms(1000)
    speak(line, level(1, 320))
    line.run_ms(100)
    assert line.counter("dry_slots") == 2


@pytest.mark.rfc("3550", "5.1", "MUST", role="both", text="timestamps run on while nothing is sent")
def test_on_hold_nothing_is_sent_and_the_timestamp_runs_on() -> None:
    line = Line().open()
    line.run_ms(100)
    line.stream(sending=False)
    speak(line, level(1, 320))
    line.run_ms(200)
    assert len(line.sent()) == 5
    assert line.table.tx_read[0] == 0
    line.stream()
    line.run_ms(100)
    before, after = line.sent()[4], line.sent()[5]
    assert (after.sequence - before.sequence) % 65536 == 1
    assert (after.timestamp - before.timestamp) % 2**32 == 11 * 160
    assert line.table.tx_read[0] == 320


def test_packet_time_and_codec_are_those_that_were_negotiated() -> None:
    line = Line().open(send=PCMA, ptime_ms=30)
    line.run_ms(300)
    assert continuous(line, 240)
    assert {(len(packet.data), packet.payload_type) for packet in line.sent()} == {(252, 8)}


def test_after_a_stall_at_most_three_packets_are_made_good_and_no_number_is_left_out() -> None:
    line = Line().open()
    line.run_ms(100)
    line.tick_number += 100  # half a second in which we were not let run
    line.now_ns += 500_000_000
    line.run_ms(100)
    assert len(line.sent()) <= 5 + 3 + 5
    assert continuous(line, 160)
    # Our own call time has run on: a recording stays in step with the far end's leg.
    assert int(line.table.tx_clock[0]) == 700 * 8


def test_a_prompt_is_mixed_with_speech_and_its_end_is_told() -> None:
    line = Line().open()
    speak(line, level(8000, 8000))
    line.do(Play(0, 1, "tone:busy"))
    line.plane._playback._loader.shutdown(wait=True)
    line.run_ms(100)
    heard = np.concatenate([packet.pcm for packet in line.sent()[1:]]).astype(float)
    assert abs(heard.mean() - 8000) < 500 and heard.std() > 1000
    line.run_ms(1200)
    assert line.events_of(PlayEnded) == [PlayEnded(0, 1, "tone:busy")]


def test_an_exclusive_prompt_flushes_speech_and_holds_what_comes_after_it() -> None:
    line = Line().open()
    speak(line, level(8000, 8000))
    line.run_ms(40)
    line.do(Play(0, 1, "tone:busy", exclusive=True))
    line.plane._playback._loader.shutdown(wait=True)
    speak(line, level(8000, 160))
    line.run_ms(500)
    assert line.table.tx_flush_at[0] == 320
    assert line.table.tx_head[0] - line.table.tx_read[0] == 160
    line.run_ms(700)
    assert line.table.tx_head[0] == line.table.tx_read[0]


def test_a_looped_prompt_goes_on_until_it_is_stopped_and_fades_within_a_packet() -> None:
    line = Line().open()
    line.do(Play(0, 1, "tone:busy", loop=True))
    line.plane._playback._loader.shutdown(wait=True)
    line.run_ms(2200)
    assert line.events_of(PlayEnded) == []
    line.do(StopPlay(0, 1))
    line.run_ms(40)
    assert line.events_of(PlayEnded) == [PlayEnded(0, 1, "tone:busy")]
    media = [packet for packet in line.sent() if not 192 <= packet.data[1] <= 223]  # a report may lie between
    assert np.abs(media[-1].pcm).max() <= 8


def test_a_prompt_that_cannot_be_read_is_told_and_the_line_goes_on() -> None:
    line = Line().open()
    line.do(Play(0, 1, "/nowhere/at-all.wav"))
    line.plane._playback._loader.shutdown(wait=True)
    line.run_ms(100)
    assert "cannot be read" in line.events_of(MediaProblem)[0].problem
    assert line.events_of(PlayEnded) and continuous(line)


def test_a_prompt_that_fails_in_a_way_that_nobody_thought_of_is_told_and_the_line_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("a file of petabytes")

    line = Line().open()
    monkeypatch.setattr(line.plane._playback._prompts, "load", fail)
    line.do(Play(0, 1, "huge.wav", exclusive=True))
    line.plane._playback._loader.shutdown(wait=True)
    line.run_ms(100)
    assert "petabytes" in line.events_of(MediaProblem)[0].problem
    assert line.events_of(PlayEnded) and continuous(line)
    assert not line.plane.sender.held[0]


def test_what_the_old_worker_queued_is_flushed_when_another_takes_the_row() -> None:
    line = Line().open()
    speak(line, level(8000, 8000))
    line.run_ms(40)
    line.do(AssignWorker(0, 1, 3))
    line.run_ms(40)
    assert np.abs(line.sent()[-1].pcm).max() <= 8
    assert line.table.worker[0] == 3
