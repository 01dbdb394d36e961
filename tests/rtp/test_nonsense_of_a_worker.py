"""A worker that writes nonsense into its columns of the call table harms nobody but itself."""

import functools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sipagent.rtp.concealer import SilenceInstead
from sipagent.rtp.control import AssignWorker, Bridge, CloseRow, MediaProblem
from sipagent.rtp.port import RowPort
from sipagent.rtp.table import COLUMNS, TX_RING, CallTable, Column
from tests.rtp.line import Line, marked, rtp

BAD, TALKING, SILENT, JOINED = range(4)
TICKS = 240
WORKERS_COLUMNS = [column for column in COLUMNS if column.writer != "media"]
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Scribble:
    """`value` put into every cell of `column` in tick `tick`; integers are taken as the bits of a float."""

    tick: int
    column: Column
    value: int

    def write(self, table: CallTable, row: int) -> None:
        cell = getattr(table, self.column.name)[row : row + 1]
        octets = (self.value % (1 << 8 * cell.itemsize)).to_bytes(cell.itemsize, "little")
        cell[...] = np.frombuffer(octets, cell.dtype)[0]


def scribble(name: str, value: int, tick: int = 30) -> Scribble:
    return Scribble(tick, next(column for column in WORKERS_COLUMNS if column.name == name), value)


def bits(gain: float) -> int:
    return int(np.float32(gain).view(np.uint32))


values = st.one_of(
    st.integers(-(2**63), LARGEST),
    st.integers(-3 * TX_RING, 3 * TX_RING),
    st.sampled_from([LARGEST, -LARGEST - 1, 2**62, 2**31, -1, 0, 1, *map(bits, (np.nan, np.inf, -np.inf, 1e38, -0.0))]),
)
scribbles = st.lists(
    st.builds(Scribble, st.integers(0, TICKS - 1), st.sampled_from(WORKERS_COLUMNS), values), min_size=1, max_size=8
)


def speech(first: int, samples: int) -> np.ndarray:
    return (np.arange(first, first + samples) % 997 * 20 - 9970).astype(np.int16)


def port_of(line: Line, row: int, generation: int = 1) -> RowPort[tuple[bool, int]]:
    return RowPort(line.table, row, generation, lambda speaking, position: (speaking, position))


def call(nonsense: list[Scribble], *, joined: bool = False, again: bool = False) -> Line:
    """Four calls for 1.2 s; the worker of `BAD` speaks, and scribbles besides, once or in every tick from then on."""
    line = Line(rows=4, concealer=SilenceInstead(), rtcp_interval_ms=0)
    line.plane.sender._random = np.random.default_rng(1)
    ports = []
    for row in range(4):
        line.open(row)
        line.table.reflex[row] = 1
        ports.append(port_of(line, row))
    if joined:
        line.do(Bridge(BAD, 1, JOINED, 1, agent=True))
    for tick in range(TICKS):
        if tick % 4 == 0:
            for row in range(4):
                line.arrive(rtp(tick // 4, 40 * tick, marked(tick // 4)), row=row)
        if tick % 20 == 0:
            ports[TALKING].write(speech(tick, 700))
            ports[TALKING].mark()
        if tick == 100:
            ports[TALKING].flush()
            ports[TALKING].set_gain(0.5)
        if tick == 10:
            line.table.tx_pcm[BAD] = speech(0, TX_RING)
            line.table.tx_head[BAD] = 9000
        for each in nonsense:
            if each.tick == tick or (again and each.tick < tick):
                each.write(line.table, BAD)
        line.tick()
    return line


@functools.cache
def undisturbed() -> Line:
    return call([])


def unbroken(line: Line, row: int, packets: int) -> bool:
    sent = line.sent(row)
    assert len(sent) == packets
    return (
        set(np.diff([packet.at_ns for packet in sent])) == {20_000_000}
        and set(np.diff([packet.sequence for packet in sent]) % 65536) == {1}
        and set(np.diff([packet.timestamp for packet in sent]) % 2**32) == {160}
    )


@settings(max_examples=100, deadline=None)
@example([scribble("tx_head", LARGEST)], False, True)
@example([scribble("tx_head", -LARGEST - 1)], False, False)
@example([scribble("tx_flush_to", LARGEST)], False, True)
@example([scribble("tx_head", LARGEST), scribble("tx_flush_to", LARGEST)], True, False)
@example([scribble("mark_count", LARGEST)], False, True)
@example([scribble("mark_position", -LARGEST - 1, 5), scribble("mark_count", 5, 40)], False, False)
@example([scribble("tx_gain", bits(np.nan))], False, True)
@example([scribble("tx_gain", 0x7F800001)], True, False)  # a NaN that signals
@example([scribble("tx_gain", bits(np.inf))], False, True)
@example([scribble("tx_gain", bits(-1e38))], False, False)
@example([scribble("tx_gain", bits(np.nan)), scribble("duck", 255)], False, True)
@example([scribble("tx_audience", 0)], True, False)
@given(scribbles, st.booleans(), st.booleans())
def test_whatever_a_worker_writes_its_row_sends_on_and_the_others_do_not_notice(
    nonsense: list[Scribble], joined: bool, again: bool
) -> None:
    line = call(nonsense, joined=joined, again=again)
    for row in (TALKING, SILENT):
        assert [packet.data for packet in line.sent(row)] == [packet.data for packet in undisturbed().sent(row)]
        assert (line.heard(row) == undisturbed().heard(row)).all()
    assert unbroken(line, BAD, TICKS // 4) and unbroken(line, JOINED, TICKS // 4)
    assert {problem.row for problem in line.events_of(MediaProblem)} <= {BAD}
    assert len(line.events_of(MediaProblem)) <= 1
    works_as_new(line)


def works_as_new(line: Line) -> None:
    """The next call of the row has a worker that knows what it does."""
    line.do(CloseRow(BAD, 1))
    line.open(BAD, 2)
    line.table.duck[BAD] = 0  # by the ears
    port = port_of(line, BAD, 2)
    before = len(line.sent(BAD))
    assert port.waiting() == 0
    begin = port.write(speech(0, 3200))
    mark = port.mark()
    line.run_ms(500)
    assert port.played() == begin + 3200 and port.mark_clock(mark) == 3200
    sent = np.concatenate([packet.pcm for packet in line.sent(BAD)[before:]])
    assert np.abs(sent[:3200].astype(int) - speech(0, 3200)).max() < 400 and np.abs(sent[3200:]).max() <= 8
    port.write(speech(0, 16000))
    line.run_ms(100)
    port.flush()
    line.run_ms(40)
    cut = port.flushed_at()
    assert cut is not None and begin + 3200 < cut <= begin + 3200 + 960
    assert port.waiting() == 0


@pytest.mark.parametrize(
    ("column", "value"),
    [("tx_head", LARGEST), ("tx_flush_to", LARGEST), ("mark_count", 2**40), ("tx_gain", bits(np.inf))],
)
def test_a_worker_that_wrote_nonsense_once_is_told_of_and_heard_again(column: str, value: int) -> None:
    line = Line().open()
    port = port_of(line, 0)
    line.run_ms(100)
    scribble(column, value).write(line.table, 0)
    line.run_ms(200)
    scribble(column, value).write(line.table, 0)
    line.run_ms(200)
    (told,) = line.events_of(MediaProblem)
    assert told == MediaProblem(f"the worker of this call wrote nonsense to {column}: it was put right", 0, 1)
    assert not line.plane.sender._special()[0]
    port.write(speech(0, 1600))
    mark = port.mark()
    line.run_ms(300)
    assert port.waiting() == 0 and port.mark_clock(mark) is not None
    assert max(np.abs(packet.pcm).max() for packet in line.sent()[-14:]) > 9000


def test_speech_at_a_gain_that_is_none_is_heard_as_it_was_written() -> None:
    for gain in (np.nan, np.inf, -np.inf, 3e38):
        line = Line().open()
        port_of(line, 0).write(speech(0, 3200))
        line.table.tx_gain[0] = gain
        line.run_ms(60)
        heard = np.concatenate([packet.pcm for packet in line.sent()]).astype(int)
        assert np.abs(heard - speech(0, len(heard))).max() < 400


def test_the_next_worker_of_a_call_begins_without_the_nonsense_of_the_last_one() -> None:
    line = Line().open()
    port_of(line, 0).write(speech(0, 3200))
    for column in ("tx_head", "tx_flush_to", "mark_count"):
        scribble(column, LARGEST).write(line.table, 0)
    line.do(AssignWorker(0, 1, 3))
    port = port_of(line, 0)
    port.write(speech(0, 1600))
    mark = port.mark()
    line.run_ms(300)
    assert port.waiting() == 0 and port.mark_clock(mark) == 1600
    assert line.events_of(MediaProblem) == []


@pytest.mark.parametrize("head", [LARGEST, -LARGEST - 1, 10 * TX_RING])
def test_a_worker_that_announces_more_than_the_ring_holds_is_silent_within_a_tenth_of_a_second(head: int) -> None:
    line = Line(rtcp_interval_ms=0).open()
    line.table.tx_pcm[0] = 9000
    line.table.tx_head[0] = 8000
    line.run_ms(200)
    line.table.tx_head[0] = head
    line.run_ms(120)
    before = len(line.sent())
    line.run_ms(1000)
    assert max(np.abs(packet.pcm).max() for packet in line.sent()[before:]) <= 8


def test_what_was_said_in_another_call_is_not_heard_when_a_worker_announces_what_it_has_not_written() -> None:
    line = Line(rtcp_interval_ms=0).open()
    port_of(line, 0).write(speech(0, 16000))
    line.run_ms(200)
    line.do(CloseRow(0, 1))
    line.open(generation=2)
    line.table.tx_head[0] += TX_RING
    before = len(line.sent())
    line.run_ms(1000)
    assert max(np.abs(packet.pcm).max() for packet in line.sent()[before:]) <= 8
