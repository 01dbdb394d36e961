"""Streamed text is cut into sentences, early and in the right places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.pipeline.sentences import SentenceSplitter, speakable


def split(text: str, size: int = 1) -> list[str]:
    splitter = SentenceSplitter()
    out = [s for start in range(0, len(text), size) for s in splitter.feed(text[start : start + size])]
    return out + splitter.flush()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How may I help you today?", ["Hello there.", "How may I help you today?"]),
        ("Dr. Smith is in at 3 p.m. on Tuesday.", ["Dr. Smith is in at 3 p.m. on Tuesday."]),
        ("That is $3.50. Will you pay by card?", ["That is $3.50.", "Will you pay by card?"]),
        ("It costs 1,250.75 euros, e.g. by transfer.", ["It costs 1,250.75 euros, e.g. by transfer."]),
        ("Well... let me look that up for you.", ["Well... let me look that up for you."]),
        ("I am not sure… Could you repeat that?", ["I am not sure…", "Could you repeat that?"]),
        ("Really?! Yes, that is so.", ["Really?!", "Yes, that is so."]),
        ("J. K. Rowling wrote it. I read it.", ["J. K. Rowling wrote it.", "I read it."]),
        ("Write to info@example.com today. Thank you.", ["Write to info@example.com today.", "Thank you."]),
        ("1. First open the door.\n2. Then go in.", ["1. First open the door.", "2. Then go in."]),
        ('He said "Stop." Then he left the room.', ['He said "Stop."', "Then he left the room."]),
        ("Is it no. 5 or no. 6?", ["Is it no. 5 or no. 6?"]),
        ("I would say no. Shall we go on now?", ["I would say no.", "Shall we go on now?"]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sentences_end_where_a_speaker_would_pause(text: str, sentences: list[str], size: int) -> None:
    assert split(text, size) == sentences


def test_the_first_sentence_comes_as_soon_as_it_is_complete() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("Sure.") == []  # "Sure.com" could still follow
    assert splitter.feed(" ") == ["Sure."]


def test_a_long_first_sentence_is_cut_at_a_comma() -> None:
    first = "If you would like to come on Tuesday in the morning, we have a time"
    splitter = SentenceSplitter()
    assert splitter.feed(first) == ["If you would like to come on Tuesday in the morning,"]


def test_later_short_sentences_are_joined() -> None:
    text = "Of course I can do that. Yes. No. Maybe it is so."
    assert split(text) == ["Of course I can do that.", "Yes. No. Maybe it is so."]


def test_text_without_any_end_is_cut_before_it_grows_too_long() -> None:
    assert max(map(len, split("word " * 300))) <= 240


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("**Tuesday** at `three`", "Tuesday at three"),
        ("- one\n- two", "one two"),
        ("See [our page](https://example.com/a).", "See our page."),
        ("Great 👍 thanks!", "Great thanks!"),
        ("2 * 3 is six", "2 * 3 is six"),
        ("snake_case stays", "snake_case stays"),
    ],
)
def test_what_a_voice_cannot_say_is_left_out(written: str, spoken: str) -> None:
    assert speakable(written) == spoken


@given(st.text(alphabet="ab. !?,\n1\"'…", max_size=300), st.integers(1, 7))
def test_no_character_is_lost(text: str, size: int) -> None:
    assert "".join("".join(split(text, size)).split()) == "".join(text.split())
