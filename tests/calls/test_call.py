"""A call moves by its table and by nothing else, and tells those who watch."""

import asyncio
import itertools

import pytest
from msgspec.structs import replace

from sipagent.calls import call as calls
from sipagent.calls.call import TRANSITIONS, Call, CallInput, CallRegistry, CallState, Ending, Placement
from sipagent.errors import LocalError
from sipagent.rtp.control import OpenRow
from sipagent.service.config.tree import Route
from sipagent.service.messages import Party
from sipagent.sip.outcome import Outcome
from tests.calls.board import CONFIG, Board


def make_call(call_id: str = "c1") -> Call:
    return Call(call_id, Party("inbound", "100", "", "200", "t"), None, Route(brain="m:C"), {})


@pytest.mark.parametrize(("state", "by"), list(itertools.product(CallState, CallInput)))
def test_every_input_in_every_state_follows_the_table_or_is_refused(state: CallState, by: CallInput) -> None:
    call = make_call()
    call.state = state
    target = TRANSITIONS.get((state, by))
    if target is not None:
        assert call.move(by) and call.state is target
    elif state in (CallState.ENDING, CallState.ENDED):
        assert not call.move(by) and call.state is state
    else:
        with pytest.raises(LocalError):
            call.move(by)


async def test_a_watcher_sees_kept_events_then_live_ones_and_is_let_go_at_the_end() -> None:
    call = make_call()
    call.move(CallInput.RING)
    seen: list[tuple[int, str]] = []

    async def watch() -> None:
        async for event in call.watch():
            seen.append((event["id"], event.get("state", event["type"])))

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    call.note("barge_in", heard="Hello")
    await asyncio.sleep(0)
    call.ending = Ending(Outcome.CANCELLED, "remote")
    call.move(CallInput.END)
    await asyncio.wait_for(watcher, 1)
    assert seen == [(1, "ringing"), (2, "barge_in"), (3, "ended")]


async def test_a_watcher_resumes_behind_the_event_that_it_has_seen() -> None:
    call = make_call()
    for number in range(5):
        call.note("n", number=number)
    call.ending = Ending(Outcome.FAILED)
    call.move(CallInput.END)
    assert [event["id"] async for event in call.watch(after=4)] == [5, 6]


def test_the_registry_forgets_ended_calls_after_a_while_but_never_live_ones() -> None:
    registry = CallRegistry(keep_ended=2)
    for number in range(5):
        call = make_call(f"c{number}")
        call.handle = f"h{number}"
        call.place = Placement(0, number, number + 1)
        registry.add(call)
        if number:
            call.move(CallInput.END)
            registry.retire(call)
    assert [call.id for call in registry.all()] == ["c0", "c3", "c4"]
    assert [call.id for call in registry.active()] == ["c0"]
    assert registry.by_handle("h4") is None and registry.by_generation(1) is not None


def test_calls_that_are_over_are_kept_up_to_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "KEPT_BYTES", 20 * calls.EVENT_BYTES + 1000)
    registry = CallRegistry()
    for number in range(4):
        call = make_call(f"c{number}")
        call.ladder = bytes(1000)
        for _ in range(9):
            call.note("n")
        registry.add(call)
        registry.retire(call)
    assert [call.id for call in registry.all()] == ["c2", "c3"]
    monster = make_call("monster")
    monster.ladder = bytes(50_000)
    registry.add(monster)
    registry.retire(monster)
    assert registry.all() == [monster], "the last one is always kept"
    wordy = Party("inbound", "100", "", "200", "t", (("Subject", "x" * 800),))
    assert Call("w", wordy, None, Route(brain="m:C"), {}).size_bytes == 800 + calls.HEADER_BYTES


async def test_only_a_conversation_that_takes_turns_is_listened_to() -> None:
    for pipeline, listened in (("cascaded", True), ("echo", False)):
        board = Board(replace(CONFIG, route=(Route("a:B", pipeline=pipeline),)))
        opened = next(command for command in board.plane.to(board.incoming()) if isinstance(command, OpenRow))
        assert opened.listened is listened


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_during_a_call_changes_neither_its_length_nor_its_order(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    call = make_call()
    call.move(CallInput.ANSWER)
    stepped = calls.time.time() + step_s  # type: ignore[attr-defined]
    monkeypatch.setattr(calls.time, "time", lambda: stepped)  # type: ignore[attr-defined]
    call.note("dtmf", digit="1")
    assert 0 <= call.summary()["duration_seconds"] < 10
    assert call.started_at <= call._events[-1]["at"] < call.started_at + 10
