"""No orphan: what SIP, the calls, the rows and the workers hold is compared, and what fits nothing is named and mended.

Each side drops what it holds by itself when a call ends. This is for the day on which a message was lost or a mistake
was made: a line that stays open costs money, a row or a worker's call that stays open costs capacity for ever.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import structlog

from sipagent.calls.call import Call, Ending
from sipagent.calls.lifecycle import Lifecycle
from sipagent.rtp.control import CloseRow
from sipagent.service.media_planes import MediaPlane
from sipagent.service.messages import Ended
from sipagent.service.workers import Worker
from sipagent.sip.outcome import Outcome

log = structlog.get_logger(__name__)

EVERY_S: Final = 10.0
FRESH_S: Final = 2.5  # a worker's own list of its calls is believed for so long


@dataclass(frozen=True, slots=True)
class Stray:
    """Something that fits nothing: `what` names the kind, `key` the thing, `mend` gets rid of it."""

    what: str
    key: str
    mend: Callable[[], None] = field(compare=False, repr=False)


class Sweep:
    """Compares all sides of the calls. What is found at two looks in a row is no step in between, and is mended."""

    def __init__(
        self, life: Lifecycle, take_over: Callable[[Call], None], other_handles: Callable[[], frozenset[str]]
    ) -> None:
        """`take_over` finds another worker for a call whose conversation is gone; `other_handles` are those of dialogs
        that call control knows but that are no call's yet.
        """
        self._life, self._take_over, self._other_handles = life, take_over, other_handles
        self._seen: frozenset[Stray] = frozenset()

    async def watch(self) -> None:
        """Look every 10 s, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.look()

    def look(self) -> None:
        """Compare; mend what was found the last time as well."""
        found = frozenset((*self._dialogs(), *self._rows(), *self._conversations()))
        for stray in found & self._seen:
            log.error("orphan", what=stray.what, key=stray.key)
            self._life.orphans[stray.what] = self._life.orphans.get(stray.what, 0) + 1
            stray.mend()
        self._seen = found - self._seen

    # ---- SIP

    def _dialogs(self) -> Iterator[Stray]:
        handles = frozenset(self._life.engine.handles())
        for handle in handles - self._other_handles():
            if self._life.find(handle) is None:
                yield Stray("dialog_without_call", handle, partial(self._life.engine.hangup, handle))
        for call in self._life.calls.active(lambda call: call.alive and bool(call.handle)):
            if call.handle not in handles:
                yield Stray("call_without_dialog", call.id, partial(self._lost_dialog, call))

    def _lost_dialog(self, call: Call) -> None:
        call.ending = call.ending or Ending(Outcome.FAILED, "local", 0, "its dialog was lost")
        self._life.finish(call)

    # ---- media

    def _rows(self) -> Iterator[Stray]:
        life = self._life
        held = {live.row: life.calls.get(call_id) for call_id, live in life.live.items() if live.row is not None}
        generations = {call.place.generation for call in held.values() if call is not None and call.place is not None}
        for plane in life.planes:
            if plane.ready.is_set():
                yield from self._open_rows(plane, generations)
        for row, call in held.items():
            plane = life.planes[row.plane]
            if call is None or call.place is None or not call.alive or not plane.ready.is_set():
                continue
            table = plane.table
            if not table.active[row.number] or table.generation[row.number] != call.place.generation:
                yield Stray("call_without_row", call.id, partial(self._lost_row, call))
        for row in life.rows.lost(held.keys()):
            back = partial(life.rows.give_back, row, life.loop.time())
            yield Stray("row_not_given_back", f"{row.plane}/{row.number}", back)

    def _open_rows(self, plane: MediaPlane, generations: set[int]) -> Iterator[Stray]:
        for row in np.flatnonzero(plane.table.active).tolist():
            generation = int(plane.table.generation[row])
            if generation not in generations:
                close = CloseRow(row, generation)
                key = f"{plane.number}/{row}/{generation}"
                yield Stray("row_without_call", key, partial(plane.send, close))

    def _lost_row(self, call: Call) -> None:
        self._life.hang_up(call, "its row was lost", outcome=Outcome.FAILED)

    # ---- conversation

    def _conversations(self) -> Iterator[Stray]:
        now = self._life.loop.time()
        for worker in self._life.workers.on_duty:
            if worker.ready and now - worker.last_pong_at < FRESH_S:
                yield from self._led_by(worker)
            for call_id in worker.calls - self._life.live.keys():
                drop = partial(worker.calls.discard, call_id)
                yield Stray("load_without_call", f"{worker.index}/{call_id}", drop)

    def _led_by(self, worker: Worker) -> Iterator[Stray]:
        own = {call.id: call for call in self._life.calls.active(lambda call: _is_led_by(call, worker))}
        for call_id in worker.leads - own.keys():
            over = Ended(call_id, "the call is over")
            yield Stray("conversation_without_call", f"{worker.index}/{call_id}", partial(worker.send, over))
        for call_id in own.keys() - worker.leads:
            call, live = own[call_id], self._life.live[call_id]
            if call.alive and call.answered and not live.left:
                yield Stray("call_without_conversation", call_id, partial(self._lost_conversation, call))

    def _lost_conversation(self, call: Call) -> None:
        if self._life.live[call.id].finished:
            self._life.hang_up(call, "the conversation is over")
        else:
            self._take_over(call)


def _is_led_by(call: Call, worker: Worker) -> bool:
    return call.place is not None and call.place.worker == worker.index
