"""The rig of the media benchmarks: what it needs is asked for, and named when it cannot be had."""

import resource

import pytest

from bench import freeze, rig
from bench.loadgen import Compiled, generate, result
from tests.support.ports import free_port


def test_calls_for_which_too_few_files_are_allowed_are_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: raised.append(limits))
    rig.allow_files(1000)
    assert raised == [(3100, 4096)]
    with pytest.raises(RuntimeError, match="2000 calls take 6100 open files, 4096 are allowed: raise ulimit -Hn"):
        rig.allow_files(2000)


def test_far_ends_that_nobody_answers_have_sent_and_got_nothing_back() -> None:
    local = free_port(count=20)
    compiled = Compiled()
    far = result(generate(compiled, 5, local, local + 10, 1.0, 0.2))
    lossy = result(generate(compiled, 5, local, local + 10, 1.0, 0.2, loss=0.5))
    compiled.close()
    assert 200 <= far["sent"] <= 251 and far["received"] == 0
    assert 60 <= lossy["sent"] <= 165


@pytest.mark.parametrize("io", ["epoll", "io_uring"])
def test_a_plane_that_the_host_stopped_for_a_moment_has_lost_nothing_of_what_came_meanwhile(io: str) -> None:
    figures = freeze.measure(40, io, 0.4)
    assert figures["dropped"] == {}
    assert figures["made_up_ms_per_call"] == 0
    assert figures["sequence_gaps"] == figures["timestamp_gaps"] == 0
    assert figures["heard"] == figures["sent"] >= 40 * 50 * 3
