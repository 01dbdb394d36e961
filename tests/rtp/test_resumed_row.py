"""A row that goes on after its media plane was started anew, over the same table and in virtual time."""

from typing import cast

import numpy as np

from sipagent.rtp.concealer import PitchConcealer
from sipagent.rtp.control import OpenRow
from sipagent.rtp.plane import MediaPlane
from sipagent.rtp.port import RowPort
from sipagent.rtp.sockets import RowSockets
from sipagent.rtp.table import CONCEALED_BLOCK
from sipagent.rtp.timeline import SILENCE
from tests.rtp.line import Line, WireIo, marked, packets_heard, rtp, talk

GAP_MS = 640


def restarted(line: Line) -> None:
    """The process of the plane is another one; `GAP_MS` have passed."""
    line.now_ns += GAP_MS * 1_000_000
    line.plane = MediaPlane(
        line.table,
        line.options,
        cast(RowSockets, line.sockets),
        WireIo,
        PitchConcealer(line.table),
        line.events.append,
    )
    line.io = cast(WireIo, line.plane.io)


def speak(line: Line, first: int, count: int) -> None:
    talk(line, [(20 * n, rtp(first + n, 160 * (first + n), marked(first + n))) for n in range(count)])


def test_a_resumed_row_keeps_its_time_and_its_counters_and_hears_and_sends_again() -> None:
    line = Line().open()
    speak(line, 1, 50)
    before, sent_before = int(line.table.rx_head[0]), int(line.table.tx_clock[0])
    received = line.counter("packets_received")
    restarted(line)
    assert not line.table.active[0]
    line.do(OpenRow(0, 1, 0, resumed_ms=GAP_MS))
    line.stream()
    gap = GAP_MS * 8
    assert int(line.table.rx_head[0]) == before + gap and int(line.table.tx_clock[0]) == sent_before + gap
    flags = line.table.rx_concealed[0, before // CONCEALED_BLOCK + 1 : (before + gap) // CONCEALED_BLOCK]
    assert (flags == SILENCE).all()
    speak(line, 1 + 50 + GAP_MS // 20, 50)
    heard = [number for number in packets_heard(line) if number >= 0]
    assert heard[:50] == list(range(1, 51)) and len(heard) >= 98
    assert line.counter("packets_received") == received + 50
    assert len(line.sent()) >= 45 and len({packet.data[8:12] for packet in line.sent()}) == 1


def test_a_row_of_a_new_call_begins_at_nothing() -> None:
    line = Line().open()
    speak(line, 1, 10)
    restarted(line)
    line.do(OpenRow(0, 2))
    assert line.table.rx_head[0] == line.table.tx_clock[0] == line.counter("packets_received") == 0


def test_speech_that_waited_while_there_was_no_plane_is_dropped_and_playout_positions_only_grow() -> None:
    line = Line().open()
    port = RowPort(line.table, 0, 1, lambda speaking, position: (speaking, position))
    port.write(np.full(80_000, 1000, np.int16))  # more than the ring takes
    line.run_ms(200)
    written = port.written()
    restarted(line)
    port.pump()
    assert port.written() == written
    line.do(OpenRow(0, 1, 0, resumed_ms=GAP_MS))
    line.stream()
    line.run_ms(40)
    assert port.played() == port.written() == written, "nobody waits for what will never be heard"
    port.write(np.full(800, 1000, np.int16))
    line.run_ms(200)
    assert port.played() == written + 800


def test_speech_is_heard_after_the_gap() -> None:
    line = Line().open()
    port = RowPort(line.table, 0, 1, lambda speaking, position: (speaking, position))
    restarted(line)
    line.do(OpenRow(0, 1, 0, resumed_ms=GAP_MS))
    line.stream()
    port.write(np.full(1600, 5000, np.int16))
    line.run_ms(400)
    assert sum(bool((packet.pcm > 4000).all()) for packet in line.sent()) >= 9
