import numpy as np
import pytest

from sipagent.rtp.control import Bridge, CloseRow, MediaProblem, Unbridge
from tests.rtp.line import Line, Sent, marked, rtp
from tests.rtp.test_send import level, speak

A, B = 11, 55


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


def loudness(number: int) -> int:
    return round(int(Sent(0, bytes(12) + marked(number)).pcm[0]), -2)


def test_two_callers_who_are_joined_hear_each_other(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    carry_on(joined)
    assert loudness(B) in values(joined.sent(0)[5:])
    assert loudness(A) in values(joined.sent(1)[5:])
    assert values(joined.sent(2)[5:]) <= {0}


def test_nothing_of_the_other_caller_is_lost_once_it_flows(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    carry_on(joined, 1000)
    assert values(joined.sent(1)[10:]) == {loudness(A)}


def test_the_agent_is_heard_by_whom_it_is_meant_for(joined: Line) -> None:
    heard = {}
    for who in ("both", "a", "none"):
        joined.do(Bridge(0, 1, 1, 1, agent_heard_by=who))
        speak(joined, level(3000, 4000))
        before = len(joined.sent(0)), len(joined.sent(1))
        joined.run_ms(400)
        loud = [
            any(abs(np.median(packet.pcm) - 3000) < 200 for packet in joined.sent(row)[before[row] :]) for row in (0, 1)
        ]
        heard[who] = tuple(loud)
        joined.do(Unbridge(0, 1))
        joined.run_ms(300)
    assert heard == {"both": (True, True), "a": (True, False), "none": (False, False)}


def test_when_they_part_each_hears_the_agent_alone_again(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    carry_on(joined)
    joined.do(Unbridge(1, 1))
    count = len(joined.sent(0))
    carry_on(joined)
    assert values(joined.sent(0)[count + 1 :]) <= {0}


def test_a_call_that_ends_parts_the_bridge(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 1))
    joined.do(CloseRow(1, 1))
    carry_on(joined, 100)
    assert values(joined.sent(0)[-3:]) <= {0}


def test_a_bridge_to_a_row_of_another_call_is_refused(joined: Line) -> None:
    joined.do(Bridge(0, 1, 1, 2))
    joined.do(Bridge(0, 1, 0, 1))
    joined.do(Bridge(0, 1, 1, 1, agent_heard_by="nobody"))
    assert len(joined.events_of(MediaProblem)) == 3


def test_narrow_and_wide_rows_can_be_joined() -> None:
    line = Line(rows=2).open(0).open(1, rate_hz=16000)
    line.do(Bridge(0, 1, 1, 1))
    carry_on(line)
    assert loudness(A) in values(line.sent(1)[5:])
    assert loudness(B) in values(line.sent(0)[5:])
