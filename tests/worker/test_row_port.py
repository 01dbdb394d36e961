"""RowPort against a call table whose media side and ears are moved by hand."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.pipeline.port import AudioPort, SpeechEvent
from sipagent.rtp.port import RowPort
from sipagent.rtp.table import MARKS, RX_RING, SPEECH_EVENTS, TX_RING, CallTable

ROW, GENERATION = 1, 7


class Line:
    """The media plane and the ears of one row, moved by hand."""

    def __init__(self, table: CallTable) -> None:
        self.table = table
        self.heard: list[NDArray[np.int16]] = []
        table.generation[ROW], table.active[ROW], table.rate_hz[ROW] = GENERATION, 1, 8000
        table.speech_generation[ROW] = GENERATION

    def receive(self, pcm: NDArray[np.int16]) -> None:
        head = int(self.table.rx_head[ROW])
        self.table.rx_pcm[ROW, (head + np.arange(len(pcm))) % RX_RING] = pcm
        self.table.rx_head[ROW] = head + len(pcm)

    def play(self, samples: int) -> NDArray[np.int16]:
        """Carry out a flush, then send up to `samples` samples of what the worker wrote."""
        table = self.table
        if table.tx_flush_to[ROW] > table.tx_flush_done[ROW]:
            table.tx_flush_at[ROW] = table.tx_read[ROW]
            table.tx_read[ROW] = max(table.tx_read[ROW], table.tx_flush_to[ROW])
            table.tx_flush_done[ROW] = table.tx_flush_to[ROW]
        read = int(table.tx_read[ROW])
        count = min(samples, int(table.tx_head[ROW]) - read)
        out: NDArray[np.int16] = table.tx_pcm[ROW, (read + np.arange(count)) % TX_RING].copy()
        table.tx_read[ROW] = read + count
        table.tx_clock[ROW] += samples
        while table.mark_done[ROW] < table.mark_count[ROW]:
            number = int(table.mark_done[ROW])
            if table.mark_position[ROW, number % MARKS] > table.tx_read[ROW]:
                break
            table.mark_clock[ROW, number % MARKS] = table.tx_clock[ROW]
            table.mark_done[ROW] = number + 1
        return out

    def speech(self, position: int) -> None:
        count = int(self.table.speech_count[ROW])
        self.table.speech_at[ROW, count % SPEECH_EVENTS] = position
        self.table.speech_count[ROW] = count + 1


@pytest.fixture
def line() -> Iterator[Line]:
    table, fd = CallTable.create(2)
    yield Line(table)
    os.close(fd)


def port_of(line: Line, pending_seconds: float = 120.0) -> RowPort[SpeechEvent]:
    return RowPort(line.table, ROW, GENERATION, SpeechEvent, pending_seconds)


def ramp(samples: int, start: int = 0) -> NDArray[np.int16]:
    return ((start + np.arange(samples)) % 30000).astype(np.int16)


def test_a_row_port_is_an_audio_port(line: Line) -> None:
    port: AudioPort = port_of(line)
    assert port.rate_hz == 8000 and port.received() == 0 and port.flushed_at() is None


def test_received_samples_are_read_across_the_end_of_the_ring(line: Line) -> None:
    line.table.rx_head[ROW] = RX_RING - 100
    port = port_of(line)
    line.receive(ramp(300, 1))
    assert port.received() == RX_RING + 200
    assert np.array_equal(port.read(RX_RING - 100, RX_RING + 200), ramp(300, 1))


def test_what_the_ring_does_not_hold_reads_as_silence(line: Line) -> None:
    port = port_of(line)
    line.receive(ramp(160, 1))
    early = port.read(-80, 80)
    assert not early[:80].any() and np.array_equal(early[80:], ramp(80, 1))
    assert not port.read(160, 320).any()
    for _ in range(RX_RING // 160 + 1):
        line.receive(np.full(160, 5, np.int16))
    assert not port.read(0, 160).any()
    assert len(port.read(10, 5)) == 0


def test_long_replies_wait_and_are_heard_whole_and_in_order(line: Line) -> None:
    port = port_of(line)
    reply = ramp(TX_RING * 3 + 77)
    assert port.write(reply) == 0
    assert port.write(ramp(100)) == len(reply)
    heard = []
    while port.waiting():
        heard.append(line.play(160))
        port.pump()
    assert np.array_equal(np.concatenate(heard), np.concatenate([reply, ramp(100)]))
    assert port.played() == port.written() == len(reply) + 100


def test_pending_speech_is_capped_and_what_is_dropped_is_counted(line: Line) -> None:
    port = port_of(line, pending_seconds=1.0)
    port.write(ramp(TX_RING))
    port.write(ramp(8000))
    end = port.written()
    port.write(ramp(500))
    assert port.written() == end and port.dropped_samples == 500


def test_a_flush_drops_the_ring_and_what_waits_and_tells_where_it_cut(line: Line) -> None:
    port = port_of(line)
    port.write(ramp(TX_RING + 5000))
    line.play(480)
    port.flush()
    assert port.flushed_at() is None
    assert port.played() == 480
    assert len(line.play(160)) == 0
    assert port.flushed_at() == 480
    assert port.written() == port.played() == TX_RING + 5000
    assert port.write(ramp(160, 9)) == TX_RING + 5000
    assert np.array_equal(line.play(160), ramp(160, 9))
    assert port.played() == TX_RING + 5160


def test_speech_written_before_the_flush_is_carried_out_survives_it(line: Line) -> None:
    port = port_of(line)
    port.write(ramp(TX_RING + 1000))
    line.play(320)
    port.flush()
    position = port.write(ramp(160, 3))
    assert position == TX_RING + 1000
    port.pump()
    line.play(0)
    port.pump()
    assert np.array_equal(line.play(160), ramp(160, 3))
    assert port.flushed_at() == 320 and port.played() == position + 160


def test_two_flushes_in_a_row_cut_where_the_first_one_found_the_line(line: Line) -> None:
    port = port_of(line)
    port.write(ramp(TX_RING - 200))
    line.play(160)
    port.flush()
    port.write(ramp(100))
    port.flush()
    line.play(160)
    assert port.flushed_at() == 160
    assert port.played() == port.written()


def test_positions_grow_over_many_flushes(line: Line) -> None:
    port = port_of(line)
    last = -1
    random = np.random.default_rng(3)
    for _ in range(200):
        port.write(ramp(int(random.integers(1, 2 * TX_RING))))
        line.play(int(random.integers(0, 4000)))
        port.pump()
        assert port.played() >= last
        last = port.played()
        port.flush()
        line.play(160)
        cut = port.flushed_at()
        assert cut is not None and cut >= last
        assert port.played() == port.written()


def test_the_gain_is_full_at_first_and_is_set_for_the_media_plane(line: Line) -> None:
    port = port_of(line)
    assert line.table.tx_gain[ROW] == 1.0
    port.set_gain(0.5)
    assert line.table.tx_gain[ROW] == 0.5


def test_marks_tell_at_which_call_time_speech_left(line: Line) -> None:
    port = port_of(line)
    line.play(800)
    port.write(ramp(160))
    first = port.mark()
    port.write(ramp(TX_RING))
    second = port.mark()
    assert port.mark_clock(first) is None
    line.play(160)
    assert port.mark_clock(first) == 960
    while port.waiting():
        line.play(160)
        port.pump()
    line.play(160)
    clock = port.mark_clock(second)
    assert clock is not None and clock >= 960 + TX_RING


def test_a_mark_on_flushed_speech_passes_with_the_flush(line: Line) -> None:
    port = port_of(line)
    port.write(ramp(TX_RING + 5000))
    number = port.mark()
    port.flush()
    port.pump()
    line.play(160)
    assert port.mark_clock(number) is not None


def test_speech_events_come_once_with_their_positions(line: Line) -> None:
    port = port_of(line)
    line.speech(800)
    line.speech(4000)
    assert port.speech_events() == [SpeechEvent(True, 800), SpeechEvent(False, 4000)]
    assert port.speech_events() == []


def test_events_that_a_busy_worker_missed_are_skipped_not_mixed_up(line: Line) -> None:
    port = port_of(line)
    for number in range(SPEECH_EVENTS + 3):
        line.speech(number * 100)
    events = port.speech_events()
    assert len(events) == SPEECH_EVENTS
    assert events[-1] == SpeechEvent(True, (SPEECH_EVENTS + 2) * 100)


def test_the_next_worker_goes_on_from_the_tables_heads_and_ignores_old_speech(line: Line) -> None:
    first = port_of(line)
    first.write(ramp(1000))
    line.play(400)
    line.speech(100)
    line.speech(900)
    line.play(600)
    second = port_of(line)
    assert second.speech_events() == []
    assert second.write(ramp(160, 5)) == 1000
    assert np.array_equal(line.play(160), ramp(160, 5))
    line.speech(5000)
    assert second.speech_events() == [SpeechEvent(True, 5000)]


def test_the_next_worker_hears_of_a_caller_who_is_speaking_now(line: Line) -> None:
    line.speech(100)
    line.speech(900)
    line.speech(7000)
    assert port_of(line).speech_events() == [SpeechEvent(True, 7000)]


def test_speech_of_the_rows_last_call_is_not_this_calls(line: Line) -> None:
    line.speech(100)
    line.table.speech_generation[ROW] = GENERATION - 1
    port = port_of(line)
    assert port.speech_events() == []
    line.table.speech_count[ROW] = 0
    line.table.speech_generation[ROW] = GENERATION
    line.speech(50)
    assert port.speech_events() == [SpeechEvent(True, 50)]


def test_a_row_that_passed_to_another_call_is_not_written_to(line: Line) -> None:
    port = port_of(line)
    line.receive(ramp(160, 1))
    line.table.generation[ROW] = GENERATION + 1
    port.write(ramp(160))
    port.pump()
    port.flush()
    port.set_gain(0.1)
    assert line.table.tx_head[ROW] == 0 and line.table.tx_gain[ROW] == 1.0
    assert not port.read(0, 160).any() and not port.open
