"""What a brain does to its call, and what the call leaves behind, without a process."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from msgspec.structs import replace

from sipagent.errors import ConfigError
from sipagent.pipeline.chat import Usage
from sipagent.pipeline.frames import (
    AgentAudio,
    AgentSpeaking,
    ErrorFrame,
    Heard,
    Interruption,
    Transcription,
    TurnEnded,
)
from sipagent.rtp.table import CallTable
from sipagent.service.messages import CallEvent, FromWorker, Hold, Offer, PressDigits, SendText, Transfer
from sipagent.service.worker import models as worker_models
from sipagent.service.worker.controls import Controls
from sipagent.service.worker.meeting import Meeting
from sipagent.service.worker.models import Models
from sipagent.service.worker.notes import Notes
from sipagent.service.worker.options import read_options
from sipagent.stir.verdict import Verdict
from tests.support.line import SimulatedLine
from tests.worker.process import offer


class Recorder:
    """What the controls asked of their surroundings."""

    def __init__(self) -> None:
        self.sent: list[FromWorker] = []
        self.work: list[Callable[[], Awaitable[None]]] = []
        self.said: list[str] = []
        self.hangups = self.answers = 0
        table, fd = CallTable.create(1)
        os.close(fd)
        self.meeting = Meeting("call-1", table, self.sent.append, Notes("call-1", self.sent.append))

    async def say(self, text: str) -> None:
        self.said.append(text)

    async def hang_up(self) -> None:
        self.hangups += 1

    async def play(self, path: str) -> None:
        self.said.append(path)

    async def answer(self) -> None:
        self.answers += 1

    def controls(self, made: Offer | None = None) -> Controls:
        return Controls(
            made or offer("x:X"),
            self.sent.append,
            self.work.append,
            self.say,
            self.play,
            self.answer,
            self.hang_up,
            [],
            self.meeting,
        )


def test_a_brain_is_told_who_vouches_for_its_caller() -> None:
    made = offer("x:X")
    verdict = Verdict("passed", "A", "4930123")
    caller = Recorder().controls(replace(made, party=replace(made.party, stir=verdict))).caller
    assert caller.stir.attestation == "A"
    assert Recorder().controls().caller.stir.result == "unchecked"


def test_digits_texts_and_holds_are_messages_to_the_signalling_plane() -> None:
    recorder = Recorder()
    controls = recorder.controls()
    controls.send_digits("12#")
    controls.send_text("hello")
    controls.hold(True)
    assert recorder.sent == [
        PressDigits("call-1", "12#"),
        SendText("call-1", "MESSAGE", "text/plain", "hello"),
        Hold("call-1", True),
    ]


async def test_speech_and_the_hang_up_are_work_in_their_order_and_only_the_first_hang_up_counts() -> None:
    recorder = Recorder()
    controls = recorder.controls()
    controls.say("One.")
    controls.say("")
    controls.hangup("sold")
    controls.hangup("again")
    for work in recorder.work:
        await work()
    assert (recorder.said, recorder.hangups, controls.ending) == (["One."], 1, "sold")


async def test_what_is_to_become_of_the_agent_is_said_with_the_transfer() -> None:
    recorder = Recorder()
    controls = recorder.controls()
    waiting = asyncio.create_task(
        controls.transfer("+49", "bridged", whisper="A.", listen=True, back=True, back_key="*")
    )
    await asyncio.sleep(0)
    assert recorder.sent == [Transfer("call-1", "+49", "bridged", 25.0, "A.", True, True, "*")]
    controls.transfer_ended("busy")
    assert await waiting == "busy"


def test_nobody_is_whispered_to_or_let_go_while_nobody_else_is_on_the_line() -> None:
    recorder = Recorder()
    controls = recorder.controls()
    controls.whisper("Psst.")
    controls.step_in()
    controls.step_out()
    controls.take_back()
    assert recorder.sent == [] and controls.presence == "caller" and not controls.aside


async def test_a_transfer_is_asked_for_once_and_everybody_who_waits_hears_its_outcome() -> None:
    recorder = Recorder()
    controls = recorder.controls()
    waiting = [asyncio.create_task(controls.transfer("+49", "attended", 9)) for _ in range(2)]
    await asyncio.sleep(0)
    assert controls.transferring and recorder.sent == [Transfer("call-1", "+49", "attended", 9)]
    controls.transfer_ended("busy")
    assert await asyncio.gather(*waiting) == ["busy", "busy"] and not controls.transferring
    controls.transfer_ended("late news")


def test_variables_are_kept_told_and_made_plain() -> None:
    recorder = Recorder()
    controls = recorder.controls()
    controls.set_variable("day", "Monday")
    controls.set_variable("who", {1: complex(1, 2)})
    assert controls.variables == {"day": "Monday", "who": {"1": "(1+2j)"}}
    assert recorder.sent[0] == CallEvent("call-1", "variable", {"name": "day", "value": "Monday"})


async def test_the_transcript_has_one_line_a_side_with_times_and_what_was_cut() -> None:
    sent: list[FromWorker] = []
    notes = Notes("call-1", sent.append)
    notes.attach(SimulatedLine())
    notes.on_frame(AgentAudio(np.zeros(8, np.int16), 8000, "Hello."))
    notes.on_frame(AgentSpeaking(0))
    notes.on_frame(Heard("Hello."))
    notes.on_frame(Heard("How are", interrupted=True))
    notes.on_frame(Interruption())
    notes.on_frame(TurnEnded(np.zeros(16000, np.int16), 8000, 8000, 24000, 23000))
    notes.on_frame(Transcription("Fine", False, 8000, 24000))
    notes.on_frame(Transcription("Fine.", True, 8000, 24000))
    notes.on_frame(ErrorFrame("tts", "mute"))
    notes.tool_called("book", {"day": "Monday"}, "x" * 900, 12.34)
    notes.tokens_used(Usage(10, 5))
    assert [(line["role"], line["text"], line["interrupted"]) for line in notes.transcript] == [
        ("assistant", "Hello. How are", True),
        ("user", "Fine.", False),
    ]
    assert notes.transcript[1]["at_ms"] == 1000
    kinds = [message.type for message in sent if isinstance(message, CallEvent)]
    assert kinds == ["transcript", "transcript", "barge_in", "transcript", "warning", "tool"]
    tool = sent[-1]
    assert isinstance(tool, CallEvent) and len(tool.data["result"]) == 500 and tool.data["took_ms"] == 12.3
    assert notes.usage == {
        "tts_characters": 6,
        "bot_turns": 1,
        "stt_audio_seconds": 2.0,
        "user_turns": 1,
        "tool_calls": 1,
        "input_tokens": 10,
        "output_tokens": 5,
    }


def test_options_of_a_route_reach_those_who_read_them() -> None:
    settings = read_options(
        {"llm": {"base_url": "http://x/v1", "model": "m"}, "filler": "", "greeting": "Hi.", "keypad_digits": 4}
    )
    assert settings.worker.llm is not None and settings.worker.llm.model == "m"
    assert (settings.answers.filler, settings.pipeline.talk.greeting) == ("", "Hi.")
    assert settings.pipeline.keypad.keypad_digits == 4


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"llm": {"base_url": "http://x/v1"}}, "options.llm"),
        ({"llm": {"base_url": "http://x/v1", "model": "m", "key": "k"}}, "options.llm"),
        ({"tool_rounds": "many"}, "options.tool_rounds"),
        ({"nonsense": 1}, "options.nonsense"),
    ],
)
def test_an_option_that_is_wrong_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options(options)
    assert caught.value.field.startswith(field)


class Loaded:
    """A model that loads at once."""

    def __init__(self, model_path: str = "", **pace: object) -> None:
        pass

    async def warm_up(self) -> None:
        pass


async def test_without_the_end_of_turn_model_calls_are_led_all_the_same_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(model_path: str) -> Loaded:
        raise ConfigError("conversation.model_path", "the model smart-turn is not installed")

    monkeypatch.setattr(worker_models, "Whisper", Loaded)
    monkeypatch.setattr(worker_models, "HibariVoice", Loaded)
    monkeypatch.setattr(worker_models, "SmartTurn", missing)
    models = Models()
    options = read_options({}).worker
    (warning,) = await models.warm([options])
    assert "turns end by silence alone" in warning
    loaded = await models.cascaded(options)
    assert loaded.services.end_of_turn is None and loaded.chat is None


async def test_models_are_loaded_once_and_without_speech_to_text_there_is_no_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_models, "Whisper", Loaded)
    monkeypatch.setattr(worker_models, "HibariVoice", Loaded)
    monkeypatch.setattr(worker_models, "SmartTurn", Loaded)
    models, options = Models(), read_options({}).worker
    first, second = await models.cascaded(options), await models.cascaded(options)
    assert first.services.stt is second.services.stt and first.services.tts is second.services.tts

    def missing(model_path: str) -> Loaded:
        raise ConfigError("pipeline", "speech to text needs ctranslate2")

    monkeypatch.setattr(worker_models, "Whisper", missing)
    assert await Models().warm([options]) == ("pipeline: speech to text needs ctranslate2",)
