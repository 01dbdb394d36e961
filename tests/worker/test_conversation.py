"""Whole conversations in a real worker: recorded sentences go in, the agent's voice and its transcript come out."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.pipeline.services.hibari import HibariVoice
from sipagent.service.messages import (
    DigitPressed,
    Ended,
    Finished,
    Hangup,
    PressDigits,
    TextMessage,
    Transfer,
    TransferResult,
)
from tests.worker.process import offer, worker
from tests.worker.speech import spoken

pytestmark = pytest.mark.models
BRAINS = "tests.worker.brains"
Say = Callable[[str], Coroutine[Any, Any, NDArray[np.int16]]]


@pytest.fixture(scope="module")
def voice() -> HibariVoice:
    return HibariVoice(speed=0.9, seed=3)


@pytest.fixture
def say(voice: HibariVoice) -> Say:
    """Text to a caller's voice."""
    return partial(spoken, voice)


def rms(pcm: NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2)))


async def test_the_caller_is_greeted_understood_answered_and_the_goodbye_is_heard_whole(say: Say) -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:Greeter"))
        greeting = await parent.transcript("Hello.")
        assert greeting["role"] == "assistant" and not greeting["interrupted"]
        line.hear(await say("Please book a table for two."))
        heard = await parent.transcript("table")
        assert heard["role"] == "user" and heard["at_ms"] > greeting["at_ms"]
        assert (await parent.transcript("You said"))["role"] == "assistant"
        turn = parent.events("turn")[0]
        assert 0 < turn["response_ms"] < 10_000 and "stt" in turn["stages_ms"]
        line.hear(await say("Thank you, goodbye."))
        hangup = await parent.hear(Hangup)
        assert hangup.reason == "polite"
        assert parent.events("transcript")[-1]["text"] == "Goodbye!"
        assert rms(line.agent_audio()[-3200:-1600]) < 50 < rms(line.agent_audio())
        parent.say(Ended("call-1", "local"))
        finished = await parent.finished()
        assert [entry["role"] for entry in finished.transcript] == [
            "assistant",
            "user",
            "assistant",
            "user",
            "assistant",
        ]
        assert "goodbye" in finished.collected_vars["last"].lower()
        assert finished.usage["user_turns"] == 2 and finished.usage["stt_audio_seconds"] > 1
        assert finished.disposition == "polite"
        await line.close()


async def test_a_caller_who_speaks_up_interrupts_and_only_what_was_heard_is_kept(say: Say) -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:Talker"))
        await parent.transcript("number one")
        line.hear(await say("Stop talking now please."))
        cut = await parent.transcript("This is sentence")
        while not (cut := parent.events("transcript")[-1])["interrupted"]:
            await asyncio.sleep(0.05)
        assert cut["role"] == "assistant" and parent.events("barge_in")
        assert (await parent.transcript("You said"))["text"]
        variables = [event for event in parent.events("variable") if event["name"] == "heard"]
        assert variables and "twelve" not in variables[0]["value"]
        parent.say(Ended("call-1", "remote"))
        await parent.finished()
        await line.close()


async def test_keys_texts_and_transfers_reach_the_brain(say: Say) -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:Transferring", options={"keypad_digits": 1}))
        await parent.transcript("Hello.")
        parent.say(TextMessage("call-1", "text/plain", "tea"))
        await parent.transcript("You wrote tea.")
        parent.say(DigitPressed("call-1", "0", 100))
        transfer = await parent.hear(Transfer)
        assert (transfer.to, transfer.ring_seconds) == ("+493099", 5)
        parent.say(TransferResult("call-1", "no_answer"))
        await parent.transcript("The transfer ended with no_answer.", 30)
        assert not [message for message in parent.heard if isinstance(message, PressDigits | Hangup)]
        parent.say(Ended("call-1", "remote"))
        await parent.finished()
        await line.close()


async def test_a_brain_that_fails_ends_its_call_with_an_apology_and_no_other(say: Say) -> None:
    async with worker() as parent:
        bad = await parent.connect(offer(f"{BRAINS}:Crashing"))
        good = await parent.connect(offer(f"{BRAINS}:Greeter", call_id="good", row=1))
        await bad.agent_silent()
        before = len(bad.agent_audio())
        bad.hear(await say("Is anybody there?"))
        assert await parent.hear(Hangup) == Hangup("call-1", "error")
        assert rms(bad.agent_audio()[before:]) > 100, "the apology was not heard"
        good.hear(await say("How are you today?"))
        await parent.transcript("You said")
        parent.say(Ended("good", "remote"))
        await parent.finished("good")
        await bad.close()
        await good.close()


async def test_a_call_taken_over_goes_on_with_its_history_and_does_not_greet_again(say: Say) -> None:
    history = ({"role": "assistant", "text": "Hello."}, {"role": "user", "text": "Hi."})
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:Greeter", resumed=True, history=history))
        await parent.transcript("cut off")
        assert not [event for event in parent.events("transcript") if event["text"] == "Hello."]
        parent.say(Ended("call-1", "remote"))
        lines = [line["text"] for line in (await parent.finished()).transcript]
        assert lines[:2] == ["Hello.", "Hi."] and "cut off" in lines[2]
        await line.close()


async def test_a_class_with_only_the_contracts_methods_leads_a_call() -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:Bare", options={"greeting": "Welcome."}))
        await parent.transcript("Welcome.")
        parent.say(Ended("call-1", "remote"))
        finished: Finished = await parent.finished()
        assert finished.collected_vars == {"bare": True}
        await line.close()


async def test_a_brain_that_fails_at_the_end_and_keeps_odd_values_leaves_a_record_all_the_same() -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:Untidy"))
        await parent.transcript("Hello.")
        parent.say(Ended("call-1", "remote"))
        finished = await parent.finished()
        assert finished.collected_vars["1"] == ["a"] and "object" in finished.collected_vars["object"]
        assert finished.disposition == "" and not [m for m in parent.heard if isinstance(m, Hangup)]
        await line.close()


async def test_an_announcement_that_hangs_up_at_once_is_heard_to_its_end() -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:Announcer"))
        assert (await parent.hear(Hangup)).reason == "announced"
        assert [event["text"] for event in parent.events("transcript")] == ["We are closed today.", "Goodbye!"]
        assert rms(line.agent_audio()) > 100
        await line.close()
