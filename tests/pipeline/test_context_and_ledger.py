"""A turn is a transaction, and only what was heard is remembered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.errors import LocalError
from sipagent.pipeline.context import Context, Message, ToolCall
from sipagent.pipeline.frames import Word
from sipagent.pipeline.ledger import Ledger, audible
from tests.pipeline.fakes import tone

CALL = ToolCall("1", "book", "{}")


def said(context: Context) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in context.messages()]


def test_only_what_was_heard_enters_the_context() -> None:
    context = Context()
    context.begin("Hello")
    context.heard("Good morning.")
    context.heard("How may", interrupted=True)
    context.begin("I want to book")
    assert said(context) == [("user", "Hello"), ("assistant", "Good morning. How may"), ("user", "I want to book")]
    assert context.messages()[1].interrupted


def test_a_turn_interrupted_before_anything_was_heard_merges_with_the_next() -> None:
    context = Context()
    context.begin("I would like to book")
    context.begin("for Tuesday")
    assert said(context) == [("user", "I would like to book for Tuesday")]


def test_a_tool_that_ran_is_remembered_though_nothing_was_heard() -> None:
    context = Context()
    context.begin("Book it")
    context.stage(Message("assistant", tool_calls=(CALL,)), Message("tool", "done", tool_call_id="1"))
    context.begin("Are you there?")
    assert [message.role for message in context.messages()] == ["user", "assistant", "tool", "user"]


def test_a_tool_call_without_a_result_is_dropped() -> None:
    context = Context()
    context.begin("Book it")
    context.stage(Message("assistant", tool_calls=(CALL, ToolCall("2", "pay", "{}"))), Message("tool", "ok", (), "1"))
    context.stage(Message("assistant", tool_calls=(ToolCall("3", "mail", "{}"),)))
    context.commit()
    assert [message.tool_calls for message in context.messages()] == [(), (CALL,), ()]


def test_a_turn_that_is_rolled_back_leaves_nothing() -> None:
    context = Context([Message("assistant", "Hello")])
    context.begin("x")
    context.heard("y")
    context.rollback()
    assert said(context) == [("assistant", "Hello")]
    with pytest.raises(LocalError):
        context.stage(Message("tool", "late"))


def test_a_greeting_stands_for_itself_in_one_message() -> None:
    context = Context()
    context.heard("Hello.")
    context.heard("How may I help?")
    assert said(context) == [("assistant", "Hello. How may I help?")]


def test_another_worker_goes_on_with_the_same_context() -> None:
    context = Context()
    context.begin("Book it")
    context.stage(Message("assistant", tool_calls=(CALL,)), Message("tool", "done", tool_call_id="1"))
    context.heard("It is booked.")
    assert Context.from_records(context.to_records()).messages() == context.messages()


def test_text_is_heard_to_the_word_in_proportion_to_its_sound() -> None:
    ledger = Ledger(8000)
    ledger.write(1000, tone(2.0), "one two three four five", (), more=False, interruptible=True)
    assert ledger.take_heard(16000) == []
    assert ledger.cut(1000 + 8000) == "one two"


def test_silence_around_the_words_does_not_count() -> None:
    quiet = np.zeros(8000, np.int16)
    ledger = Ledger(8000)
    pcm = np.concatenate([quiet, tone(1.0), quiet])
    ledger.write(0, pcm, "one two three four", (), more=False, interruptible=True)
    assert ledger.cut(8000) == ""
    ledger.write(0, pcm, "one two three four", (), more=False, interruptible=True)
    assert ledger.cut(16000) == "one two three four"


def test_word_times_of_the_voice_are_used_where_it_gives_them() -> None:
    ledger = Ledger(8000)
    words = (Word("one", 2000), Word("two", 15000))
    ledger.write(0, tone(2.0), "one two", words, more=False, interruptible=True)
    assert ledger.cut(14000) == "one"


def test_a_text_that_is_still_being_synthesized_is_not_taken_for_heard() -> None:
    ledger = Ledger(8000)
    ledger.write(0, tone(0.5), "a sentence of forty characters or so, ok", (), more=True, interruptible=True)
    assert ledger.take_heard(4000) == []
    ledger.go_on(4000, tone(0.5), (), more=False)
    assert ledger.take_heard(8000) == ["a sentence of forty characters or so, ok"]


def test_audible_finds_the_sound() -> None:
    assert audible(np.concatenate([np.zeros(10, np.int16), np.full(5, 1000, np.int16), np.zeros(3, np.int16)])) == (
        10,
        15,
    )
    assert audible(np.zeros(4, np.int16)) == (0, 4)


@given(
    st.lists(st.tuples(st.text("ab ", min_size=1, max_size=30), st.integers(1, 4000)), max_size=6), st.integers(0, 9999)
)
def test_what_was_heard_is_always_a_beginning_of_what_was_written(texts: list[tuple[str, int]], cut: int) -> None:
    ledger, position = Ledger(8000), 0
    for text, samples in texts:
        ledger.write(position, np.full(samples, 999, np.int16), text, (), more=False, interruptible=True)
        position += samples
    heard = ledger.cut(cut)
    assert " ".join(text for text, _ in texts if text).startswith(heard.rstrip())
    if cut >= position:
        assert heard == " ".join(text for text, _ in texts)
