"""The examples in a real worker, on the phone with a synthetic voice."""

from pathlib import Path

import pytest

from sipagent.pipeline.services.hibari import HibariVoice
from sipagent.pipeline.services.local_llm import ALIAS, LocalLLM
from sipagent.service.messages import Ended, Hangup
from tests.worker.process import offer, worker
from tests.worker.speech import spoken

pytestmark = pytest.mark.models
EXAMPLES = str(Path(__file__).parents[2] / "examples")


@pytest.fixture(scope="module")
def voice() -> HibariVoice:
    return HibariVoice(speed=0.9, seed=3)


async def test_the_receptionist_books_an_appointment_by_voice_and_key(voice: HibariVoice) -> None:
    async with worker(brain_paths=(EXAMPLES,)) as parent:
        line = await parent.connect(offer("receptionist:Receptionist", options={"keypad_digits": 1}))
        await parent.transcript("What is your name")
        for sentence, answer in (
            ("My name is John.", "Which day would you like"),
            ("On Tuesday at ten o'clock.", "Tuesday at ten o'clock"),
            ("Yes, that is right.", "Your appointment is booked"),
        ):
            await line.agent_silent()
            line.hear(await spoken(voice, sentence))
            await parent.transcript(answer)
        assert (await parent.hear(Hangup)).reason == "booked"
        parent.say(Ended("call-1", "local"))
        finished = await parent.finished()
        assert finished.collected_vars["day"] == "Tuesday" and finished.collected_vars["time"] == "10:00"
        await line.close()


async def test_a_language_model_leads_a_call(voice: HibariVoice) -> None:
    server = LocalLLM()
    llm = {"base_url": server.base_url, "model": ALIAS, "parameters": {"temperature": 0, "max_tokens": 30}}
    async with worker(brain_paths=(EXAMPLES,)) as parent:
        line = await parent.connect(offer("llm_receptionist:LlmReceptionist", options={"llm": llm, "filler": ""}))
        await parent.transcript("How can I help you")
        await line.agent_silent()
        line.hear(await spoken(voice, "I would like to see a dentist."))
        asked = await parent.transcript("dentist")
        assert asked["role"] == "user"
        await parent.hear_line(lambda said: said["role"] == "assistant" and said["at_ms"] > asked["at_ms"])
        parent.say(Ended("call-1", "remote"))
        assert (await parent.finished()).usage["output_tokens"] > 0
        await line.close()
    server.close()
