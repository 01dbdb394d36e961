"""The rule-led example: what it understands, what it answers, how it ends."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sipagent.brain.loader import build_brain
from tests.brain.fake_call import FakeCall

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("receptionist", "appointment_words"):
        sys.modules.pop(name, None)


def receptionist(call: FakeCall, **options: Any) -> Any:
    brain = build_brain("receptionist:Receptionist", options)
    brain.call = call
    return brain


async def converse(brain: Any, *turns: str) -> list[str]:
    return [await brain.on_user_turn(text) for text in turns]


async def test_an_appointment_is_booked_and_the_call_ends_with_a_goodbye() -> None:
    call = FakeCall()
    brain = receptionist(call)
    assert await brain.greeting() == (
        "Hello, this is Green Street Dental. I can book an appointment for you. What is your name, please?"
    )
    assert await converse(brain, "My name is Anna Smith.", "Tuesday, please.", "10 o'clock.", "Yes, that's right.") == [
        "Thank you, Anna Smith. Which day would you like to come?",
        "Tuesday. At what time?",
        "That is Tuesday at ten o'clock in the morning, for Anna Smith. Is that right?",
        "Your appointment is booked. Thank you, Anna Smith, and goodbye!",
    ]
    assert call.hung_up == "booked" and brain.is_finished()
    assert call.variables == {"name": "Anna Smith", "day": "Tuesday", "time": "10:00", "booked": True}


async def test_one_sentence_may_tell_several_things() -> None:
    brain = receptionist(FakeCall())
    answers = await converse(
        brain, "I'd like to book an appointment for Friday at half past two.", "This is John.", "Yeah."
    )
    assert answers == [
        "What is your name, please?",
        "That is Friday at two thirty in the afternoon, for John. Is that right?",
        "Your appointment is booked. Thank you, John, and goodbye!",
    ]


async def test_a_no_asks_for_another_day_and_a_correction_is_taken_at_once() -> None:
    brain = receptionist(FakeCall())
    await converse(brain, "Bob", "Monday", "9 a.m.")
    assert await converse(brain, "No, Wednesday.") == [
        "That is Wednesday at nine o'clock in the morning, for Bob. Is that right?"
    ]
    assert await converse(brain, "No.") == ["No problem. Which day would you like instead?"]
    assert await converse(brain, "Thursday", "3", "correct") == [
        "Thursday. At what time?",
        "That is Thursday at three o'clock in the afternoon, for Bob. Is that right?",
        "Your appointment is booked. Thank you, Bob, and goodbye!",
    ]


async def test_keys_do_what_words_do() -> None:
    call = FakeCall()
    brain = receptionist(call)
    assert await brain.on_digit("1") == "Please say your name."
    await converse(brain, "Eve")
    assert await brain.on_digit("9") == "Please press one for Monday, up to five for Friday."
    assert await brain.on_digit("3") == "Wednesday. At what time?"
    assert await brain.on_digit("1") is None
    assert await brain.on_digit("1") == "That is Wednesday at eleven o'clock in the morning, for Eve. Is that right?"
    assert (await brain.on_digit("1")).startswith("Your appointment is booked.")
    assert call.hung_up == "booked"


async def test_several_keys_at_once_are_taken_one_by_one() -> None:
    brain = receptionist(FakeCall())
    await converse(brain, "Eve")
    assert await brain.on_digit("214") == "That is Tuesday at two o'clock in the afternoon, for Eve. Is that right?"


async def test_a_closed_hour_is_refused() -> None:
    brain = receptionist(FakeCall())
    answers = await converse(brain, "Ann", "Monday", "8 pm")
    assert answers[-1] == "We are open from nine to five. What time would you like?"


async def test_what_is_not_understood_is_asked_again_with_a_hint_about_the_keys() -> None:
    brain = receptionist(FakeCall())
    await converse(brain, "Ann")
    first, second = await converse(brain, "The weather is lovely.", "Banana.")
    assert first == "Sorry, I did not get that. Thank you, Ann. Which day would you like to come?"
    assert second.endswith("You can also press one for Monday, up to five for Friday.")


async def test_hours_repeat_goodbye_and_operator() -> None:
    call = FakeCall()
    brain = receptionist(call, operator="+493099")
    assert (await converse(brain, "What are your opening hours?"))[0].startswith("We are open Monday to Friday")
    assert await converse(brain, "Could you repeat that?") == ["What is your name, please?"]
    assert await converse(brain, "Can I speak to a human?") == [""]
    assert call.transferred == [("+493099", "bridged")] and call.said == ["One moment, please."]
    assert call.wishes == [{"whisper": "A caller wants to talk to you.", "back": True}]
    assert await brain.on_colleague_left("the colleague hung up") == f"You are back with me. {brain.question()}"
    assert await converse(brain, "Never mind, goodbye.") == ["All right. Thank you for calling. Goodbye!"]
    assert call.hung_up == "abandoned"


async def test_an_operator_who_does_not_answer_gives_the_call_back() -> None:
    brain = receptionist(FakeCall(transfer_outcome="no_answer"), operator="+493099")
    assert await converse(brain, "Operator!") == ["I am sorry, nobody answers there. What is your name, please?"]


async def test_after_a_take_over_it_goes_on_where_it_was() -> None:
    history = (
        {"role": "assistant", "text": "What is your name, please?"},
        {"role": "user", "text": "My name is Anna."},
        {"role": "user", "text": "Tuesday"},
    )
    brain = receptionist(FakeCall(history))
    assert await brain.on_resumed() == "Sorry, we were cut off for a moment. Tuesday. At what time?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10 o'clock", (10, 0)),
        ("ten o'clock.", (10, 0)),
        ("At 10.", (10, 0)),
        ("10am", (10, 0)),
        ("10 a.m.", (10, 0)),
        ("ten a m please", (10, 0)),
        ("10:30", (10, 30)),
        ("10.30", (10, 30)),
        ("ten thirty", (10, 30)),
        ("half past ten", (10, 30)),
        ("quarter past nine", (9, 15)),
        ("quarter to ten", (9, 45)),
        ("three forty-five", (15, 45)),
        ("two", (14, 0)),
        ("2 p.m.", (14, 0)),
        ("3 in the afternoon", (15, 0)),
        ("eleven in the morning", (11, 0)),
        ("noon", (12, 0)),
        ("12 o'clock", (12, 0)),
        ("1 o'clock", (13, 0)),
        ("14:00", (14, 0)),
        ("1030", (10, 30)),
        ("I think four would be good", (16, 0)),
        ("whenever", None),
    ],
)
def test_times_as_a_recogniser_writes_them(text: str, expected: tuple[int, int] | None) -> None:
    from appointment_words import find_time  # type: ignore[import-not-found]

    assert find_time(text, expected=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My name is Anna Smith.", "Anna Smith"),
        ("Hi, this is Bob.", "Bob"),
        ("I'm John and I need an appointment", "John"),
        ("John Miller", "John Miller"),
        ("It's Mary Jane", "Mary Jane"),
        ("Peter speaking.", "Peter"),
        ("I would like to book an appointment.", ""),
        ("Yes, please.", ""),
        ("Hello.", ""),
        ("Tuesday", ""),
        ("I'm not sure", ""),
    ],
)
def test_names_as_a_recogniser_writes_them(text: str, expected: str) -> None:
    from appointment_words import find_name

    assert find_name(text, expected=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Yes.", True), ("Yeah, that's right", True), ("No.", False), ("not right", False), ("x", None)],
)
def test_yes_and_no(text: str, expected: bool | None) -> None:
    from appointment_words import find_yes_no

    assert find_yes_no(text) is expected
