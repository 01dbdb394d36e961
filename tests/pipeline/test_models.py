"""The real models, on telephone recordings and on speech that they make themselves."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.codecs import g711
from sipagent.codecs.resample import resample
from sipagent.errors import ConfigError
from sipagent.pipeline.cascaded import Services, cascaded, options_from
from sipagent.pipeline.context import Context, Message
from sipagent.pipeline.frames import EndCall, Heard, Interruption, Speak, Transcription, TurnTimes
from sipagent.pipeline.ledger import audible
from sipagent.pipeline.responder import Reply, UserTurn
from sipagent.pipeline.services.cached_voice import CachedVoice
from sipagent.pipeline.services.hibari import RATE_HZ, HibariVoice
from sipagent.pipeline.services.local_llm import ALIAS
from sipagent.pipeline.services.openai_chat import ChatOptions, OpenAIChat
from sipagent.pipeline.services.smart_turn import SmartTurn
from sipagent.pipeline.services.whisper import Whisper, cut_loop
from tests.pipeline.fakes import FakeTTS, Log
from tests.pipeline.recordings import AVAILABLE, MISSING, recordings, spoken_words, word_errors
from tests.support.line import SimulatedLine

pytestmark = pytest.mark.models
Model = TypeVar("Model", Whisper, SmartTurn, HibariVoice)


@pytest.fixture(scope="module")
def whisper() -> Iterator[Whisper]:
    yield from _loaded(Whisper)


@pytest.fixture(scope="module")
def smart_turn() -> Iterator[SmartTurn]:
    yield from _loaded(SmartTurn)


@pytest.fixture(scope="module")
def hibari() -> Iterator[HibariVoice]:
    yield from _loaded(HibariVoice)


def _loaded(kind: type[Model]) -> Iterator[Model]:
    try:
        model = kind()
    except ConfigError as missing:
        pytest.skip(str(missing))
    yield model
    model.close()


def telephone(pcm: NDArray[np.int16], rate_hz: int) -> NDArray[np.int16]:
    return g711.ulaw_decode(g711.ulaw_encode(resample(pcm, rate_hz, 8000)))


async def spoken(voice: HibariVoice, text: str) -> NDArray[np.int16]:
    pcm = np.concatenate([piece.pcm async for piece in voice.synthesize(text)])
    first, last = audible(pcm)
    return telephone(pcm[first:last], RATE_HZ)


@pytest.mark.skipif(not AVAILABLE, reason=MISSING)
async def test_telephone_recordings_are_understood(whisper: Whisper) -> None:
    said = understood_wrong = 0
    for recording in recordings(12):
        transcript = await whisper.transcribe(telephone(recording.pcm, 8000), 8000)
        said += len(spoken_words(recording.text))
        understood_wrong += word_errors(recording.text, transcript.text)
    assert understood_wrong / said < 0.08


@pytest.mark.skipif(not AVAILABLE, reason=MISSING)
async def test_complete_sentences_sound_complete_and_halves_do_not(smart_turn: SmartTurn) -> None:
    silence = np.zeros(2400, np.int16)
    complete, half = [], []
    for recording in recordings(48):  # of a dozen, three lie close to the threshold, on this or that side by processor
        pcm = telephone(recording.pcm, 8000)
        complete.append(await smart_turn.probability(np.concatenate([pcm, silence]), 8000) > 0.5)
        half.append(await smart_turn.probability(pcm[: len(pcm) // 2], 8000) > 0.5)
    assert np.mean(complete) >= 0.9
    assert np.mean(half) <= 0.3


@pytest.mark.parametrize("level", [0, 100, 2000])
async def test_noise_has_no_words(whisper: Whisper, level: int) -> None:
    noise = np.random.default_rng(1).normal(0, 1, 12000) * level
    assert (await whisper.transcribe(noise.astype(np.int16), 8000)).text == ""


async def test_the_voice_is_understood_by_the_recogniser(hibari: HibariVoice, whisper: Whisper) -> None:
    text = "I would like to book an appointment for Tuesday afternoon."
    assert word_errors(text, (await whisper.transcribe(await spoken(hibari, text), 8000)).text) <= 1


async def test_the_same_text_sounds_the_same_to_the_bit(hibari: HibariVoice) -> None:
    first, second = [await spoken(hibari, "Good morning.") for _ in range(2)]
    assert np.array_equal(first, second)


async def test_sentences_come_one_by_one(hibari: HibariVoice) -> None:
    pieces = [piece async for piece in hibari.synthesize("The first one. The second one.")]
    assert len(pieces) == 2
    assert all(piece.rate_hz == 24000 and piece.pcm.dtype == np.int16 for piece in pieces)


async def test_many_calls_share_one_model(hibari: HibariVoice, whisper: Whisper) -> None:
    texts = ["Good morning to you.", "The office is closed.", "Please come on Monday."]
    sounds = [await spoken(hibari, text) for text in texts]
    understood = await asyncio.gather(*(whisper.transcribe(pcm, 8000) for pcm in sounds))
    assert [word_errors(text, one.text) for text, one in zip(texts, understood, strict=True)] == [0, 0, 0]


def test_a_sentence_said_twice_by_the_recogniser_is_cut() -> None:
    assert cut_loop([1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]) == [1, 2, 3, 4, 5]
    assert cut_loop([7, 7, 7]) == [7, 7, 7]
    assert cut_loop([1, 2, 3, 4, 5, 6, 1, 2]) == [1, 2, 3, 4, 5, 6, 1, 2]
    assert cut_loop([]) == []


class Receptionist:
    """Books, may be interrupted, says goodbye."""

    async def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
        if "goodbye" in turn.text.lower():
            yield Speak("Thank you for calling. Goodbye.", interruptible=False)
            yield EndCall("goodbye")
        elif "wednesday" in turn.text.lower():
            yield "Very well, Wednesday it is."
        else:
            yield "I have several times to offer. The first is at nine o'clock in the morning. "
            yield "The second is at a quarter past eleven. And the third one is at half past three."


async def test_a_spoken_conversation_with_a_barge_in(
    hibari: HibariVoice, whisper: Whisper, smart_turn: SmartTurn
) -> None:
    for model in (hibari, whisper, smart_turn):
        await model.warm_up()
    caller = [
        await spoken(hibari, text)
        for text in ("I would like to book an appointment.", "Stop, I can only come on Wednesday.", "Thanks, goodbye.")
    ]
    line = SimulatedLine()
    log = Log(lambda: line.now_s)
    services = Services(whisper, CachedVoice(hibari), smart_turn)
    options = options_from({"greeting": "Hello, how may I help?"})
    conversation = cascaded(line, services, Receptionist(), options, on_frame=log)

    async def call() -> None:
        while not log.of(Heard):
            await asyncio.sleep(0.05)
        line.speak(caller[0])
        while len(log.of(Heard)) < 2:
            await asyncio.sleep(0.05)
        line.speak(caller[1])
        while not any("Wednesday" in frame.text for frame in log.of(Heard)):  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
        line.speak(caller[2])

    async with asyncio.timeout(60):
        reason, _ = await asyncio.gather(conversation.run(), call())
    assert reason == "goodbye"
    said = [frame.text for frame in log.of(Transcription) if frame.final]  # type: ignore[attr-defined]
    assert len(said) == 3
    assert word_errors("I would like to book an appointment.", said[0]) <= 1
    assert "Wednesday" in said[1]
    assert len(log.of(Interruption)) == 1
    assert len(log.of(TurnTimes)) == 3
    answer = conversation.context.messages()[2]
    assert answer.interrupted
    assert answer.content.startswith("I have several times to offer.")
    assert "half past three" not in answer.content
    assert log.of(Heard)[-1] == Heard("Thank you for calling. Goodbye.")


async def test_a_phrase_said_before_outlives_a_fault_of_the_voice() -> None:
    voice = FakeTTS()
    cached = CachedVoice(voice, phrases=2)
    await cached.prepare(["one", "two", "three"])
    voice.fails = True
    again = [piece async for piece in cached.synthesize("three")]
    assert sum(len(piece.pcm) for piece in again) == int(0.06 * 5 * 8000)
    assert voice.said == ["one", "two", "three"]
    with pytest.raises(Exception, match="refused"):
        [piece async for piece in cached.synthesize("one")]


async def test_the_local_model_answers_over_http_and_ends_on_sigterm() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sipagent.pipeline.services.local_llm", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            pytest.skip("the local model or its engine is not installed")
        base_url = line.split()[-1]
        options = ChatOptions(base_url, ALIAS, parameters={"temperature": 0, "max_tokens": 24})
        async with OpenAIChat(options) as chat:
            await chat.warm_up()
            events = [event async for event in chat.stream([Message("user", "Say hello.")])]
        assert len([event for event in events if isinstance(event, str)]) > 2
        assert httpx2.get(f"{base_url}/models").json()["data"][0]["id"] == ALIAS
    finally:
        process.terminate()
        assert process.wait(10) == 0
        if process.stdout is not None:
            process.stdout.close()
