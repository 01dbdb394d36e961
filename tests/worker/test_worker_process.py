"""The worker as a process of its own: control messages, the echo, refusals, and what happens when a brain fails."""

import asyncio

import numpy as np
import pytest

from sipagent.service.messages import Accept, Ended, Finished, Ping, Pong, Ready, Reject, Stop
from tests.worker.process import PACKET, offer, worker

BRAINS = "tests.worker.brains"


async def test_an_echoing_call_hears_itself() -> None:
    async with worker() as parent:
        line = await parent.connect(offer("x:X", "echo"))
        await asyncio.sleep(0.1)
        said = (np.random.default_rng(5).integers(-8000, 8000, 50 * PACKET)).astype(np.int16)
        line.hear(said)
        async with asyncio.timeout(10):
            while np.count_nonzero(line.agent_audio()) < np.count_nonzero(said):
                await asyncio.sleep(0.05)
        echoed = line.agent_audio()
        start = int(np.flatnonzero(echoed)[0]) - int(np.flatnonzero(said)[0])
        assert np.array_equal(echoed[start : start + len(said)], said)
        parent.say(Ended("call-1", "remote"))
        assert (await parent.finished()).disposition == "echo"
        await line.close()


async def test_a_ping_is_answered_with_the_lag_and_the_number_of_calls() -> None:
    async with worker() as parent:
        line = await parent.connect(offer("x:X", "echo"))
        parent.say(Ping(7))
        pong = await parent.hear(Pong)
        assert (pong.number, pong.calls) == (7, ("call-1",)) and pong.lag_ms < 1000
        await line.close()


async def test_stop_lets_calls_finish_refuses_new_ones_and_then_leaves() -> None:
    async with worker() as parent:
        line = await parent.connect(offer("x:X", "echo"))
        parent.say(Stop())
        parent.say(offer("x:X", "echo", call_id="late", row=1))
        reject = await parent.hear(Reject)
        assert (reject.call_id, reject.status) == ("late", 503) and parent.exit_code is None
        parent.say(Ended("call-1", "remote"))
        await parent.finished()
        async with asyncio.timeout(10):
            while parent.exit_code is None:
                await asyncio.sleep(0.02)
        assert parent.exit_code == 0
        await line.close()


async def test_a_worker_whose_parent_is_gone_leaves() -> None:
    async with worker() as parent:
        assert parent.channel is not None
        parent.channel.close()
        async with asyncio.timeout(10):
            while parent.exit_code is None:
                await asyncio.sleep(0.02)
        assert parent.exit_code == 0


async def test_an_unknown_pipeline_is_refused() -> None:
    async with worker() as parent:
        parent.say(offer("x:X", "telepathy"))
        assert (await parent.hear(Reject)).status == 500


async def test_a_call_that_ends_before_it_is_connected_is_finished() -> None:
    async with worker() as parent:
        parent.say(offer("x:X", "echo"))
        parent.say(Ended("call-1", "cancelled"))
        await parent.finished()


async def test_a_brain_may_refuse_a_call_with_a_status_of_its_own() -> None:
    async with worker() as parent:
        parent.say(offer(f"{BRAINS}:Refuser"))
        assert await parent.hear(Reject) == Reject("call-1", 486, "Busy for +4930123")
        await parent.finished()


@pytest.mark.parametrize(
    ("brain", "options", "status"),
    [
        (f"{BRAINS}:CrashingAtOnce", {}, 500),
        ("no_such_module:Brain", {}, 500),
        (f"{BRAINS}:Greeter", {"offer_second": 1}, 500),
        (f"{BRAINS}:Undecided", {"offer_seconds": 0.2}, 503),
    ],
)
async def test_a_call_whose_brain_cannot_take_it_is_refused_and_the_next_one_is_served(
    brain: str, options: dict[str, object], status: int
) -> None:
    async with worker() as parent:
        parent.say(offer(brain, options=options))
        assert (await parent.hear(Reject)).status == status
        await parent.hear(Finished)
        line = await parent.connect(offer("x:X", "echo", call_id="next", row=1))
        await line.close()


async def test_what_a_route_lacks_is_told_with_ready() -> None:
    talks = (offer("no_such_module:Brain").talk, offer(f"{BRAINS}:Greeter", options={"greting": "Hi."}).talk)
    async with worker(*talks) as parent:
        ready = await parent.hear(Ready)
        assert "there is no module 'no_such_module'" in ready.warnings[0]
        assert "greting" in ready.warnings[1] and "did you mean greeting" in ready.warnings[1]


async def test_a_call_that_is_offered_twice_is_led_once() -> None:
    async with worker() as parent:
        parent.say(offer("x:X", "echo"))
        line = await parent.connect(offer("x:X", "echo"))
        parent.say(Ping(1))
        assert len((await parent.hear(Pong)).calls) == 1
        assert len([message for message in parent.heard if isinstance(message, Accept)]) == 1
        await line.close()


async def test_a_stalled_loop_is_told_with_the_next_pong() -> None:
    async with worker() as parent:
        parent.say(offer(f"{BRAINS}:SlowToDecide"))
        await parent.hear(Reject)
        parent.say(Ping(1))
        assert (await parent.hear(Pong, lambda pong: pong.number == 1)).lag_ms > 300
        parent.say(Ping(2))
        assert (await parent.hear(Pong, lambda pong: pong.number == 2)).lag_ms < 300
