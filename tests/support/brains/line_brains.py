"""Brains for tests of the line: they greet, and do to their worker what the key says."""

import os
import signal
import time

from sipagent.brain import Brain
from sipagent.brain.contract import Caller, Decline, EarlyMedia


class Plain(Brain):
    """Greets, repeats what it heard."""

    async def greeting(self) -> str:
        return "Welcome to the line test. Please speak after this sentence."

    async def on_user_turn(self, text: str) -> str:
        return f"You said: {text}"


class Harmful(Plain):
    """1 blocks the worker for 5 s, 9 kills it, 5 ends the call politely."""

    async def on_digit(self, digit: str) -> str | None:
        if digit == "1":
            time.sleep(5)
        elif digit == "9":
            os.kill(os.getpid(), signal.SIGKILL)
        elif digit == "5":
            self.call.hangup("by key")
            return "Goodbye, and thank you for calling."
        return None

    async def on_resumed(self) -> str:
        return "I am back."


class Picky(Brain):
    """Takes no call."""

    async def on_offer(self, caller: Caller) -> Decline | None:
        return Decline(486, "Busy Here")


class Deadly(Plain):
    """Kills its worker as soon as it is connected, and again whenever it takes the call over."""

    async def greeting(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    async def on_resumed(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""


class Switchboard(Brain):
    """Transfers as a SIP MESSAGE says ("bridged +4930777"), tells by MESSAGE how that went; repeats what INFO says."""

    async def on_offer(self, caller: Caller) -> Decline | None:
        if caller.to_number == "moved":
            return Decline(302, "Moved Temporarily", "sip:777@127.0.0.1")
        return None

    async def on_text(self, content_type: str, body: str) -> str | None:
        if content_type.startswith("text/plain"):
            mode, to = body.split()
            self.call.send_text(f"outcome={await self.call.transfer(to, mode, ring_seconds=8)}")
        else:
            self.call.send_text(f"noted={body.strip()}")
        return None


class Lobby(Plain):
    """Talks before the answer: refuses who calls "nobody", answers the others once they have said what they want.

    A call of its own it gives up when the network says something in place of the callee.
    """

    async def on_offer(self, caller: Caller) -> Decline | EarlyMedia | None:
        return EarlyMedia()

    async def on_early_media(self) -> str | None:
        if self.call.caller.direction == "outbound":
            return None
        if self.call.caller.to_number == "nobody":
            self.call.reject(404, "Not in service")
            return "This number is not in service."
        return "Please tell me what it is about."

    async def on_user_turn(self, text: str) -> str:
        if self.call.answered:
            return f"You said: {text}"
        self.call.set_variable("before_the_answer", text)
        if self.call.caller.direction == "outbound":
            self.call.hangup("announcement")
            return ""
        self.call.answer()
        return "I see."


class Discreet(Plain):
    """7 begins a recording of the brain's own, and pauses it at once."""

    async def on_digit(self, digit: str) -> str | None:
        if digit == "7":
            self.call.start_recording("flac")
            self.call.pause_recording()
        return None
