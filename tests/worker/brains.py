"""Brains for the worker's tests; loaded by name in the worker's process."""

import asyncio
import time
from typing import Any

from sipagent.brain import Brain, Caller, Decline, EarlyMedia


class Greeter(Brain):
    """Says hello, repeats what it hears, and hangs up at "goodbye"."""

    async def greeting(self) -> str:
        return "Hello."

    async def on_user_turn(self, text: str) -> str:
        self.call.set_variable("last", text)
        if "goodbye" in text.lower():
            self.call.hangup("polite")
            return "Goodbye!"
        return f"You said: {text}"

    async def on_digit(self, digit: str) -> str:
        return f"Key {digit}."

    async def on_text(self, content_type: str, body: str) -> str:
        return f"You wrote {body}."

    async def on_interrupted(self, heard: str) -> None:
        self.call.set_variable("heard", heard)


class Talker(Greeter):
    async def greeting(self) -> str:
        numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
        return " ".join(f"This is sentence number {number}." for number in numbers)


class Announcer(Brain):
    async def greeting(self) -> str:
        self.call.hangup("announced")
        return "We are closed today. Goodbye!"


class Refuser(Brain):
    async def on_offer(self, caller: Caller) -> Decline | None:
        return Decline(486, f"Busy for {caller.from_number}")


class OutOfService(Brain):
    """Tells the caller, whom nobody answers, why."""

    async def on_offer(self, caller: Caller) -> Decline | EarlyMedia | None:
        return EarlyMedia()

    async def on_early_media(self) -> str | None:
        self.call.reject(404, "Not in service", retry_after_seconds=60)
        return "This number is not in service."


class Prompter(Brain):
    """Plays clips, then answers."""

    def __init__(self, clips: tuple[str, ...]) -> None:
        self._clips = clips

    async def on_offer(self, caller: Caller) -> Decline | EarlyMedia | None:
        return EarlyMedia()

    async def on_early_media(self) -> str | None:
        for clip in self._clips:
            self.call.play(clip)
        self.call.answer()
        return None


class CrashingEarly(OutOfService):
    async def on_early_media(self) -> str | None:
        raise RuntimeError("a bug of the user's")


class Undecided(Brain):
    async def on_offer(self, caller: Caller) -> Decline | None:
        await asyncio.sleep(60)
        return None


class Crashing(Greeter):
    async def on_user_turn(self, text: str) -> str:
        raise RuntimeError("a bug of the user's")


class CrashingAtOnce(Brain):
    async def on_offer(self, caller: Caller) -> Decline | None:
        raise RuntimeError("a bug of the user's")


class SlowToDecide(Brain):
    """Blocks its whole worker before it refuses."""

    async def on_offer(self, caller: Caller) -> Decline | None:
        time.sleep(0.5)
        return Decline(486)


class Transferring(Greeter):
    async def on_digit(self, digit: str) -> str:
        outcome = await self.call.transfer("+493099", ring_seconds=5)
        return f"The transfer ended with {outcome}."


class Warm(Greeter):
    """Listens to caller and colleague, and whispers when Monday is spoken of."""

    async def on_overheard(self, speaker: str, text: str) -> str | None:
        self.call.set_variable(speaker, text)
        return "Monday is a holiday." if "Monday" in text else None

    async def on_colleague_left(self, reason: str) -> str:
        return "I am with you again."


class Bare:
    """Only the six methods of the contract."""

    def system_prompt(self) -> str:
        return ""

    def tools(self) -> list[Any]:
        return []

    async def on_tool_call(self, name: str, arguments: Any) -> Any:
        return None

    def is_finished(self) -> bool:
        return False

    def collected_vars(self) -> dict[str, Any]:
        return {"bare": True}

    def current_node_id(self) -> str:
        return "start"


class Untidy(Greeter):
    """Keeps what JSON has no form for, and fails at the end."""

    def collected_vars(self) -> dict[Any, Any]:
        return {"object": object, 1: {"a", "b"} & {"a"}, **self.call.variables}

    async def on_end(self, reason: str) -> None:
        raise RuntimeError("a bug of the user's")
