import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sipagent.rtp.vad.activity import Activity
from sipagent.rtp.vad.options import EarsOptions

WINDOW = 256
ONE_ROW = np.array([0], np.intp)


def events_of(probabilities: list[float], options: EarsOptions | None = None) -> list[tuple[bool, int]]:
    activity = Activity(1, options or EarsOptions())
    events: list[tuple[bool, int]] = []
    for number, probability in enumerate(probabilities):
        changes = activity.step(ONE_ROW, np.array([probability], np.float32), np.array([number * WINDOW]))
        events += [(True, int(at)) for at in activity.settle(changes.onset_rows, changes.onset_positions)]
        events += [(False, int(at)) for at in activity.settle(changes.offset_rows, changes.offset_positions)]
    return events


def test_an_onset_is_told_at_the_first_window_of_the_speech() -> None:
    assert events_of([0, 0, 0.9, 0.9]) == [(True, 2 * WINDOW)]


def test_one_loud_window_is_not_speech() -> None:
    assert events_of([0, 0.9, 0, 0.9, 0, 0.9, 0]) == []


def test_a_doubtful_window_neither_counts_nor_breaks_the_run() -> None:
    assert events_of([0, 0.9, 0.4, 0.9]) == [(True, WINDOW)]


def test_a_pause_shorter_than_the_minimum_does_not_end_the_speech() -> None:
    assert events_of([0.9] * 4 + [0] * 7 + [0.9] * 4 + [0] * 7) == [(True, 0)]


def test_an_offset_is_told_where_the_silence_began() -> None:
    assert events_of([0.9] * 4 + [0] * 8) == [(True, 0), (False, 4 * WINDOW)]


def test_minimum_durations_come_from_the_options() -> None:
    options = EarsOptions(min_speech_ms=32, min_silence_ms=64)
    assert events_of([0.9, 0, 0, 0.9], options) == [(True, 0), (False, WINDOW), (True, 3 * WINDOW)]


def test_the_network_may_forget_after_two_quiet_seconds_but_never_in_speech() -> None:
    activity = Activity(1, EarsOptions())

    def forgotten(probability: float, windows: int) -> int:
        count = 0
        for _ in range(windows):
            activity.step(ONE_ROW, np.array([probability], np.float32), np.array([0]))
            count += activity.forgettable(ONE_ROW).size
        return count

    assert forgotten(0.0, 62) == 0
    assert forgotten(0.0, 64) == 2
    assert forgotten(0.9, 200) == 0
    assert forgotten(0.0, 4) == 0  # the offset comes only after eight windows
    assert forgotten(0.0, 8) == 1
    assert forgotten(0.2, 200) == 0  # not certain enough


PROBABILITIES = st.lists(st.sampled_from([0.0, 0.05, 0.34, 0.4, 0.5, 0.9, 1.0]), max_size=200)


@given(PROBABILITIES)
def test_events_alternate_and_positions_ascend(probabilities: list[float]) -> None:
    events = events_of(probabilities)
    assert [speaking for speaking, _ in events] == [number % 2 == 0 for number in range(len(events))]
    positions = [at for _, at in events]
    assert positions == sorted(set(positions))


@given(PROBABILITIES)
def test_an_event_lies_at_the_start_of_what_caused_it(probabilities: list[float]) -> None:
    for speaking, at in events_of(probabilities):
        cause = probabilities[at // WINDOW]
        assert cause >= 0.5 if speaking else cause < 0.35


@given(st.lists(PROBABILITIES, min_size=2, max_size=5))
def test_rows_do_not_touch_each_other(rows: list[list[float]]) -> None:
    length = max(len(each) for each in rows)
    padded = np.array([each + [0.0] * (length - len(each)) for each in rows], np.float32)
    activity = Activity(len(rows), EarsOptions())
    together: list[list[tuple[bool, int]]] = [[] for _ in rows]
    everyone: NDArray[np.intp] = np.arange(len(rows))
    for number in range(length):
        start = np.full(len(rows), number * WINDOW, np.int64)
        changes = activity.step(everyone, padded[:, number], start)
        for row, at in zip(changes.onset_rows, changes.onset_positions, strict=True):
            together[row].append((True, int(at)))
        for row, at in zip(changes.offset_rows, changes.offset_positions, strict=True):
            together[row].append((False, int(at)))
    assert together == [events_of(each) for each in padded.tolist()]
