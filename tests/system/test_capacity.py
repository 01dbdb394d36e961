"""At the limit, in a flood and after many calls: the short forms of `bench.overload` and `bench.soak`."""

from pathlib import Path

import pytest

from bench import overload, soak
from tests.support.service import service


async def test_what_is_over_the_limit_gets_503_and_what_is_accepted_is_perfect(tmp_path: Path) -> None:
    async with service(tmp_path, overload.CONFIG.format(calls=4)) as agent:
        figures = await overload.overload(agent, 4, 1.0)
    assert (figures["offered"], figures["accepted"], figures["refused"]) == (8, 4, 4)
    assert figures["unanswered"] == figures["packets_out_of_step"] == 0
    assert figures["bye_answered"] == 4
    assert figures["packets"] > 0.95 * figures["packets_due"]


async def test_calls_of_the_trunk_are_set_up_in_a_flood_from_a_stranger_who_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIPAGENT__SIP__ACCEPT_UNKNOWN_SOURCES", "false")
    async with service(tmp_path, overload.CONFIG.format(calls=8)) as agent:
        figures = await overload.flood(agent, rate=300, calls=3, seconds=1.5)
        calls = await agent.calls()
    assert (figures["accepted"], figures["unanswered"], figures["bye_answered"]) == (3, 0, 3)
    assert figures["packets_out_of_step"] == 0
    assert figures["dropped"] > figures["invites_of_strangers"] / 4
    assert len(calls) == 3


@pytest.mark.peers
async def test_nothing_is_left_of_calls_that_are_over() -> None:
    figures = await soak.soak(calls=12, rate=6, warm_up=12)
    assert figures["failed_calls"] == 0
    assert figures["before"]["sipagent-media-"]["sockets"] > 100
    assert figures["before"][soak.BLOCKS] > 100_000
    assert soak.leaks(figures["before"], figures["after"], rss_kb=20_000) == []


def test_what_has_grown_is_named() -> None:
    before = {"sipagent": {"rss_kb": 1000, "fds": 10}, "sipagent_rows": 0.0}
    assert soak.leaks(before, before, 0) == []
    after = {"sipagent": {"rss_kb": 1002, "fds": 11}, "sipagent_rows": 1.0, "odd": {"rss_kb": 1, "fds": 1}}
    blocks = {soak.BLOCKS: 1000.0}
    assert soak.leaks(blocks, {soak.BLOCKS: 1200.0}, 0, blocks=200) == []
    assert soak.leaks(blocks, {soak.BLOCKS: 1201.0}, 0, blocks=200) == [f"{soak.BLOCKS}: 1000 before, 1201 after"]
    assert soak.leaks(before, after, 5) == [
        "sipagent: 10 descriptors before, 11 after",
        "sipagent_rows: 0.0 before, 1.0 after",
        "odd was not there before",
    ]


def test_calls_that_were_hurt_are_named() -> None:
    good = {
        "accepted": 4, "refused": 4, "refused_ms": {"p99": 9.0}, "unanswered": 0, "packets": 100, "packets_due": 100,
        "packets_out_of_step": 0,
    }  # fmt: skip
    assert overload.problems(good, good, 4) == []
    hurt = good | {"accepted": 3, "refused_ms": {"p99": 200.0}, "unanswered": 1, "packets": 90}
    assert overload.problems(hurt, hurt, 4) == [
        "3 accepted and 4 refused with 503, not 4 of each",
        "the 503 took 200.0 ms",
        "1 calls of the trunk were not set up in the flood",
        "limit: accepted calls heard 90 of 100 packets, 0 out of step",
        "flood: accepted calls heard 90 of 100 packets, 0 out of step",
    ]
