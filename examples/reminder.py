"""A reminder by phone: a program places the call, the agent says what it is about and takes yes or no.

curl … /v1/calls -d '{"to": "+4930123456", "brain": "reminder:Reminder",
                      "variables": {"name": "Peter", "day": "Tuesday", "time": "ten o\'clock"}}'
"""

from appointment_words import find_yes_no

from sipagent.brain import Brain


class Reminder(Brain):
    """Reminds of an appointment and asks whether it stands."""

    def __init__(self, business: str = "Green Street Dental") -> None:
        self.business = business

    async def greeting(self) -> str:
        about = self.call.variables
        return (
            f"Hello {about.get('name', '')}, this is {self.business}. "
            f"Your appointment is on {about.get('day', 'Monday')} at {about.get('time', 'nine')}. Will you come?"
        )

    async def on_user_turn(self, text: str) -> str:
        coming = find_yes_no(text)
        if coming is None:
            return "Sorry, is that a yes or a no?"
        self.call.set_variable("confirmed", coming)
        self.call.hangup("confirmed" if coming else "declined")
        return "Thank you. We are looking forward to seeing you." if coming else "All right, I will cancel it. Goodbye!"
