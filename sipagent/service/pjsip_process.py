"""PJSIP's process as one of our planes, for the engine that may not know how the service starts processes."""

from collections.abc import Callable

from sipagent.service import channel
from sipagent.service.planes import Plane
from sipagent.sip.engine import EngineSettings
from sipagent.sip.pjsua2.messages import Command, Report

ENTRY = "sipagent.sip.pjsua2.process"


class PjsipPlane:
    """One life of PJSIP."""

    def __init__(
        self,
        arguments: tuple[EngineSettings, dict[str, tuple[str, ...]], int],
        on_report: Callable[[Report], None],
        on_exit: Callable[[int], None],
    ) -> None:
        ours, theirs = channel.pair()
        self._on_exit = on_exit
        self._plane = Plane("sipagent-pjsip", ENTRY, (theirs, *arguments), self._ended)
        self._channel = channel.Channel[Report](ours, Report, on_report, lambda: None)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._plane.pid

    def send(self, command: Command) -> None:
        """Pass a command on; lost when the process is gone."""
        self._channel.send(command)

    def kill(self) -> None:
        """End it at once."""
        self._plane.kill()

    def _ended(self, code: int) -> None:
        self._channel.close()
        self._on_exit(code)
