import numpy as np
import pytest

from sipagent.rtp.control import CloseRow, MediaProblem
from sipagent.rtp.packet import Batch
from sipagent.rtp.turns import MAX_HELD_UP, MAX_WAITING, TURNS, TURNS_OF_A_FLOOD, Turns, in_turns
from tests.rtp.line import Line, marked, packets_heard, rtp


def make() -> Turns:
    return Turns(np.zeros(4, np.uint64), np.zeros(4, np.bool_))


def batch(rows: list[int], first: int = 0, width: int = 16) -> Batch:
    data = np.zeros((len(rows), width), np.uint8)
    data[:, :8] = np.arange(first, first + len(rows))[:, None].view(np.uint8)
    return Batch(np.array(rows), data, np.full(len(rows), 8))


def numbers(came: Batch, row: int) -> list[int]:
    return np.ascontiguousarray(came.data[came.rows == row, :8]).view(np.int64)[:, 0].tolist()


def test_a_batch_with_each_row_once_is_passed_on_as_it_is() -> None:
    turns, came = make(), batch([2, 0, 3])
    assert turns.take([came]) == [came]
    assert turns.take([]) == []
    assert list(in_turns(came)) == [came]


def test_packets_of_one_row_take_turns_in_their_order() -> None:
    rows = [1, 0, 1, 1, 2, 0]
    for taken in (make().take([batch(rows)]), list(in_turns(batch(rows)))):
        assert [sorted(turn.rows.tolist()) for turn in taken] == [[0, 1, 2], [0, 1], [1]]
        assert [number for turn in taken for number in numbers(turn, 1)] == [0, 2, 3]
        assert [number for turn in taken for number in numbers(turn, 0)] == [1, 5]


def test_what_is_too_much_for_a_tick_waits_and_goes_before_what_comes_later() -> None:
    turns = make()
    came = [turns.take([batch([0] * 20 + [1])]), turns.take([batch([0, 1], first=100, width=32)]), turns.take([])]
    assert [len(taken) for taken in came] == [TURNS, TURNS, 20 + 1 - 2 * TURNS]
    heard = [number for taken in came for turn in taken for number in numbers(turn, 0)]
    assert heard == [*range(20), 100]
    assert [number for taken in came for turn in taken for number in numbers(turn, 1)] == [20, 101]
    assert turns.take([]) == []


def test_a_flood_is_dropped_and_counted_for_the_row_that_it_came_to() -> None:
    dropped = np.zeros(4, np.uint64)
    turns = Turns(dropped, np.zeros(4, np.bool_))
    came = 5000
    taken = turns.take([batch([3] * came + [1])])
    assert sum(map(len, taken)) == TURNS_OF_A_FLOOD + 1
    assert dropped.tolist() == [0, 0, 0, came - TURNS_OF_A_FLOOD - MAX_WAITING]
    left = [sum(map(len, turns.take([]))) for _ in range(MAX_WAITING // TURNS + 1)]
    assert left == [TURNS] * (MAX_WAITING // TURNS) + [0]


def test_what_came_while_we_were_stopped_is_no_flood() -> None:
    dropped = np.zeros(4, np.uint64)
    turns = Turns(dropped, np.zeros(4, np.bool_))
    taken = turns.take([batch([3] * 2 * MAX_WAITING)], stopped=True)
    assert sum(map(len, taken)) == TURNS
    assert dropped[3] == MAX_WAITING - TURNS
    assert sum(map(len, turns.take([batch([3])]))) == TURNS


def test_rows_that_wait_are_held_up_until_all_is_dealt_with_but_not_for_as_long_as_a_flood_lasts() -> None:
    held_up = np.zeros(4, np.bool_)
    turns = Turns(np.zeros(4, np.uint64), held_up)
    turns.take([batch([1] * 3 * TURNS + [2])])
    seen = [held_up.tolist()]
    for _ in range(3):
        turns.take([])
        seen.append(held_up.tolist())
    assert seen == [[False, True, False, False]] * 3 + [[False] * 4]
    turns.take([], stopped=True)
    assert held_up.all()
    for _ in range(MAX_HELD_UP + 1):
        turns.take([batch([3] * 3 * TURNS)])
    assert not held_up.any()


def test_a_far_end_that_floods_us_is_counted_and_costs_the_other_call_nothing() -> None:
    line = Line().open(0).open(1)
    for number in range(100):
        if number % 4 == 0:
            line.arrive(rtp(number // 4, 40 * number, marked(number // 4)), row=1)
        line.arrive(*(rtp(7, 0, ssrc=number * 1000 + index) for index in range(300)), row=0)
        line.tick()
    assert list(packets_heard(line, row=1))[-20:] == list(range(5, 25))
    assert line.counter("dropped_flood") > 20_000
    (told,) = line.events_of(MediaProblem)
    assert told.row == 0 and "192.0.2.1:4000" in told.problem
    assert line.counter("lost", row=1) == line.counter("concealed_samples", row=1) == 0


@pytest.mark.parametrize("packets", [TURNS, 5 * TURNS])
def test_what_a_line_brings_at_once_is_heard_whole(packets: int) -> None:
    line = Line().open()
    line.arrive(*(rtp(number, 160 * number, marked(number)) for number in range(packets)))
    line.tick(20)
    assert line.counter("packets_received") == packets
    assert line.counter("dropped_flood") == 0


def test_one_far_end_that_keeps_the_kernel_busy_holds_nobody_else_up() -> None:
    held_up = np.zeros(4, np.bool_)
    turns = Turns(np.zeros(4, np.uint64), held_up)
    turns.take([batch([0, 1, 2])], np.array([1]))
    assert held_up.tolist() == [False, True, False, False]
    turns.take([batch([0])])  # what it had left is dealt with in this one
    assert held_up.tolist() == [False, True, False, False]
    turns.take([])
    assert not held_up.any()


def test_what_waits_is_not_heard_by_the_next_call_nor_from_the_next_far_end() -> None:
    line = Line().open()
    line.arrive(*(rtp(number, 160 * number, marked(7)) for number in range(5 * TURNS)))
    line.tick()
    line.do(CloseRow(0, 1))
    line.open(generation=2)
    line.tick(10)
    assert line.counter("packets_received") == 0
    line.arrive(*(rtp(number, 160 * number, marked(7)) for number in range(5 * TURNS)))
    line.tick()
    line.stream(generation=2, remote_port=4002)
    line.tick(10)
    assert line.counter("packets_received") == TURNS
