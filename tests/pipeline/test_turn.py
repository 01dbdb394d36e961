"""Turn-taking in virtual time: who has the floor, and that nobody waits for ever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.pipeline.turn import (
    Action,
    Began,
    Do,
    Judge,
    Over,
    State,
    TurnOptions,
    TurnTaking,
    Undone,
    Verdict,
)
from sipagent.pipeline.words import is_backchannel, is_dangling

RATE_HZ = 8000
FINISHED = Verdict(0.9, "I would like an appointment.")
UNFINISHED = Verdict(0.0, "I would like an appointment.")


class Desk:
    """Feeds a core and keeps what it did; positions follow the time."""

    def __init__(self, **options: float) -> None:
        self.core = TurnTaking(TurnOptions(**options), RATE_HZ)  # type: ignore[arg-type]
        self.now = 0.0
        self.done: list[tuple[float, Action]] = []

    def at(self, now: float) -> "Desk":
        """Go to `now`, with all deadlines on the way."""
        while self.core.deadline is not None and self.core.deadline <= now:
            self.now = max(self.core.deadline, self.now)
            self.core.on_deadline(self.now)
            self.keep()
        self.now = now
        return self

    def keep(self) -> None:
        self.done += [(self.now, action) for action in self.core.drain()]

    def voice(self, speaking: bool) -> "Desk":
        position = int(self.now * RATE_HZ)
        (self.core.speech_started if speaking else self.core.speech_stopped)(position, self.now)
        self.keep()
        return self

    def agent(self, busy: bool, interruptible: bool = True) -> "Desk":
        self.core.agent(busy, interruptible, self.now)
        self.keep()
        return self

    def judged(self, verdict: Verdict) -> "Desk":
        self.core.judged(self.asked[-1].number, verdict, self.now)
        self.keep()
        return self

    @property
    def asked(self) -> list[Judge]:
        return [action for _, action in self.done if isinstance(action, Judge)]

    def times(self, kind: type | Do) -> list[float]:
        if isinstance(kind, type):
            return [at for at, action in self.done if isinstance(action, kind)]
        return [at for at, action in self.done if action is kind]


def test_a_turn_that_sounds_complete_ends_at_the_verdict() -> None:
    desk = Desk().at(1.0).voice(True).at(2.0).voice(False).at(2.1).judged(FINISHED)
    assert [over for _, over in desk.done if isinstance(over, Over)] == [
        Over(int(0.7 * RATE_HZ), 2 * RATE_HZ, 2 * RATE_HZ, "I would like an appointment.")
    ]
    assert desk.times(Over) == [2.1]


def test_a_turn_begins_with_its_pre_roll_but_never_inside_the_one_before() -> None:
    desk = Desk().at(0.1).voice(True)
    assert desk.done == [(0.1, Began(0))]
    desk.at(0.5).voice(False).at(0.55).judged(FINISHED)
    desk.at(0.6).voice(True)
    assert desk.done[-1] == (0.6, Began(4000))


@pytest.mark.parametrize(
    ("probability", "silence_s"), [(0.0, 1.6), (0.25, 1.2), (0.49, 0.816), (None, 0.96), (0.5, 0.1)]
)
def test_the_less_complete_a_turn_sounds_the_longer_its_silence_is_waited_for(
    probability: float | None, silence_s: float
) -> None:
    desk = Desk().at(1.0).voice(True).at(2.0).voice(False).at(2.1).judged(Verdict(probability, "On Tuesday")).at(9.0)
    assert desk.times(Over) == [pytest.approx(2.0 + silence_s)]


def test_a_verdict_that_comes_late_still_counts() -> None:
    desk = Desk().at(1.0).voice(True).at(2.0).voice(False).at(3.4).judged(FINISHED)
    assert desk.times(Over) == [3.4]


def test_words_that_ask_for_more_wait_longer_even_if_it_sounds_complete() -> None:
    desk = Desk().at(1.0).voice(True).at(2.0).voice(False).at(2.1).judged(Verdict(0.99, "My name is.")).at(9.0)
    assert desk.times(Over) == [pytest.approx(4.6)]


def test_a_caller_who_goes_on_keeps_the_floor_and_the_same_turn() -> None:
    desk = Desk().at(1.0).voice(True).at(2.0).voice(False).at(2.1).judged(UNFINISHED)
    desk.at(2.5).voice(True).at(3.0).voice(False).at(3.1).judged(FINISHED)
    (over,) = [action for _, action in desk.done if isinstance(action, Over)]
    assert (over.start, over.end) == (int(0.7 * RATE_HZ), 3 * RATE_HZ)
    assert len(desk.times(Began)) == 1


def test_a_verdict_on_an_earlier_pause_is_ignored() -> None:
    desk = Desk().at(1.0).voice(True).at(2.0).voice(False).at(2.05).voice(True).at(2.1).judged(FINISHED)
    assert desk.core.state is State.SPEAKING
    assert desk.times(Over) == []


def test_a_verdict_that_never_comes_is_replaced_by_the_silence_limit() -> None:
    desk = Desk().at(1.0).voice(True).at(2.0).voice(False).at(60.0)
    assert desk.times(Over) == [pytest.approx(3.6)]
    assert [over.text for _, over in desk.done if isinstance(over, Over)] == [None]


def test_a_voice_whose_end_is_never_reported_ends_at_the_longest_turn() -> None:
    desk = Desk().at(1.0).voice(True).at(100.0)
    assert desk.times(Over) == [pytest.approx(31.0)]


def test_noise_without_words_is_no_turn() -> None:
    desk = Desk().at(1.0).voice(True).at(1.3).voice(False).at(1.4).judged(Verdict(0.9, ""))
    assert desk.times(Over) == []
    assert desk.times(Undone) == [1.4]


def test_speaking_over_the_agent_ducks_at_once_and_interrupts_with_words() -> None:
    desk = Desk().agent(True).at(1.0).voice(True)
    assert desk.done == [(1.0, Do.DUCK)]
    desk.at(1.4)
    assert [judge.words_only for judge in desk.asked] == [True]
    desk.at(1.45).judged(Verdict(None, "wait"))
    assert [action for _, action in desk.done[-3:]] == [Do.INTERRUPT, Do.UNDUCK, Began(int(0.7 * RATE_HZ))]


@pytest.mark.parametrize("words", ["Uh-huh.", "Yeah, okay.", "Mm-hmm", "I see.", ""])
def test_a_backchannel_gives_the_agent_its_voice_back(words: str) -> None:
    desk = Desk().agent(True).at(1.0).voice(True).at(1.3).voice(False).at(1.4).judged(Verdict(0.9, words))
    assert desk.times(Do.INTERRUPT) == []
    assert desk.times(Do.UNDUCK) == [1.4]
    assert desk.core.state is State.SILENT


def test_a_long_voice_interrupts_whatever_its_words() -> None:
    desk = Desk().agent(True).at(1.0).voice(True)
    for now in (1.4, 1.7, 1.85):
        desk.at(now)
        if desk.asked:
            desk.judged(Verdict(None, "yeah"))
    desk.at(5.0)
    assert desk.times(Do.INTERRUPT) == [pytest.approx(1.9)]


def test_a_deaf_recogniser_does_not_make_the_agent_deaf() -> None:
    desk = Desk().agent(True).at(1.0).voice(True).at(5.0)
    assert desk.times(Do.INTERRUPT) == [pytest.approx(1.9)]


def test_without_words_the_voice_alone_interrupts_after_a_quarter_second() -> None:
    desk = Desk(interruption_words=0).agent(True).at(1.0).voice(True).at(2.0)
    assert desk.times(Do.INTERRUPT) == [pytest.approx(1.25)]
    assert desk.asked == []


def test_a_short_objection_interrupts_and_is_a_turn() -> None:
    desk = Desk().agent(True).at(1.0).voice(True).at(1.3).voice(False).at(1.4).judged(Verdict(0.9, "No, stop."))
    assert desk.times(Do.INTERRUPT) == [1.4]
    assert desk.times(Over) == [1.4]


def test_what_must_be_heard_is_not_interrupted_and_not_ducked() -> None:
    desk = Desk().agent(True, interruptible=False).at(1.0).voice(True).at(3.0)
    assert desk.done == []
    desk.agent(False)
    assert isinstance(desk.done[-1][1], Began)  # who still speaks when it is over has the floor


def test_yes_just_before_the_agent_falls_silent_is_the_answer() -> None:
    desk = Desk().agent(True).at(1.0).voice(True).at(1.3).voice(False).at(1.4).judged(Verdict(0.9, "Yeah."))
    desk.at(1.8).agent(False)
    assert [over.text for _, over in desk.done if isinstance(over, Over)] == ["Yeah."]


def test_yes_long_before_the_agent_falls_silent_is_not() -> None:
    desk = Desk().agent(True).at(1.0).voice(True).at(1.3).voice(False).at(1.4).judged(Verdict(0.9, "Yeah."))
    desk.at(3.0).agent(False)
    assert desk.times(Over) == []


def test_a_key_interrupts() -> None:
    desk = Desk().agent(True).at(1.0)
    desk.core.key_pressed(1.0)
    desk.keep()
    assert desk.times(Do.INTERRUPT) == [1.0]


def test_words_that_take_no_turn() -> None:
    assert is_backchannel("Uh-huh, yeah.")
    assert not is_backchannel("Yeah, but wait.")
    assert not is_backchannel("")
    assert not is_backchannel("Yes.")


def test_words_that_do_not_end_a_turn() -> None:
    assert is_dangling("I would like to come on Tuesday and...")
    assert is_dangling("My number is.")
    assert not is_dangling("On Tuesday at three.")
    assert not is_dangling("")


VERDICTS = st.builds(
    Verdict,
    st.none() | st.floats(0, 1),
    st.none() | st.sampled_from(["", "uh-huh", "I would like to", "On Tuesday.", "my name is"]),
)
EVENTS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),
        st.one_of(
            st.tuples(st.just("voice"), st.booleans()),
            st.tuples(st.just("agent"), st.sampled_from([(True, True), (True, False), (False, True)])),
            st.tuples(st.just("judged"), VERDICTS),
            st.tuples(st.just("key"), st.none()),
        ),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_from_every_state_silence_ends_what_was_begun(events: list[tuple[float, tuple[str, object]]]) -> None:
    desk = Desk()
    for after, (kind, value) in events:
        desk.at(desk.now + after)
        if kind == "voice":
            desk.voice(bool(value))
        elif kind == "agent":
            desk.agent(*value)  # type: ignore[misc]
        elif kind == "judged" and desk.asked:
            desk.judged(value)  # type: ignore[arg-type]
        elif kind == "key":
            desk.core.key_pressed(desk.now)
            desk.keep()
    desk.voice(False).agent(False)
    desk.at(desk.now + 40.0)
    assert desk.core.state is State.SILENT
    assert desk.core.deadline is None
    # Every turn that began was answered for, and the agent's voice is never left ducked.
    last = {True: 0, False: 0}
    for number, (_, action) in enumerate(desk.done):
        if action is Do.DUCK or action is Do.UNDUCK:
            last[action is Do.DUCK] = number + 1
    assert last[True] <= last[False]
    began = sum(isinstance(action, Began) for _, action in desk.done)
    ended = sum(isinstance(action, Over | Undone) for _, action in desk.done)
    assert ended >= began
