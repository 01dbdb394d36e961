"""What a conversation does while a colleague, to whom the caller was transferred, is on the line.

    CALLER ──Colleague──► ALONE ──told, Join──► LISTENING ◄──step_in, step_out──► THREE_WAY
       ▲                    │                       │                                │
       └────ColleagueLeft───┴───────────────────────┴────────────────────────────────┘

Who hears the agent is a property of the call's row. It is changed only when all that was said before has been played,
and with a little silence around a whisper, so that nothing said to one is heard by another.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import Final

import numpy as np
import structlog

from sipagent.brain.base import Brain
from sipagent.pipeline.cascaded import CascadedOptions, Services
from sipagent.pipeline.conversation import Conversation
from sipagent.pipeline.frames import AgentAudio
from sipagent.pipeline.overhearing import Overhearing
from sipagent.pipeline.port import SpeechEvent
from sipagent.rtp.port import RowPort
from sipagent.rtp.table import FAR_END, OTHER_SIDE, CallTable
from sipagent.service.messages import Colleague, ColleagueLeft, FromWorker, Join, StepIn, TakeBack, ToWorker, Whisper
from sipagent.service.worker.errands import in_time
from sipagent.service.worker.notes import Notes

log = structlog.get_logger(__name__)

RATE_HZ: Final = 8000
BEFORE_S: Final = 0.06  # of silence around a whisper, in which the gain falls …
BEHIND_S: Final = 0.1  # … and in which the other side, a packet or two late, hears the end

Job = Callable[[], Awaitable[None]]


class Presence(Enum):
    """Who is on the line with the agent; the values are those of the event `colleague`."""

    CALLER = "caller"  # nobody else
    ALONE = "alone"  # the colleague hears the agent, the caller music
    LISTENING = "joined"  # the two talk with each other; what the agent says is for the colleague
    THREE_WAY = "three_way"


AUDIENCE: Final = {
    Presence.CALLER: FAR_END,
    Presence.ALONE: OTHER_SIDE,
    Presence.LISTENING: OTHER_SIDE,
    Presence.THREE_WAY: FAR_END | OTHER_SIDE,
}


class Meeting:
    """One call's. `attach` it to the conversation and run `run` beside that."""

    def __init__(self, call_id: str, table: CallTable, send: Callable[[FromWorker], None], notes: Notes) -> None:
        self._call_id, self._table, self._send, self._notes = call_id, table, send, notes
        self.presence = Presence.CALLER
        self._listen = False
        self._jobs: deque[Job] = deque()
        self._posted = asyncio.Event()
        self._group: asyncio.TaskGroup
        self._whispering = False
        self._overhearing: asyncio.Task[None] | None = None
        self._attached: tuple[Brain, Conversation, RowPort[SpeechEvent], Services, CascadedOptions] | None = None

    def attach(
        self,
        brain: Brain,
        conversation: Conversation,
        port: RowPort[SpeechEvent],
        services: Services,
        options: CascadedOptions,
    ) -> None:
        """What it works on."""
        self._attached = brain, conversation, port, services, options

    @property
    def aside(self) -> bool:
        """True while the caller does not hear the agent, and talks with somebody else or is on hold."""
        return self.presence in (Presence.ALONE, Presence.LISTENING)

    async def run(self) -> None:
        """Do one thing after the other, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            while True:
                while self._jobs:
                    await self._jobs.popleft()()
                self._posted.clear()
                await self._posted.wait()

    def receive(self, message: ToWorker) -> bool:
        """A message of the signalling plane; False when it is for others."""
        match message:
            case Colleague():
                self._colleague(message)
            case ColleagueLeft(reason=reason):
                self._left(reason)
            case Whisper(text=text, to=to):
                self.whisper(text, to)
            case StepIn(heard=heard):
                self.step_in(heard)
            case _:
                return False
        return True

    # ---- what a brain may do

    def whisper(self, text: str, to: str = "colleague") -> None:
        """Say something to one of them."""
        if self.presence in (Presence.LISTENING, Presence.THREE_WAY):
            self._post(partial(self._whisper, text, FAR_END if to == "caller" else OTHER_SIDE))
        else:
            log.warning("nobody to whisper to", call_id=self._call_id)

    def step_in(self, heard: bool) -> None:
        """Take part, or listen only."""
        if self.presence in (Presence.LISTENING, Presence.THREE_WAY):
            presence = Presence.THREE_WAY if heard else Presence.LISTENING
            if presence is not self.presence:
                self._notes.event("colleague", state=presence.value)
                self._enter(presence)

    def take_back(self) -> None:
        """Let the colleague go."""
        if self.presence is not Presence.CALLER:
            self._send(TakeBack(self._call_id))

    # ---- inside

    def _post(self, job: Job) -> None:
        self._jobs.append(job)
        self._posted.set()

    def _colleague(self, message: Colleague) -> None:
        if self._attached is None:
            self._send(Join(self._call_id))
            return
        self._listen = message.listen
        self._enter(Presence.LISTENING if message.joined else Presence.ALONE)
        if message.listen and self._overhearing is None:
            _, _, _, services, options = self._attached
            port = RowPort(self._table, message.row, message.generation, SpeechEvent)
            overhearing = Overhearing(port, services, options, self._on_line)
            self._overhearing = self._group.create_task(overhearing.run())
        if not message.joined:
            self._post(partial(self._tell, message.whisper))

    def _enter(self, presence: Presence) -> None:
        if self._attached is None:
            return
        conversation = self._attached[1]
        self.presence = presence
        if self.aside:
            conversation.aside, conversation.deaf = True, not self._listen
        self._post(self._address)

    async def _address(self) -> None:
        """Speak to those who are to hear the agent at present."""
        if self._attached is not None:
            _, conversation, port, *_ = self._attached
            await conversation.wait_until_played()
            self._set_audience(port, AUDIENCE[self.presence])
            conversation.aside, conversation.deaf = self.aside, self.aside and not self._listen

    def _set_audience(self, port: RowPort[SpeechEvent], audience: int) -> None:
        port.set_audience(audience)
        self._notes.to = "colleague" if audience == OTHER_SIDE else ""

    async def _whisper(self, text: str, audience: int) -> None:
        if self._attached is None:
            return
        _, conversation, port, *_ = self._attached
        await conversation.wait_until_played()
        self._set_audience(port, audience)
        self._whispering = True
        await conversation.play(_silence(BEFORE_S))
        await conversation.say(text)
        await conversation.play(_silence(BEHIND_S))
        await conversation.wait_until_played()
        self._whispering = False
        self._set_audience(port, AUDIENCE[self.presence])

    async def _tell(self, text: str) -> None:
        await self._whisper(text, OTHER_SIDE)
        if self.presence is Presence.ALONE:
            self._send(Join(self._call_id))

    async def _on_line(self, text: str, seconds: float) -> None:
        """The colleague has said something."""
        self._notes.overheard(text, seconds)
        if self._attached is not None:
            await self._attached[1].overheard("colleague", text)

    def _left(self, reason: str) -> None:
        self._overhear_no_more()
        joined = self.presence in (Presence.LISTENING, Presence.THREE_WAY)
        self._jobs.clear()
        if self._attached is not None and self._whispering:
            self._group.create_task(self._attached[1].interrupt())  # the whisper at work below ends with it
        self._enter(Presence.CALLER)
        if joined:
            self._post(partial(self._come_back, reason))

    async def _come_back(self, reason: str) -> None:
        if self._attached is not None:
            brain, conversation, *_ = self._attached
            if text := await in_time(brain.on_colleague_left(reason)):
                await conversation.say(text)

    def _overhear_no_more(self) -> None:
        if self._overhearing is not None:
            self._overhearing.cancel()
            self._overhearing = None


def _silence(seconds: float) -> AgentAudio:
    return AgentAudio(np.zeros(int(seconds * RATE_HZ), np.int16), RATE_HZ)
