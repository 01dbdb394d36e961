"""A colleague on the line with caller and agent, in a real worker: who is spoken to, what is heard and written down."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from sipagent.pipeline.services.hibari import HibariVoice
from sipagent.rtp.table import FAR_END, OTHER_SIDE
from sipagent.service.messages import Colleague, ColleagueLeft, DigitPressed, Ended, Join, StepIn, Whisper
from tests.worker.process import Line, Parent, offer, worker
from tests.worker.speech import spoken

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]
BRAINS = "tests.worker.brains"
ROW, GENERATION = 2, 9
Say = Callable[[str], Awaitable[NDArray[np.int16]]]


@pytest.fixture(scope="module")
def say() -> Say:
    return partial(spoken, HibariVoice(speed=0.9, seed=3))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Parent]:
    async with worker() as parent:
        yield parent


@pytest_asyncio.fixture(loop_scope="module")
async def talk(running: Parent) -> AsyncIterator[tuple[Parent, Line, Line]]:
    """A caller who has been greeted, and the row of a colleague."""
    running.heard.clear()
    caller = await running.connect(offer(f"{BRAINS}:Warm"))
    await running.transcript("Hello.")
    colleague = Line(running, ROW, GENERATION)
    yield running, caller, colleague
    running.say(Ended("call-1", "remote"))
    await running.finished()
    await colleague.close()
    await caller.close()


async def audience(parent: Parent, wanted: int) -> None:
    """Returns when the agent speaks to these."""
    async with asyncio.timeout(20):
        while int(parent.table.tx_audience[0]) != wanted:
            await asyncio.sleep(0.01)


def joined(*, listen: bool = True) -> Colleague:
    return Colleague("call-1", ROW, GENERATION, listen, True)


def lines(parent: Parent, role: str) -> list[dict[str, Any]]:
    return [line for line in parent.events("transcript") if line["role"] == role]


async def test_the_colleague_is_told_then_both_are_listened_to_and_the_caller_comes_back(
    talk: tuple[Parent, Line, Line], say: Say
) -> None:
    parent, caller, colleague = talk
    parent.say(Colleague("call-1", ROW, GENERATION, True, False, "Mister Miller wants another day."))
    told = await parent.transcript("Miller")
    assert told["role"] == "assistant" and told["to"] == "colleague"
    await parent.hear(Join)
    assert int(parent.table.tx_audience[0]) == OTHER_SIDE
    parent.say(joined())
    said_before = len(lines(parent, "assistant"))

    colleague.hear(await say("Friday at ten would be fine."))
    assert (await parent.transcript("Friday"))["role"] == "colleague"
    caller.hear(await say("Could we meet on Monday instead?"))
    assert (await parent.transcript("Monday instead"))["role"] == "user"
    whispered = await parent.transcript("holiday")
    assert whispered["to"] == "colleague"
    assert len(lines(parent, "assistant")) == said_before + 1, "the agent has answered a caller who did not ask it"

    parent.say(StepIn("call-1", True))
    await audience(parent, FAR_END | OTHER_SIDE)
    caller.hear(await say("What do you think about it?"))
    assert "to" not in await parent.transcript("You said")
    parent.say(StepIn("call-1", False))
    await audience(parent, OTHER_SIDE)

    parent.say(ColleagueLeft("call-1", "the colleague hung up"))
    assert "to" not in await parent.transcript("with you again")
    assert int(parent.table.tx_audience[0]) == FAR_END
    states = [event["state"] for event in parent.events("colleague")]
    assert states == ["three_way", "joined"]
    parent.say(Ended("call-1", "remote"))
    finished = await parent.finished()
    assert "Friday" in finished.collected_vars["colleague"] and "Monday" in finished.collected_vars["caller"]


async def test_an_agent_that_only_waits_writes_nothing_down(talk: tuple[Parent, Line, Line], say: Say) -> None:
    parent, caller, colleague = talk
    parent.say(joined(listen=False))
    await audience(parent, OTHER_SIDE)
    for line in (caller, colleague):
        line.hear(await say("This is between the two of us."))
    while caller.speaking or colleague.speaking:
        await asyncio.sleep(0.02)
    parent.say(ColleagueLeft("call-1", "the colleague hung up"))
    await parent.transcript("with you again")
    caller.hear(await say("Now I talk with you."))
    await parent.transcript("You said")
    assert len(lines(parent, "user")) == 1 and not lines(parent, "colleague")


async def test_a_whisper_may_be_for_the_caller_and_ends_in_silence(talk: tuple[Parent, Line, Line]) -> None:
    parent, caller, _ = talk
    parent.say(joined())
    await audience(parent, OTHER_SIDE)
    parent.say(Whisper("call-1", "Ask for the discount.", "caller"))
    await audience(parent, FAR_END)
    before = len(caller.agent_audio())
    assert "to" not in await parent.transcript("discount")
    await audience(parent, OTHER_SIDE)
    heard = caller.agent_audio()[before:]
    assert np.abs(heard).max() > 1000 and not heard[-5 * 160 :].any() and not heard[: 2 * 160].any()


async def test_what_is_left_of_a_whisper_is_dropped_when_the_colleague_leaves(talk: tuple[Parent, Line, Line]) -> None:
    parent, caller, _ = talk
    text = " ".join(f"This is sentence number {number}." for number in range(20))
    parent.say(Colleague("call-1", ROW, GENERATION, True, False, text))
    await audience(parent, OTHER_SIDE)
    await parent.transcript("number 1")
    parent.say(ColleagueLeft("call-1", "busy"))
    await audience(parent, FAR_END)
    before = len(caller.agent_audio())
    parent.say(DigitPressed("call-1", "5", 100))
    await parent.transcript("Key 5")
    assert not any("19" in line["text"] for line in lines(parent, "assistant"))
    assert not [message for message in parent.heard if isinstance(message, Join)]
    assert before < len(caller.agent_audio())


async def test_an_echo_is_silent_while_a_colleague_is_on_the_line(running: Parent) -> None:
    parent = running
    parent.heard.clear()
    line = await parent.connect(offer("x:X", "echo"))
    parent.say(Colleague("call-1", ROW, GENERATION, False, False, "An echo has no words."))
    await parent.hear(Join)
    silent = len(line.agent_audio())
    noise = np.random.default_rng(5).integers(-8000, 8000, 20 * 160).astype(np.int16)
    line.hear(noise)
    while line.speaking:
        await asyncio.sleep(0.02)
    assert not line.agent_audio()[silent + 320 :].any()
    parent.say(StepIn("call-1", True))
    await audience(parent, FAR_END | OTHER_SIDE)
    parent.say(ColleagueLeft("call-1", "over"))
    await audience(parent, FAR_END)
    line.hear(noise)
    async with asyncio.timeout(10):
        while np.count_nonzero(line.agent_audio()[silent + 320 :]) < np.count_nonzero(noise):
            await asyncio.sleep(0.05)
    parent.say(Ended("call-1", "remote"))
    await parent.finished()
    await line.close()
