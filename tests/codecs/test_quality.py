"""That concealment is worth its name: measured by PESQ, with few seeds."""

import importlib.util

import numpy as np
import pytest

from bench import jitter, quality
from sipagent.codecs import g711

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


def test_a_steady_line_is_heard_as_it_was_sent_and_no_later_than_the_next_tick() -> None:
    coded = g711.ulaw_encode(quality.texts()[:2]).reshape(2, -1, quality.PACKET)
    heard = jitter.listen(jitter.Network("steady", 40, 0), coded)
    np.testing.assert_array_equal(heard.pcm, g711.ulaw_decode(coded).reshape(2, -1))
    assert heard.made_up == 0
    assert 40 <= heard.delay_p50_ms <= heard.delay_max_ms <= 50


def test_what_a_jittery_line_delays_too_long_is_made_up_and_counted() -> None:
    coded = g711.ulaw_encode(quality.texts()[:2]).reshape(2, -1, quality.PACKET)
    heard = jitter.listen(jitter.Network("wild", 200, 100), coded)
    assert 0.02 < heard.made_up < 0.9
    assert heard.delay_p99_ms < 500


def test_lines_with_jitter_sound_as_good_as_they_are_meant_to_within_the_delay_that_they_may_spend() -> None:
    for line in quality.measure_jitter(seeds=1):
        assert line["pesq"] >= line["target"], line
        assert line["delay_p99_ms"] <= line["within_ms"], line
