"""Broken descriptions by the thousand: only declared errors, and every answer keeps its rules."""

import random

import pytest

from tests.fuzz_sdp import MUTATIONS, SEEDS, exercise, run


def test_every_seed_of_the_fuzzer_is_a_sound_description():
    rng = random.Random(1)
    assert "refused" not in {exercise(seed, rng) for seed in SEEDS}


def test_every_mutation_breaks_something():
    rng = random.Random(1)
    for mutation in MUTATIONS:
        assert any(mutation(SEEDS[0], rng) != SEEDS[0] for _ in range(20))


def test_three_thousand_broken_descriptions_hurt_nothing():
    outcomes = run(3000, seed=20)["outcomes"]
    assert sum(outcomes.values()) == 3000
    assert {"refused", "offer: answered, answer: accepted", "offer: 488, answer: useless"} <= set(outcomes)


@pytest.mark.long
def test_a_million_broken_descriptions_hurt_nothing_and_leave_no_memory_behind():
    result = run(1_000_000, seed=21)
    assert result["grown_kb"] < 8_192
