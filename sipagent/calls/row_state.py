"""What a row has been told, so that it can be told again when its media plane is started anew."""

from collections.abc import Callable
from typing import Final

import msgspec

from sipagent.rtp import control as media

MAX_LOSSES: Final = 2  # a call that is there each time its plane dies may be why


class RowState:
    """The commands that are in force for the row of one call."""

    def __init__(self) -> None:
        self.losses = 0  # of media planes, so far
        self.lost_at: float | None = None  # loop time at which the plane died, until the row is open again
        self._open: media.OpenRow | None = None
        self._stream: media.SetStream | None = None
        self._play: media.Play | None = None
        self._bridge: media.Bridge | None = None
        self._closed = False
        self._notes: dict[type, Callable[..., None]] = {
            media.OpenRow: self._opened,
            media.SetStream: self._streams,
            media.AssignWorker: self._assigned,
            media.Play: self._plays,
            media.StopPlay: lambda command: self._plays(None),
            media.Bridge: self._bridged,
            media.Unbridge: lambda command: self._bridged(None),
            media.CloseRow: self._close,
        }

    def note(self, command: media.Command) -> None:
        """A command was sent, or would have been had the plane been there."""
        if noted := self._notes.get(type(command)):
            noted(command)

    def again(self, gap_ms: int) -> list[media.Command]:
        """Commands that bring the row back, `gap_ms` later; [] for one that was closed. `bridge` comes after them."""
        if self._open is None or self._closed:
            return []
        commands: list[media.Command] = [msgspec.structs.replace(self._open, resumed_ms=gap_ms)]
        return commands + [each for each in (self._stream, self._play) if each is not None]

    @property
    def bridge(self) -> media.Bridge | None:
        """How the row is joined to another, which has to be open before this is sent again."""
        return None if self._closed else self._bridge

    def _opened(self, command: media.OpenRow) -> None:
        self._open = command

    def _streams(self, command: media.SetStream) -> None:
        self._stream = command

    def _assigned(self, command: media.AssignWorker) -> None:
        if self._open is not None:
            self._open = msgspec.structs.replace(self._open, worker=command.worker)

    def _plays(self, command: media.Play | None) -> None:
        self._play = command if command is not None and command.loop else None

    def _bridged(self, command: media.Bridge | None) -> None:
        self._bridge = command

    def _close(self, command: media.CloseRow) -> None:
        self._closed = True
