"""Where packets belong on the time line of their row.

A packet's place is that of its row's next packet, moved by how far its timestamp is from that packet's. The line is
laid anew, from where the row's time stands, where that no longer makes sense: another stream begins, a sender jumps or
goes on after a pause with its old timestamps, or the network has become longer for good. A network that held packets
back and then delivers them all at once does not make the call longer: they come too late (decision 1242).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.delay import FLOOR_WINDOW_NS, NEVER_NS, DelayModel
from sipagent.rtp.formats import Kind
from sipagent.rtp.table import CallTable
from sipagent.rtp.timeline import Timeline

Rows = NDArray[np.intp]

JUMP_NS: Final = 1_000_000_000  # a timestamp further than this from where the clock expects it is a new time line
MAX_LAG_NS: Final = 200_000_000  # of a time line that is laid anew, behind the row's own time
MAX_AHEAD_NS: Final = 1_000_000_000  # a far end that sends more than real time is not heard further than this
LOOK_AHEAD_NS: Final = 99_000_000  # how often that is looked at
FOLLOW_NS: Final = 50_000  # each time, 500 ppm: its crystal may be faster than ours for hours
LATE_IN_A_ROW: Final = 4  # after so many late packets the line has become longer: begin anew where we are …
LATE_FOR_NS: Final = 90_000_000  # … if they came over such a time: those of a stall come all at once
TALK_SPURT_MS: Final = 200  # after such a pause a packet is not late, it begins a talk spurt


class Placement:
    """The time lines of all rows of `table`; every column holds one value for each row.

    `held_up` bool[rows], which the owner keeps, names rows whose packets come late because of us.
    """

    def __init__(self, table: CallTable, delay: DelayModel, timeline: Timeline, held_up: NDArray[np.bool_]) -> None:
        rows = table.rows
        self._held_up = held_up
        self._head = table.rx_head
        self._delay = delay
        self._filled = timeline.filled
        self._epoch_ns = np.zeros(rows, np.int64)  # when the row's clock stood at 0
        self._samples_per_tick = np.ones(rows, np.int64)  # of the RTP clock
        self._late_run = np.zeros(rows, np.int64)
        self._late_since_ns = np.zeros(rows, np.int64)
        self.sample_ns = np.full(rows, 125_000, np.int64)
        self.samples = np.full(rows, 160, np.int64)  # samples per packet
        # … of the longest lately: a far end that sends now 20 and now 60 ms is not late with the longer ones.
        self._longest = self.samples.copy()
        self._longest_now = self.samples.copy()  # in this window
        self._window_end_ns = 0
        self.next_timestamp = np.zeros(rows, np.int64)  # of the packet that follows …
        self.next_position = np.zeros(rows, np.int64)  # … and its place
        self.anew = np.zeros(rows, np.bool_)  # the next packet begins a new time line
        self.ahead = np.zeros(rows, np.bool_)  # of time: nothing is heard until it has caught up

    # ---- rows come and go

    def open(self, row: int, rate_hz: int) -> None:
        """The row goes to a new call, with rings of this rate."""
        self.sample_ns[row] = 1_000_000_000 // rate_hz
        self.samples[row] = self._longest[row] = self._longest_now[row] = rate_hz // 50
        self._late_run[row] = 0

    def set_format(self, row: int, samples_per_tick: int, samples: int) -> None:
        """A unit of the RTP timestamp is so many samples of the ring, and a packet is expected to hold `samples`."""
        self._samples_per_tick[row] = samples_per_tick
        self.samples[row] = self._longest[row] = self._longest_now[row] = samples

    def start(self, rows: Rows, now_ns: int) -> None:
        """The clocks of `rows` begin to run, from where their heads stand."""
        self._epoch_ns[rows] = now_ns - self._head[rows] * self.sample_ns[rows]
        self._delay.restart(rows, self._epoch_ns[rows])

    # ---- packets

    def advance(self, rows: Rows, ticks: NDArray[np.int64]) -> None:
        """Packets of `ticks` [n] units of the RTP timestamp came in order, and are appended."""
        self.next_timestamp[rows] = (self.next_timestamp[rows] + ticks) & 0xFFFFFFFF
        self.next_position[rows] = self._head[rows]

    def released(
        self, rows: Rows, timestamp: NDArray[np.int64], ticks: int, position: NDArray[np.int64], samples: int
    ) -> None:
        """Packets at `timestamp` and `position` [n], of `ticks` and `samples` each, are released."""
        self.next_timestamp[rows] = (timestamp + ticks) & 0xFFFFFFFF
        self.next_position[rows] = position + samples
        self.samples[rows] = samples
        self._longest[rows] = np.maximum(self._longest[rows], samples)
        self._longest_now[rows] = np.maximum(self._longest_now[rows], samples)
        in_time = position + samples > self._head[rows]
        self._late_run[rows] = np.where(in_time, 0, self._late_run[rows])

    def place(
        self,
        rows: Rows,
        timestamp: NDArray[np.int64],
        octets: NDArray[np.int64],
        kind: NDArray[np.int64],
        late: NDArray[np.bool_],
        steps: NDArray[np.int64],
        now_ns: int,
    ) -> NDArray[np.int64]:
        """Places i8[n] of one packet of each row; lays the line anew where a packet fits it no longer.

        `steps` counts packets from the one that is expected next; of one that begins a talk spurt it is a large number.
        """
        ticks = ((timestamp - self.next_timestamp[rows] + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        position = self.next_position[rows] + ticks * self._samples_per_tick[rows]
        head, sample_ns, floor_ns = self._head[rows], self.sample_ns[rows], self._delay.floor_ns[rows]
        audio = kind <= Kind.G722
        telling = audio & ~self._held_up[rows]  # of the line's delay
        samples = np.where(audio, octets * self._samples_per_tick[rows], self.samples[rows])
        delay = now_ns - (position + samples) * sample_ns
        # The sender's own time went on without a break: it is the network that held the packet back.
        held_back = (ticks * self._samples_per_tick[rows] == steps * self.samples[rows]) & (delay > floor_ns)
        anew = self.anew[rows] | ((np.abs(delay - floor_ns) > JUMP_NS) & ~held_back)
        longer = self._has_become_longer(rows, telling, (position + samples <= head) | late, now_ns)
        pause = self._filled[rows] * sample_ns > TALK_SPURT_MS * 1_000_000
        anew |= ~late & (longer | (pause & (position < head) & ~held_back))
        # A telephone event carries the time at which it began: its place on the line is where the clock stands.
        event = kind == Kind.TELEPHONE_EVENT
        anew &= ~event
        position = np.where(event, np.maximum(head, (now_ns - floor_ns) // sample_ns), position)
        position[anew] = self._begin(rows[anew], timestamp[anew], samples[anew], now_ns)
        usual = telling & ~anew
        self._delay.observe(rows[usual], delay[usual])
        return position

    def _has_become_longer(
        self, rows: Rows, telling: NDArray[np.bool_], too_late: NDArray[np.bool_], now_ns: int
    ) -> NDArray[np.bool_]:
        """Whether late packets have come for so long that the network must have changed."""
        run = np.where(telling, np.where(too_late, self._late_run[rows] + 1, 0), self._late_run[rows])
        self._late_run[rows] = run
        self._late_since_ns[rows[run == 1]] = now_ns
        longer: NDArray[np.bool_] = (run >= LATE_IN_A_ROW) & (now_ns - self._late_since_ns[rows] >= LATE_FOR_NS)
        return longer

    def _begin(
        self, rows: Rows, timestamp: NDArray[np.int64], samples: NDArray[np.int64], now_ns: int
    ) -> NDArray[np.int64]:
        """Lay the lines of `rows` anew; where they begin."""
        sample_ns = self.sample_ns[rows]
        # Where the head stands; it follows time by a deadline, and a stream that begins often would lose one each time.
        begins: NDArray[np.int64] = np.maximum(
            self._head[rows], (now_ns - MAX_LAG_NS - self._epoch_ns[rows]) // sample_ns - samples
        )
        self.anew[rows] = False
        self._late_run[rows] = 0
        self.next_timestamp[rows] = timestamp
        self.next_position[rows] = begins
        self._delay.restart(rows, now_ns - (begins + samples) * sample_ns)
        return begins

    # ---- time

    def overdue_ns(self, now_ns: int) -> NDArray[np.int64]:
        """For how long the next packet of each row has been overdue, of all rows; below zero: it is not yet."""
        overdue: NDArray[np.int64] = now_ns - (self._head + self._longest) * self.sample_ns - self._delay.wait_ns
        return overdue

    def complete(self, rows: Rows, then_ns: int) -> NDArray[np.int64]:
        """Up to where the time lines of `rows` [n] will not be waited for, i8[n]: what was overdue at `then_ns`."""
        head, samples = self._head[rows], self.samples[rows]
        overdue = (then_ns - 1 - self._delay.wait_ns[rows]) // self.sample_ns[rows] - self._longest[rows] + samples
        missing = np.ceil(np.maximum(head - overdue, 0) / samples).astype(np.int64)
        complete: NDArray[np.int64] = np.maximum(head - missing * samples, 0)
        return complete

    def look_ahead(self, now_ns: int) -> tuple[Rows, NDArray[np.bool_]]:
        """Rows that now run ahead of time, or no longer do, and which of both; to be called each LOOK_AHEAD_NS."""
        if now_ns >= self._window_end_ns:
            self._window_end_ns = now_ns + FLOOR_WINDOW_NS
            np.maximum(self._longest_now, self.samples, out=self._longest)
            self._longest_now[:] = self.samples
        ahead_ns = self._head * self.sample_ns - (now_ns - self._epoch_ns)
        self._epoch_ns -= FOLLOW_NS * (ahead_ns > MAX_AHEAD_NS // 2)
        ahead: NDArray[np.bool_] = ahead_ns > np.where(self.ahead, MAX_AHEAD_NS // 2, MAX_AHEAD_NS)
        changed = np.flatnonzero(ahead != self.ahead)
        return changed, ahead[changed]

    def is_stopped(self, row: int) -> bool:
        """Whether the row's clock does not run."""
        return bool(self._delay.wait_ns[row] == NEVER_NS)
