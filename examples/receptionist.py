"""A receptionist that books an appointment by rules alone: the same words always get the same answer.

It asks for a name, a day and a time, in whatever order the caller tells them, confirms, says goodbye and hangs up.
Keys work as well: 1-5 for Monday to Friday, two digits for the hour, 1 for yes and 2 for no.

    [[route]]
    brain = "receptionist:Receptionist"
    brain_options = { business = "Green Street Dental", operator = "+4930123456" }
"""

from typing import Any

from appointment_words import DAYS, find_day, find_name, find_time, find_yes_no, mentions, spoken_time

from sipagent.brain import Brain

GOODBYE = ("goodbye", "good bye", "bye", "hang up", "never mind", "nevermind", "cancel")
HUMAN = ("operator", "human", "real person", "someone else", "speak to a person", "representative")
HOURS = ("opening hours", "when are you open", "are you open", "what time do you", "your hours")
AGAIN = ("repeat", "say that again", "pardon", "what did you say", "again please")
OPENS, CLOSES = 9, 17  # full hours


class Receptionist(Brain):
    """One call's receptionist; what is known so far is all the state there is."""

    def __init__(self, business: str = "Green Street Dental", operator: str = "") -> None:
        self.business = business
        self.operator = operator
        self.name = ""
        self.day = ""
        self.time: tuple[int, int] | None = None
        self.booked = False
        self.misses = 0
        self.keys = ""

    async def greeting(self) -> str:
        return f"Hello, this is {self.business}. I can book an appointment for you. What is your name, please?"

    async def on_user_turn(self, text: str) -> str:
        self.keys = ""
        if self.booked:
            return "Your appointment is booked. Goodbye!"
        if mentions(text, AGAIN):
            return self.question()
        if mentions(text, HUMAN):
            return await self.to_operator()
        if mentions(text, HOURS):
            return f"We are open Monday to Friday, from nine to five. {self.question()}"
        if mentions(text, GOODBYE):
            self.call.hangup("abandoned")
            return "All right. Thank you for calling. Goodbye!"
        return self.take(text)

    def take(self, text: str) -> str:
        """Learn what the sentence tells, and say what comes next."""
        confirming = self.complete()
        learned = self.learn(text)
        if confirming and not learned:
            answer = find_yes_no(text)
            if answer is True:
                return self.book()
            if answer is False:
                self.forget("day", "time")
                return "No problem. Which day would you like instead?"
        if self.time is not None and not OPENS <= self.time[0] < CLOSES:
            self.forget("time")
            return "We are open from nine to five. What time would you like?"
        if learned or mentions(text, ("appointment", "book", "hello", "hi", "yes")):
            self.misses = 0
            return ("Sure. " if not learned else "") + self.question()
        self.misses += 1
        return f"Sorry, I did not get that. {self.question()}{self.hint()}"

    def learn(self, text: str) -> bool:
        """Take name, day and time out of a sentence; True when there was any."""
        day = find_day(text)
        time = find_time(text, expected=bool(self.name and self.day))
        name = "" if day or time else find_name(text, expected=not self.name)
        if day:
            self.know("day", day)
        if time:
            self.know("time", time)
        if (name and not (self.name and self.complete())) or (name := find_name(text, expected=False)):
            self.know("name", name)
        return bool(day or time or name)

    def know(self, slot: str, value: Any) -> None:
        setattr(self, slot, value)
        self.call.set_variable(slot, f"{value[0]:02}:{value[1]:02}" if slot == "time" else value)

    def forget(self, *slots: str) -> None:
        for slot in slots:
            setattr(self, slot, None if slot == "time" else "")
            self.call.set_variable(slot, "")

    def complete(self) -> bool:
        return bool(self.name and self.day and self.time)

    def question(self) -> str:
        if not self.name:
            return "What is your name, please?"
        if not self.day:
            return f"Thank you, {self.name}. Which day would you like to come?"
        if self.time is None:
            return f"{self.day}. At what time?"
        return f"That is {self.day} at {spoken_time(*self.time)}, for {self.name}. Is that right?"

    def hint(self) -> str:
        """After a second miss: there are keys, too."""
        if self.misses < 2 or not self.name:
            return ""
        if not self.day:
            return " You can also press one for Monday, up to five for Friday."
        return (
            " You can also type the hour with two digits." if self.time is None else " Press one for yes, two for no."
        )

    def book(self) -> str:
        self.booked = True
        self.call.set_variable("booked", True)
        self.call.hangup("booked")
        return f"Your appointment is booked. Thank you, {self.name}, and goodbye!"

    async def on_digit(self, digit: str) -> str | None:
        answer: str | None = None
        for key in digit:  # keys that were typed fast come together
            answer = await self.take_key(key)
        return answer

    async def take_key(self, key: str) -> str | None:
        if key == "0" and self.operator and not self.keys:
            return await self.to_operator()
        if self.booked or not self.name:
            return None if self.booked else "Please say your name."
        if not self.day:
            if key not in "12345":
                return "Please press one for Monday, up to five for Friday."
            return self.take(DAYS[int(key) - 1])
        if self.time is None:
            self.keys += key if key.isdigit() else ""
            if len(self.keys) < 2 and key != "#":
                return None
            hour, self.keys = self.keys, ""
            return self.take(f"{hour}:00")
        return self.take({"1": "yes", "2": "no"}.get(key, "?"))

    async def to_operator(self) -> str:
        if not self.operator:
            return f"I am sorry, nobody else is here now. {self.question()}"
        self.call.say("One moment, please.")
        about = f"{self.name or 'A caller'} wants to talk to you."
        outcome = await self.call.transfer(self.operator, "bridged", whisper=about, back=True)
        return "" if outcome == "transferred" else f"I am sorry, nobody answers there. {self.question()}"

    async def on_colleague_left(self, reason: str) -> str:
        return f"You are back with me. {self.question()}"

    async def on_resumed(self) -> str:
        for line in self.call.history:
            if line.get("role") == "user":
                self.take(str(line.get("text", "")))
        return f"Sorry, we were cut off for a moment. {self.question()}"

    def is_finished(self) -> bool:
        return self.booked

    def current_node_id(self) -> str:
        if self.booked:
            return "booked"
        return "confirm" if self.complete() else "time" if self.name and self.day else "day" if self.name else "name"
