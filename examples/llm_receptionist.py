"""A receptionist led by a language model, over any endpoint that speaks OpenAI's chat completions.

The endpoint stands in the route's `options.llm`; see llm_receptionist.toml. Everything that the model may do is a
method with `@tool`: its schema comes from the type hints, its description from the docstring.
"""

from typing import Literal

from sipagent.brain import Brain, End, tool

PROMPT = """You are the receptionist of {business}, a dental practice, on the telephone with a patient.
Answer in one or two short spoken sentences, without lists or markup. Ask for one thing at a time.
To book an appointment you need the patient's name, a day from Monday to Friday, and a full hour from 9 to 16.
When you know all three, repeat them; when the patient agrees, call book_appointment. When the patient wants to end the
conversation, call say_goodbye. If the patient asks for a person, call call_a_person.
{booked}"""

Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]


class LlmReceptionist(Brain):
    """One call's receptionist."""

    def __init__(self, business: str = "Green Street Dental", operator: str = "") -> None:
        self.business = business
        self.operator = operator
        self.booked = ""

    def system_prompt(self) -> str:
        return PROMPT.format(business=self.business, booked=self.booked and f"Booked already: {self.booked}.")

    async def greeting(self) -> str:
        return f"Hello, this is {self.business}. How can I help you?"

    @tool(filler="One moment, I will write that down.")
    async def book_appointment(self, name: str, day: Day, hour: int) -> str:
        """Book an appointment, after the patient has confirmed it.

        Args:
            name: The patient's full name.
            day: Day of the week.
            hour: Full hour on a 24-hour clock, 9 to 16.
        """
        if not 9 <= hour <= 16:
            return "Not possible: appointments begin at full hours from 9 to 16."
        self.booked = f"{day} at {hour}:00 for {name}"
        for key, value in {"name": name, "day": day, "time": f"{hour:02}:00", "booked": True}.items():
            self.call.set_variable(key, value)
        return f"Booked: {self.booked}."

    @tool
    async def say_goodbye(self) -> End:
        """End the call, when the patient wants nothing more."""
        return End("booked" if self.booked else "informed", "Thank you for calling. Goodbye!")

    @tool(timeout_s=60)
    async def call_a_person(self) -> str:
        """Transfer the patient to a person at the practice."""
        if not self.operator:
            return "Nobody is available at the moment."
        outcome = await self.call.transfer(self.operator)
        return "The patient is being connected." if outcome == "transferred" else f"That failed: {outcome}."
