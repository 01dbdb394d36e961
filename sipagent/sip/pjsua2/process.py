"""The process that runs PJSIP: one thread turns PJSIP's loop and takes commands in between."""

import os
import select
import socket
import time
from typing import Final

import msgspec

from sipagent.errors import ConfigError
from sipagent.sip.engine import EngineSettings
from sipagent.sip.pjsua2.messages import Alive, Command, Failed, Report, Stop
from sipagent.sip.pjsua2.user_agent import Pjsua2UserAgent

MAX_MESSAGE_BYTES: Final = 1 << 20
IDLE_WAIT_MS: Final = 5  # of PJSIP's loop, when nothing has happened for a while
BUSY_WAIT_MS: Final = 1
BUSY_S: Final = 0.1
LINGER_S: Final = 1.5  # at the end, for the answers to our last requests
ALIVE_EVERY_S: Final = 1.0


class Wire:
    """Our end of the pair."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self._end = end
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Command).decode
        self.busy_until = 0.0

    def send(self, report: Report) -> None:
        """A report; the process has nothing left to do when nobody hears it."""
        self.busy_until = time.monotonic() + BUSY_S
        try:
            self._end.send(self._encode(report))
        except OSError:
            os._exit(0)

    def receive(self, wait_s: float = 0.0) -> Command | None:
        """A command, waiting for it so long at most."""
        if not select.select([self._end], [], [], wait_s)[0]:
            return None
        data = self._end.recv(MAX_MESSAGE_BYTES)
        if not data:
            os._exit(0)
        self.busy_until = time.monotonic() + BUSY_S
        command: Command = self._decode(data)
        return command


def run(end: socket.socket, settings: EngineSettings, addresses: dict[str, tuple[str, ...]], generation: int) -> None:
    """Run until Stop comes or the other end is gone."""
    wire = Wire(end)
    try:
        agent = Pjsua2UserAgent(settings, addresses, generation, wire.send, wire.receive)
    except ConfigError as error:
        wire.send(Failed(str(error)))
        os._exit(1)
    alive_at = 0.0
    stop_at: float | None = None
    while True:
        now = time.monotonic()
        agent.turn(BUSY_WAIT_MS if now < wire.busy_until else IDLE_WAIT_MS)
        while (command := wire.receive()) is not None:
            if isinstance(command, Stop):
                agent.leave()
                stop_at = now + LINGER_S
            else:
                agent.obey(command)
        if now >= alive_at:
            alive_at = now + ALIVE_EVERY_S
            wire.send(Alive(agent.statistics()))
        if stop_at is not None and (now >= stop_at or not agent.busy):
            os._exit(0)  # pjsua2's destructors abort when the library is gone before them
