"""A conversation's view of its row of the call table: hear, speak, stop speaking.

`RowPort` is the worker's side of the columns whose writer is "worker". It has the shape of `AudioPort` in the pipeline,
which this package does not know.

Playout positions only grow, also over a flush, whereas the row's ring has no room for what a flush dropped before it
was ever put there. Each flush therefore begins a new stretch with its own distance between the two:

    ring       0 ........ 900 | 900 ...... tx_head            flush at tx_head 900 while 400 samples were waiting
    playout    0 ....... 1300 | 1300 ..... written            → stretch (900, +400)
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import FAR_END, MARKS, RX_RING, SPEECH_EVENTS, TX_RING, CallTable

PENDING_SECONDS = 120  # of speech ahead of the ring; a reply that is longer loses its end, and `dropped_samples` tells


Event = TypeVar("Event")


class RowPort(Generic[Event]):
    """Audio of one call: row `row` of `table`, as long as the row belongs to `generation`.

    `speech_event(speaking, position)` makes what `speech_events` returns: the reader's own type.

    Create it when the call is connected, so that the media plane has the row open. A row that another worker held goes
    on from what that one had written; speech of the caller before now is not reported, but a caller who is speaking at
    this moment is. When the row passes to another call, reads are silence and writes vanish.
    """

    def __init__(
        self,
        table: CallTable,
        row: int,
        generation: int,
        speech_event: Callable[[bool, int], Event],
        pending_seconds: float = PENDING_SECONDS,
    ) -> None:
        self._table, self._row, self._generation = table, row, generation
        self._speech_event = speech_event
        self._pending: deque[NDArray[np.int16]] = deque()
        self._pending_samples = 0
        self._pending_limit = int(pending_seconds * self.rate_hz)
        self._stretches: list[tuple[int, int]] = [(int(table.tx_head[row]), 0)]  # (ring position, playout − ring)
        self._flush_to: int | None = None
        self._marks: deque[tuple[int, int]] = deque()  # (playout position, index) of those not yet in the table
        self._next_mark = int(table.mark_count[row])
        self._speech_seen = self._speech_count() & ~1  # even: an onset that has no offset yet is still news
        self.dropped_samples = 0
        if self.open:
            table.tx_gain[row] = 1.0
            table.tx_audience[row] = FAR_END

    @property
    def open(self) -> bool:
        """True while the row belongs to this call."""
        return bool(self._table.active[self._row]) and int(self._table.generation[self._row]) == self._generation

    @property
    def rate_hz(self) -> int:
        """Sample rate of the row's rings: 8000 or 16000."""
        return int(self._table.rate_hz[self._row])

    # ---- hearing

    def received(self) -> int:
        """Receive position in samples, gaps included."""
        return int(self._table.rx_head[self._row])

    def read(self, start: int, end: int) -> NDArray[np.int16]:
        """Received samples [start, end), shape (end - start,); zeros for what the ring does not hold."""
        pcm = np.zeros(max(end - start, 0), np.int16)
        if not self.open:
            return pcm
        ring, head = self._table.rx_pcm[self._row], self.received()
        first, last = max(start, head - RX_RING, 0), min(end, head)
        if first < last:
            _copy_from_ring(ring, first, pcm[first - start : last - start])
            lapped = min(self.received() - RX_RING, last)  # the writer may have come round while we copied
            if lapped > first:
                pcm[first - start : lapped - start] = 0
        return pcm

    def speech_events(self) -> list[Event]:
        """Voice activity since the last call of this method, oldest first; positions are of the receive clock."""
        count = self._speech_count()
        if count < self._speech_seen:  # the ears were restarted
            self._speech_seen = 0
        first = max(self._speech_seen, count - SPEECH_EVENTS)
        at = self._table.speech_at[self._row]
        self._speech_seen = count
        return [self._speech_event(number % 2 == 0, int(at[number % SPEECH_EVENTS])) for number in range(first, count)]

    def _speech_count(self) -> int:
        table, row = self._table, self._row
        return int(table.speech_count[row]) if int(table.speech_generation[row]) == self._generation else 0

    # ---- speaking

    def write(self, pcm: NDArray[np.int16]) -> int:
        """Append samples, shape (n,), to what is to be played; returns the playout position of the first one."""
        position = self.written()
        kept = pcm[: max(self._pending_limit + self._room() - self._pending_samples, 0)]
        self.dropped_samples += len(pcm) - len(kept)
        if len(kept):
            self._pending.append(np.asarray(kept, np.int16))
            self._pending_samples += len(kept)
            self.pump()
        return position

    def written(self) -> int:
        """Playout position behind the last sample written."""
        return int(self._table.tx_head[self._row]) + self._pending_samples + self._stretches[-1][1]

    def played(self) -> int:
        """Playout position behind the last sample that left the socket."""
        table, row = self._table, self._row
        while True:  # the media plane moves tx_read before it sets tx_flush_done: take both from the same moment
            done = int(table.tx_flush_done[row])
            position = int(table.tx_read[row])
            if done == int(table.tx_flush_done[row]):
                return self._playout(position, flushed=done >= position)

    def waiting(self) -> int:
        """Samples written and neither played nor flushed."""
        return self.written() - self.played()

    def flush(self) -> None:
        """Drop what has not been played yet; at most one packet more is heard."""
        head = self._forget_pending()
        if not self.open:
            return
        self._flush_to = head
        self._table.tx_flush_to[self._row] = head

    def _forget_pending(self) -> int:
        """Begin a new stretch without what waits: playout positions only grow, also while there is no media plane."""
        dropped, head = self._pending_samples, int(self._table.tx_head[self._row])
        self._pending.clear()
        self._pending_samples = 0
        offset = self._stretches[-1][1] + dropped
        self._marks = deque((head + offset, number) for _, number in self._marks)
        if self._stretches[-1][0] == head:
            self._stretches[-1] = (head, offset)
        else:
            self._stretches.append((head, offset))
        del self._stretches[:-8]  # the line is never more than a few flushes behind
        return head

    def flushed_at(self) -> int | None:
        """Playout position at which the last flush cut, once the media plane has carried it out; None before."""
        if self._flush_to is None or int(self._table.tx_flush_done[self._row]) < self._flush_to:
            return None
        return self._playout(int(self._table.tx_flush_at[self._row]), flushed=False)

    def set_gain(self, gain: float) -> None:
        """Gain of our speech, 1.0 = as written; the media plane ramps it."""
        if self.open:
            self._table.tx_gain[self._row] = gain

    def set_audience(self, audience: int) -> None:
        """Who hears our speech while this row is joined with another: FAR_END, OTHER_SIDE, or both of them.

        It counts from the next packet on, also for speech that waits already.
        """
        if self.open:
            self._table.tx_audience[self._row] = audience

    def mark(self) -> int:
        """Mark the end of what has been written so far; returns the mark's number for `mark_clock`.

        A mark on speech that is flushed passes with the flush.
        """
        number, self._next_mark = self._next_mark, self._next_mark + 1
        self._marks.append((self.written(), number))
        self._publish_marks()
        return number

    def mark_clock(self, number: int) -> int | None:
        """Call time, in samples sent since the row was opened, at which the mark left the socket; None before."""
        done = int(self._table.mark_done[self._row])
        return int(self._table.mark_clock[self._row, number % MARKS]) if done - MARKS <= number < done else None

    def pump(self) -> None:
        """Move waiting samples into the ring as far as it has room; to be called at every wake-up."""
        if not self.open:
            self._forget_pending()
            return
        table, row = self._table, self._row
        head, room = int(table.tx_head[row]), self._room()
        while self._pending and room > 0:
            pcm = self._pending.popleft()
            part, rest = pcm[:room], pcm[room:]
            _copy_to_ring(table.tx_pcm[row], head, part)
            head, room = head + len(part), room - len(part)
            self._pending_samples -= len(part)
            table.tx_head[row] = head
            if len(rest):
                self._pending.appendleft(rest)
        if self._marks:
            self._publish_marks()

    def _room(self) -> int:
        return TX_RING - int(self._table.tx_head[self._row] - self._table.tx_read[self._row])

    def _publish_marks(self) -> None:
        table, row = self._table, self._row
        reached = int(table.tx_head[row]) + self._stretches[-1][1]
        while self._marks and self._marks[0][0] <= reached and self.open:
            if int(table.mark_count[row]) - int(table.mark_done[row]) >= MARKS:
                return
            position, number = self._marks.popleft()
            table.mark_position[row, number % MARKS] = position - self._stretches[-1][1]
            table.mark_count[row] = number + 1

    def _playout(self, position: int, *, flushed: bool) -> int:
        """Playout position of ring position `position`; at the seam of two stretches `flushed` picks the later one."""
        index = bisect_left(self._stretches, position + (1 if flushed else 0), key=lambda stretch: stretch[0])
        return position + self._stretches[max(index - 1, 0)][1]


def _copy_from_ring(ring: NDArray[np.int16], position: int, into: NDArray[np.int16]) -> None:
    start = position % len(ring)
    first = min(len(into), len(ring) - start)
    into[:first] = ring[start : start + first]
    into[first:] = ring[: len(into) - first]


def _copy_to_ring(ring: NDArray[np.int16], position: int, pcm: NDArray[np.int16]) -> None:
    start = position % len(ring)
    first = min(len(pcm), len(ring) - start)
    ring[start : start + first] = pcm[:first]
    ring[: len(pcm) - first] = pcm[first:]
