"""Whole conversations in virtual time, with services that work, fail and hang."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sipagent.errors import ConfigError
from sipagent.pipeline.cascaded import Services, cascaded, options_from
from sipagent.pipeline.context import Context, Message
from sipagent.pipeline.conversation import Conversation
from sipagent.pipeline.frames import (
    AgentAudio,
    AgentSilent,
    AgentSpeaking,
    EndCall,
    ErrorFrame,
    Heard,
    Interruption,
    ResponseEnded,
    Speak,
    Transcription,
    TurnEnded,
    TurnTimes,
    TurnUndone,
)
from sipagent.pipeline.responder import Reply, UserTurn
from tests.pipeline.fakes import HANG, FakeEndOfTurn, FakeSTT, FakeTTS, Log, Script, tone
from tests.support.line import SimulatedLine
from tests.support.virtual_time import run_virtual


@dataclass
class Call:
    line: SimulatedLine
    conversation: Conversation
    log: Log
    run: "asyncio.Task[str]"
    stt: FakeSTT
    tts: FakeTTS
    script: Script

    async def until(self, at_s: float) -> None:
        await asyncio.sleep(at_s - self.line.now_s)

    async def over(self, within_s: float) -> str:
        return await asyncio.wait_for(self.run, within_s - self.line.now_s)


def call(
    test: Callable[[Call], Awaitable[None]],
    *,
    stt: FakeSTT | None = None,
    tts: FakeTTS | None = None,
    script: Script | None = None,
    end_of_turn: FakeEndOfTurn | None = None,
    context: Context | None = None,
    fallback: bool = False,
    **options: Any,
) -> None:
    """Run `test` in a call in virtual time; options as a route would give them."""

    async def main() -> None:
        line = SimulatedLine()
        log = Log(lambda: line.now_s)
        parts = (stt or FakeSTT(), tts or FakeTTS(), script or Script())
        conversation = cascaded(
            line,
            Services(parts[0], parts[1], end_of_turn or FakeEndOfTurn()),
            parts[2],
            options_from(options),
            context=context,
            on_frame=log,
            fallback=AgentAudio(tone(1.5), 8000, "Sorry.") if fallback else None,
        )
        run = asyncio.create_task(conversation.run())
        try:
            await test(Call(line, conversation, log, run, *parts))
        finally:
            if not run.done():
                conversation.stop("test over")
                await asyncio.wait_for(run, 5.0)

    run_virtual(main())


def test_a_caller_is_greeted_heard_and_answered() -> None:
    async def test(c: Call) -> None:
        await c.until(3.0)
        assert c.log.of(Heard) == [Heard("Hello, this is the office.")]
        c.line.speak(tone(2.0), 3.0)
        await c.until(9.0)
        assert [f.text for f in c.log.of(Transcription)] == ["I would like an appointment."]
        assert c.conversation.context.messages() == [
            Message("assistant", "Hello, this is the office."),
            Message("user", "I would like an appointment."),
            Message("assistant", "Certainly. Which day would suit you?"),
        ]

    call(test, greeting="Hello, this is the office.")


def test_the_answer_begins_soon_after_the_voice_ends_and_its_times_are_told() -> None:
    async def test(c: Call) -> None:
        end_s = c.line.speak(tone(2.0), 1.0)
        await c.until(5.0)
        (times,) = c.log.of(TurnTimes)
        # 250 ms until the pause is reported, a tick, 60 ms of recognition, 10 of thought, 20 of voice
        assert 330 < times.response_ms < 420  # type: ignore[attr-defined]
        assert times.stages_ms["stt"] == pytest.approx(60, abs=1)  # type: ignore[attr-defined]
        assert c.line.heard()[0][0] - end_s < 0.45

    call(test)


def test_the_recogniser_gets_the_pre_roll_and_all_of_a_long_turn() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(12.0), 1.0)
        await c.until(14.0)
        (turn,) = c.log.of(TurnEnded)
        assert turn.start == int(0.7 * 8000)  # type: ignore[attr-defined]
        assert np.count_nonzero(turn.pcm) > 11.9 * 8000  # type: ignore[attr-defined]

    call(test)


def test_audio_of_a_turn_is_bounded() -> None:
    async def test(c: Call) -> None:
        c.line.voice(1.0, None)
        await c.until(60.0)
        assert max(c.stt.asked) <= 5.2 * 8000
        assert c.log.of(Transcription)

    call(test, max_turn_seconds=5.0)


def test_the_first_sentence_is_spoken_while_the_second_is_thought_of() -> None:
    async def test(c: Call) -> None:
        end_s = c.line.speak(tone(1.0), 1.0)
        await c.until(20.0)
        assert c.log.times(AgentSpeaking)[0] - end_s < 1.0
        assert c.log.times(ResponseEnded)[0] > 5.0

    call(test, script=Script([["One moment. ", *["more "] * 8]], seconds=0.5))


def test_the_second_sentence_is_made_while_the_first_is_played() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        await c.until(3.0)
        assert len(c.tts.said) == 2
        assert c.log.of(Heard) == []

    call(test, script=Script([["This sentence takes two seconds or so. ", "This one is the second."]]))


def test_an_interruption_flushes_within_a_packet_and_only_what_was_heard_remains() -> None:
    long = "This is a long answer. It goes on and on. And on. Nobody wants to hear it all. But there it is."

    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        await c.until(5.0)
        c.line.speak(tone(2.0), 5.0)
        await c.until(7.3)
        (at,) = c.log.times(Interruption)
        assert at < 5.6
        assert c.line.gains == [0.25, 1.0]
        sent = [when for when, _ in c.line.heard()]
        assert max(when for when in sent if when < 7.0) - at <= 0.0401
        await c.until(9.0)
        answer = c.conversation.context.messages()[1]
        assert answer.interrupted
        assert long.startswith(answer.content)
        assert len(answer.content) < 80

    stt = FakeSTT(["I have a question.", "Wait please.", "Wait please, I meant Tuesday."])
    call(test, stt=stt, script=Script([[long], ["I see."]]))


def test_an_interruption_cancels_what_is_being_thought_and_spoken() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        c.line.speak(tone(2.0), 4.0)
        await c.until(5.0)
        assert c.log.of(Interruption)
        assert c.script.closed == 1
        assert len(c.tts.said) < 20

    call(test, script=Script([["Another sentence comes here. "] * 100, ["Fine."]], seconds=0.3))


def test_a_caller_who_goes_on_while_the_agent_thinks_is_answered_once_about_all() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        c.line.speak(tone(1.5), 2.7)
        await c.until(12.0)
        users = [m.content for m in c.conversation.context.messages() if m.role == "user"]
        assert users == ["I would like to come on Tuesday at three."]
        assert len(c.log.of(AgentSpeaking)) == 1

    stt = FakeSTT(["I would like to come", "on Tuesday at three."])
    call(test, stt=stt, script=Script([["Very well."]], seconds=1.5))


@pytest.mark.parametrize("words", ["Uh-huh.", "Yeah.", ""])
def test_a_backchannel_does_not_stop_the_agent(words: str) -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(0.25), 1.0)
        await c.until(8.0)
        assert c.log.of(Interruption) == []
        assert c.log.of(TurnUndone) == [TurnUndone(words)]
        assert c.line.gains == [0.25, 1.0]
        assert c.log.of(Heard) == [Heard("This greeting is long enough to be spoken over, is it not?")]

    call(test, stt=FakeSTT([words]), greeting="This greeting is long enough to be spoken over, is it not?")


def test_a_greeting_that_must_be_heard_is_not_interrupted() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(2.0), 0.5)
        await c.until(8.0)
        assert c.log.of(Interruption) == []
        assert c.line.heard_seconds() >= 0.06 * 40

    call(test, greeting="This call may be recorded for your safety.", greeting_interruptible=False)


def test_the_goodbye_is_played_to_its_last_sample_before_the_call_ends() -> None:
    goodbye = "Goodbye, and thank you for calling us."

    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        c.line.speak(tone(1.0), 2.8)  # talking over the goodbye changes nothing
        assert await c.over(15.0) == "finished"
        assert c.line.heard_seconds() == pytest.approx(0.06 * len(goodbye), abs=0.02)
        assert c.line.now_s - c.line.heard()[-1][0] >= 0.35
        assert c.log.of(Heard) == [Heard(goodbye)]

    call(test, script=Script([[Speak(goodbye, interruptible=False), EndCall()]]))


def test_the_owner_says_goodbye_once_and_waits_for_what_was_said() -> None:
    async def test(c: Call) -> None:
        await c.conversation.say("The first thing to say. The second thing to say.")
        await c.conversation.wait_until_played()
        assert c.log.of(Heard) == [Heard("The first thing to say."), Heard("The second thing to say.")]
        await c.conversation.end("transferred", "Hold on please.")
        await c.conversation.end("again", "No.")
        assert await c.over(20.0) == "transferred"
        assert c.log.of(Heard)[-1] == Heard("Hold on please.")

    call(test)


def test_who_waits_for_words_that_are_interrupted_is_released() -> None:
    async def test(c: Call) -> None:
        await c.conversation.say("A very long text that nobody will ever hear to its end, I am afraid.")
        waiting = asyncio.create_task(c.conversation.wait_until_played())
        await c.until(1.0)
        await c.conversation.interrupt()
        await asyncio.wait_for(waiting, 0.5)
        assert c.log.of(Heard)[0].interrupted  # type: ignore[attr-defined]

    call(test)


def test_a_far_end_that_hangs_up_ends_the_conversation_at_once() -> None:
    async def test(c: Call) -> None:
        waiting = asyncio.create_task(c.conversation.wait_until_played())
        await c.until(1.0)
        c.conversation.stop("hangup")
        assert await c.over(1.1) == "hangup"
        await asyncio.wait_for(waiting, 0.1)

    call(test, greeting="Hello, this is the office, how may I help you today?")


def test_keys_interrupt_and_are_answered_together() -> None:
    async def test(c: Call) -> None:
        await c.until(1.0)
        for digit in "12":
            await c.conversation.digit(digit)
            await asyncio.sleep(0.3)
        assert c.log.of(Interruption)
        await c.until(4.0)
        assert c.script.turns == [UserTurn("", "12")]
        for digit in "34#":
            await c.conversation.digit(digit)
        await c.until(4.1)
        assert c.script.turns[1:] == [UserTurn("", "34")]

    call(test, greeting="Please enter your number and close with the hash key.")


def test_a_set_number_of_keys_needs_no_pause() -> None:
    async def test(c: Call) -> None:
        for digit in "1234":
            await c.conversation.digit(digit)
        await c.until(0.1)
        assert c.script.turns == [UserTurn("", "1234")]

    call(test, keypad_digits=4)


def test_a_silent_caller_is_asked_twice_and_then_left() -> None:
    async def test(c: Call) -> None:
        assert await c.over(60.0) == "silence"
        assert [f.text for f in c.log.of(Heard)] == ["Still there?", "Hello?", "Goodbye then."]  # type: ignore[attr-defined]
        times = c.log.times(AgentSpeaking)
        assert 4.9 < times[0] < 5.2

    call(test, silence_seconds=5.0, silence_prompts=("Still there?", "Hello?"), silence_goodbye="Goodbye then.")


def test_nobody_is_asked_while_on_hold_or_after_an_answer() -> None:
    async def test(c: Call) -> None:
        c.conversation.held = True
        await c.until(30.0)
        assert c.log.of(AgentSpeaking) == []
        c.conversation.held = False
        await c.until(36.0)
        c.line.speak(tone(1.0), 38.0)
        await c.until(49.0)
        said = [f.text for f in c.log.of(Heard)]  # type: ignore[attr-defined]
        assert said == ["Still there?", "Certainly.", "Which day would suit you?", "Still there?"]

    call(test, silence_seconds=5.0, silence_prompts=("Still there?",))


def test_a_call_without_a_word_ends_but_not_while_on_hold() -> None:
    async def test(c: Call) -> None:
        c.conversation.held = True
        await c.until(30.0)
        assert not c.run.done()
        c.conversation.held = False
        assert await c.over(41.0) == "idle"

    call(test, idle_seconds=10.0)


def test_a_typed_message_is_answered_and_a_clip_is_played_as_it_is() -> None:
    async def test(c: Call) -> None:
        await c.conversation.message("What is your address?")
        await c.conversation.play(AgentAudio(tone(1.0, 16000), 16000, "(a chime)"))
        await c.until(6.0)
        assert c.script.turns == [UserTurn("What is your address?")]
        assert Heard("(a chime)") in c.log.of(Heard)

    call(test)


def test_a_deaf_recogniser_is_apologised_for_and_then_the_call_ends() -> None:
    async def test(c: Call) -> None:
        for at_s in (1.0, 15.0, 30.0):
            c.line.speak(tone(1.0), at_s)
        assert await c.over(60.0) == "service_failure"
        heard = [f.text for f in c.log.of(Heard)]  # type: ignore[attr-defined]
        assert heard[0] == "Pardon?"

    call(test, stt=FakeSTT(seconds=HANG), not_understood="Pardon?")


def test_a_recogniser_that_fails_once_is_asked_again() -> None:
    class Flaky(FakeSTT):
        async def transcribe(self, pcm: Any, rate_hz: int) -> Any:
            self.fails = not self.asked
            return await FakeSTT.transcribe(self, pcm, rate_hz)

    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        await c.until(5.0)
        assert [f.text for f in c.log.of(Transcription)] == ["I would like an appointment."]  # type: ignore[attr-defined]
        assert [f.service for f in c.log.of(ErrorFrame)] == ["stt"]  # type: ignore[attr-defined]

    call(test, stt=Flaky())


def test_an_end_of_turn_model_that_hangs_costs_only_the_silence_limit() -> None:
    async def test(c: Call) -> None:
        end_s = c.line.speak(tone(1.0), 1.0)
        await c.until(6.0)
        assert c.log.times(AgentSpeaking)[0] - end_s < 2.2
        for at_s in (12.0, 24.0, 36.0):
            c.line.speak(tone(1.0), at_s)
        await c.until(45.0)
        assert len(c.log.of(AgentSpeaking)) == 4, "the call has ended"

    call(test, end_of_turn=FakeEndOfTurn(seconds=HANG))


def test_words_of_a_caller_who_does_not_hear_the_agent_are_a_turn_and_no_interruption() -> None:
    async def test(c: Call) -> None:
        c.conversation.aside = True
        await c.conversation.say("This is a sentence that somebody else is to hear from its first word to the last.")
        c.line.speak(tone(1.0), 1.0)
        await c.until(12.0)
        assert not c.log.of(Interruption) and len(c.log.of(Transcription)) == 1
        assert [frame.interrupted for frame in c.log.of(Heard)][:1] == [False]  # type: ignore[attr-defined]
        assert not any("somebody else" in message.content for message in c.conversation.context.messages())

    call(test)


def test_a_deaf_conversation_hears_the_end_of_what_had_begun_and_nothing_more() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(2.0), 1.0)
        await c.until(2.0)
        c.conversation.deaf = True
        c.line.speak(tone(1.0), 8.0)
        await c.until(15.0)
        assert len(c.log.of(Transcription)) == 1
        c.conversation.deaf = False
        c.line.speak(tone(1.0), 16.0)
        await c.until(22.0)
        assert len(c.log.of(Transcription)) == 2

    call(test)


def test_silence_is_borne_while_the_caller_talks_with_somebody_else() -> None:
    async def test(c: Call) -> None:
        c.conversation.aside = True
        await c.until(30.0)
        assert not c.log.of(Heard)
        c.conversation.aside = False
        assert await c.over(41.0) == "idle"

    call(test, idle_seconds=10.0)


def test_what_somebody_else_says_is_handed_to_the_responder_with_their_name() -> None:
    async def test(c: Call) -> None:
        await c.conversation.overheard("colleague", "Friday is fine.")
        await c.until(3.0)
        assert c.script.turns == [UserTurn("Friday is fine.", speaker="colleague")]
        assert c.conversation.context.messages()[0].content == "[colleague] Friday is fine."

    call(test)


@pytest.mark.parametrize("tts", [FakeTTS(fails=True), FakeTTS(seconds=HANG)], ids=["refuses", "hangs"])
def test_a_mute_voice_is_replaced_by_a_clip_and_then_the_call_ends(tts: FakeTTS) -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        for at_s in (12.0, 24.0, 36.0):
            c.line.speak(tone(1.0), at_s)
        assert await c.over(60.0) == "service_failure"
        assert Heard("Sorry.") in c.log.of(Heard)

    call(test, tts=tts, fallback=True)


def test_a_long_answer_to_a_mute_voice_does_not_hold_up_the_end() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        assert await c.over(20.0) == "service_failure"

    call(test, tts=FakeTTS(seconds=HANG), script=Script([["This is one of many sentences. "] * 300], seconds=0.001))


def test_a_stuck_responder_is_apologised_for() -> None:
    async def test(c: Call) -> None:
        end_s = c.line.speak(tone(1.0), 1.0)
        await c.until(9.0)
        assert [f.text for f in c.log.of(Heard)] == ["Sorry, again please?"]  # type: ignore[attr-defined]
        assert c.log.times(AgentSpeaking)[0] - end_s < 3.6
        assert c.script.closed == 1

    call(test, script=Script(seconds=HANG), first_reply_seconds=3.0, apology="Sorry, again please?")


def test_an_error_of_the_brain_ends_this_call_with_that_error() -> None:
    class Broken(Script):
        async def respond(self, turn: UserTurn, context: Context) -> AsyncIterator[Reply]:
            raise KeyError("a bug")
            yield ""

    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        with pytest.raises(ExceptionGroup) as caught:
            await c.over(5.0)
        assert caught.group_contains(KeyError)

    call(test, script=Broken())


def test_a_call_that_is_taken_over_is_not_greeted_again() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        await c.until(6.0)
        assert c.tts.said == ["Certainly.", "Which day would suit you?"]
        assert c.conversation.context.messages()[0] == Message("user", "Hello")

    call(test, greeting="Hello!", context=Context([Message("user", "Hello")]))


def test_a_monologue_waits_for_the_line() -> None:
    async def test(c: Call) -> None:
        c.line.speak(tone(1.0), 1.0)
        await c.until(10.0)
        assert c.line.written() - c.line.played() < 26 * 8000
        assert len(c.tts.said) < 20

    call(test, script=Script([["A sentence of two seconds comes. "] * 200]))


def test_options_come_from_one_flat_table_and_wrong_ones_are_named() -> None:
    options = options_from({"greeting": "Hi", "max_silence_seconds": 1, "silence_prompts": ["a", "b"]})
    assert options.talk.greeting == "Hi"
    assert options.turn.max_silence_seconds == 1.0
    assert options.silence.silence_prompts == ("a", "b")
    with pytest.raises(ConfigError, match=r"options\.greting.*did you mean greeting"):
        options_from({"greting": "Hi"})
    with pytest.raises(ConfigError, match="greeting"):
        options_from({"greeting": 7})


SECONDS = st.sampled_from([0.0, 0.05, 1.0, HANG])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stt=st.builds(
        FakeSTT,
        st.sampled_from([("",), ("uh-huh",), ("I would like to",), ("On Tuesday.", "", "yeah")]),
        SECONDS,
        st.booleans(),
        st.builds(list),
    ),
    end_of_turn=st.builds(FakeEndOfTurn, st.sampled_from([0.0, 1.0]), SECONDS),
    replies=st.lists(st.sampled_from(["Yes. ", "And so on, ", "Goodbye."]), max_size=4),
    thinking=SECONDS,
    tts=st.builds(FakeTTS, SECONDS, st.booleans(), st.builds(list)),
    speech=st.lists(st.tuples(st.floats(0.0, 6.0), st.floats(0.1, 3.0), st.booleans()), min_size=1, max_size=4),
)
def test_whatever_fails_a_silent_caller_is_spoken_to_or_the_call_ends(
    stt: FakeSTT,
    end_of_turn: FakeEndOfTurn,
    replies: list[str],
    thinking: float,
    tts: FakeTTS,
    speech: list[tuple[float, float, bool]],
) -> None:
    limit_s = 45.0  # the longest turn, a late transcription, an apology, the silence prompt

    async def test(c: Call) -> None:
        at_s = 0.5
        for pause_s, voice_s, reported in speech:
            at_s += pause_s
            c.line.voice(at_s, at_s + voice_s if reported else None)
            at_s += voice_s
        await c.until(at_s)
        before = len(c.log.times(AgentSpeaking)) + len(c.log.times(AgentSilent))
        await asyncio.wait({c.run}, timeout=limit_s)
        spoken = len(c.log.times(AgentSpeaking)) + len(c.log.times(AgentSilent)) > before
        assert spoken or c.run.done()

    call(
        test,
        stt=stt,
        tts=tts,
        script=Script([replies], seconds=thinking),
        end_of_turn=end_of_turn,
        fallback=True,
        silence_seconds=6.0,
    )
