"""That concealment is worth its name: measured by PESQ, with few seeds."""

import importlib.util

import pytest

from bench import quality

pytestmark = pytest.mark.skipif(
    not quality.RECORDINGS.exists() and importlib.util.find_spec("hibari") is None,
    reason="neither asterisk-core-sounds-en-wav nor hibari-tts is installed: no speech to measure with",
)


def test_ours_sounds_better_than_repeating_and_that_better_than_silence() -> None:
    (record,) = quality.measure([(0.03, 1)], seeds=1)
    assert record["ours+next"] > record["ours"] + 0.15
    assert record["ours"] > record["repeat"] + 0.1
    assert record["repeat"] > record["silence"]
    assert record["ours"] > 3.43
    assert record["ours+next"] > 3.7


def test_a_clean_line_loses_nothing() -> None:
    (record,) = quality.measure([(0.0, 1)], seeds=1, ways=("silence", "ours", "ours+next"))
    assert record["ours"] == record["ours+next"] == record["silence"]
    assert record["ours"] > 4.1


def test_losses_are_as_many_as_asked_for_and_repeatable() -> None:
    for burst in (1, 2):
        lost = quality.losses(0.1, burst, 3, 100_000)
        assert lost.mean() == pytest.approx(0.1, abs=0.01)
        assert (lost == quality.losses(0.1, burst, 3, 100_000)).all()
