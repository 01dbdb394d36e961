import numpy as np

from sipagent.rtp.table import CallTable
from sipagent.rtp.vad.reflex import Reflex
from tests.vad import speech
from tests.vad.line import Line

ROW = np.array([0], np.intp)


def talking_table() -> CallTable:
    table, _ = CallTable.create(1)
    table.active[0] = table.reflex[0] = 1
    table.tx_head[0] = 8000
    return table


def test_the_agent_is_ducked_only_while_it_talks_and_the_route_allows_it() -> None:
    for talking, allowed, expected in ((1, 1, 1), (0, 1, 0), (1, 0, 0)):
        table = talking_table()
        table.reflex[0] = allowed
        table.tx_read[0] = 0 if talking else 8000
        Reflex(table, 700).duck(ROW, 5.0)
        assert table.duck[0] == expected


def test_a_duck_ends_by_itself_when_nobody_decides() -> None:
    table = talking_table()
    reflex = Reflex(table, 700)
    reflex.duck(ROW, 5.0)
    reflex.settle(5.69)
    assert table.duck[0] == 1
    reflex.settle(5.71)
    assert table.duck[0] == 0


def test_a_duck_ends_when_the_flush_has_been_carried_out() -> None:
    table = talking_table()
    reflex = Reflex(table, 700)
    reflex.duck(ROW, 5.0)
    table.tx_flush_to[0] = 8000
    reflex.settle(5.01)
    assert table.duck[0] == 1
    table.tx_flush_done[0] = 8000
    reflex.settle(5.02)
    assert table.duck[0] == 0


def test_a_duck_ends_with_the_call() -> None:
    table = talking_table()
    reflex = Reflex(table, 700)
    reflex.duck(ROW, 5.0)
    table.active[0] = 0
    reflex.settle(5.01)
    assert table.duck[0] == 0


@speech.needs_recordings
def test_the_caller_who_speaks_over_the_agent_ducks_it_within_a_fifth_of_a_second_of_the_onset() -> None:
    line = Line(2)
    line.table.tx_head[:] = 1_000_000
    line.table.reflex[1] = 0
    sentence = speech.recordings(1)[0]
    first_sound = int(np.flatnonzero(np.abs(sentence.astype(np.int32)) > 700)[0])
    line.hear(*[sentence[: first_sound + 1600]] * 2)
    assert line.table.duck.tolist() == [1, 0]
