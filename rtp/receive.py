"""Receiving: packets of all rows into order, and onto their time lines.

A packet that continues its row's sequence and timestamp is released in the tick in which it came (`in_order`).
Everything else takes the long way:

    parse → payload type → source (RFC 3550 A.1) → duplicate, late → place on the time line → wait in a slot
    release: the next number, or one whose time has been filled;  fill: time whose deadline has passed

Time in the ring is call time. It runs from SetStream on, by the sender's timestamps while packets come and by our clock
while none do.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp import formats, packet
from sipagent.rtp.bursts import LossBursts
from sipagent.rtp.delay import DelayModel
from sipagent.rtp.formats import WIDE, Codecs, Kind
from sipagent.rtp.in_order import InOrder
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import Batch, Headers
from sipagent.rtp.placement import LOOK_AHEAD_NS, Placement
from sipagent.rtp.reorder import NOBODY, SLOTS, ReorderBuffer
from sipagent.rtp.sources import CYCLE, Sources
from sipagent.rtp.table import COUNTER, CallTable
from sipagent.rtp.telephone_event import EventPacket, event_packets
from sipagent.rtp.timeline import Timeline

Rows = NDArray[np.intp]

# Concealing a packet takes 45 µs. When a whole trunk stumbles the rows take turns, rather than that all are late; a row
# that has waited for long gets silence.
MAX_CONCEALED: Final = 48  # per tick
PATIENCE_NS: Final = 60_000_000
LEARN_NS: Final = 19_000_000  # delays are learned from together, of as much time
_FORM: Final = 1 << 16  # code = (kind, WIDE) * 65536 + octets
_ROUNDS: Final = 64  # packets per row that one tick may make up


@dataclass(frozen=True, slots=True)
class Reception:
    """What RTCP reports of the sources that n rows follow, all arrays of shape (n,); numbers are extended ones."""

    heard: NDArray[np.bool_]  # False = no packet yet, and the others mean nothing
    ssrc: NDArray[np.int64]
    first_sequence: NDArray[np.int64]
    highest_sequence: NDArray[np.int64]
    lost: NDArray[np.int64]  # below zero when more came twice than not at all (RFC 3550 §6.4.1)


class Receiver:
    """The receive side of all rows of `table`."""

    def __init__(self, table: CallTable, options: MediaOptions, timeline: Timeline, codecs: Codecs) -> None:
        rows = table.rows
        self._table = table
        self._timeline = timeline
        self._codecs = codecs
        self.delay = DelayModel(rows, options)
        self._slots = ReorderBuffer(rows)
        self.losses = LossBursts(rows)
        self._short_before = np.zeros(rows, np.int64)  # in the streams before this one
        self.kinds = np.zeros((rows, 128), np.uint8)  # Kind by payload type
        self.receiving = np.zeros(rows, np.bool_)
        self._refused = np.zeros(rows, np.int64)  # packets that found no room, and that the line has not passed yet
        self._sources = Sources(table)
        self.held_up = np.zeros(rows, np.bool_)  # rows whose packets are late because of us
        self._placement = Placement(table, self.delay, timeline, self.held_up)
        self._next_sequence = np.zeros(rows, np.int64)
        self._wide = np.zeros(rows, np.bool_)  # the rings of the row run at 16 kHz
        self._in_order = InOrder(table)
        self._delays: list[tuple[Rows, NDArray[np.int64]]] = []  # of packets in order, not learned from yet
        self._learn_ns = self._look_ahead_ns = 0
        self._due_ns = 0  # nothing is overdue before
        self._packets = table.counters[:, COUNTER["packets_received"]]
        self._octets = table.counters[:, COUNTER["octets_received"]]
        self.events: list[EventPacket] = []  # telephone events of this tick
        self.control: list[tuple[int, bytes]] = []  # RTCP that came on the RTP port (RFC 5761)
        self.first: list[int] = []  # rows whose first packet came in this tick
        self.behind = False  # more was overdue than one tick may conceal
        self.moved = np.zeros(rows, np.bool_)  # rows whose rx_head moved in this tick

    # ---- rows come and go

    def open(self, row: int, rate_hz: int) -> None:
        """The row goes to a new call; its `rx_head` is 0."""
        self._learn()
        one = np.array([row])
        self.delay.forget(one)
        self._slots.clear(one)
        self._refused[row] = 0
        self.losses.reset(row)
        self._timeline.reset(one)
        self.kinds[row] = Kind.UNKNOWN
        self._sources.reset(row)
        self.receiving[row] = False
        self._in_order.clear(row)
        self._due_ns = 0
        self._wide[row] = rate_hz > 8000
        self._placement.open(row, rate_hz)

    def set_formats(
        self, row: int, kinds: dict[int, Kind], clock_rate_hz: int, *, receiving: bool, ptime_ms: int, now_ns: int
    ) -> None:
        """What may arrive from now on. The first call starts the row's clock."""
        self._due_ns = 0
        table = np.zeros(128, np.uint8)
        for payload_type, kind in kinds.items():
            table[payload_type & 127] = kind
        rate_hz = int(self._table.rate_hz[row])
        self._settle(np.array([row]))
        self.kinds[row] = table
        self.receiving[row] = receiving
        self._placement.set_format(row, max(1, rate_hz // clock_rate_hz), ptime_ms * rate_hz // 1000)
        if self._placement.is_stopped(row):
            self._placement.start(np.array([row]), now_ns)
            self._timeline.pause(np.array([row]))  # nothing has come yet: silence, not concealment
        if not receiving:
            self._timeline.pause(np.array([row]))
        self._expect(np.array([row]))

    def follow_anyone(self, row: int) -> None:
        """The far end has changed: the next valid packet begins a new time line, whatever its SSRC."""
        self._settle(np.array([row]))
        self._sources.forget(row)
        self._expect(np.array([row]))

    def close(self, row: int) -> None:
        """Nothing is received any more, and the row's clock stands."""
        self._settle(np.array([row]))
        self.receiving[row] = False
        self.delay.forget(np.array([row]))
        self._expect(np.array([row]))

    def continues(self, row: int, ssrc: int, sequence: int) -> bool:
        """Whether a packet from another address goes on with the stream that this row follows (NAT rebinding)."""
        self._settle(np.array([row]))
        return self._sources.continues(row, ssrc, sequence)

    def reception(self, rows: Rows) -> Reception:
        """Numbers for RTCP."""
        self._settle(rows)
        sources = self._sources
        return Reception(
            heard=sources.followed[rows] & ~self._placement.anew[rows],
            ssrc=sources.ssrc[rows].astype(np.int64),
            # RFC 3550 A.1 counts cycles from zero.
            first_sequence=sources.first_sequence[rows] - CYCLE,
            highest_sequence=sources.highest_sequence[rows] - CYCLE,
            lost=self._short(rows) - self._short_before[rows],
        )

    def complete(self, rows: Rows, then_ns: int) -> NDArray[np.int64]:
        """Up to where the time lines of `rows` [n] will not be waited for, i8[n]: what was overdue at `then_ns`."""
        return self._placement.complete(rows, then_ns)

    def came_at(self, row: int, head: int, since_ns: int, now_ns: int) -> int:
        """When its time line came to `head`, in samples of our clock since `since_ns`: as if on the shortest way."""
        sample_ns = int(self._placement.sample_ns[row])
        # Later than now it cannot have come: what is known of the way is of packets that were late.
        return (min(head * sample_ns + int(self.delay.floor_ns[row]), now_ns) - since_ns) // sample_ns

    # ---- packets

    def receive(self, batch: Batch, now_ns: int) -> None:
        """Take packets of which no two are of the same row, and which came just now."""
        if not len(batch):  # of packets that SRTP refused nothing is left
            return
        expected = self._in_order.match(batch)
        count = np.count_nonzero(expected)
        if count == len(batch):
            self._continue(batch.rows, batch.data, now_ns)
            return
        if count:
            chosen = np.flatnonzero(expected)
            self._continue(batch.rows[chosen], batch.data[chosen], now_ns)
        rest = batch.take(np.flatnonzero(~expected))
        self._settle(rest.rows)
        self._examine(rest, now_ns)

    def fill(self, now_ns: int) -> None:
        """Make up the time whose packets are overdue, and release what waited behind it."""
        if now_ns >= self._learn_ns:
            self._learn_ns = now_ns + LEARN_NS
            self.delay.rotate(now_ns)
            self._learn()
            if now_ns >= self._look_ahead_ns:
                self._look_ahead_ns = now_ns + LOOK_AHEAD_NS
                self._look_ahead(now_ns)
        if now_ns < self._due_ns:
            return
        budget, self.behind = MAX_CONCEALED, False
        for _ in range(_ROUNDS):
            overdue_ns = self._placement.overdue_ns(now_ns)
            rows = np.flatnonzero((overdue_ns > 0) & ~self._placement.ahead & ~self.held_up)
            if not len(rows):
                self._due_ns = now_ns + 1 - int(overdue_ns.max())
                return
            audible = self._timeline.audible(rows)
            spoken_for = np.cumsum(audible)
            over = audible & (spoken_for > budget)
            if over.any():
                patient = overdue_ns[rows] < PATIENCE_NS
                self._timeline.pause(rows[over & ~patient])
                rows = rows[~(over & patient)]
                self.behind = True
            if not len(rows):
                return
            budget = max(0, budget - int(spoken_for[-1]))
            self._settle(rows)
            _, position, slot = self._slots.earliest(rows)
            room = np.maximum(position - self._table.rx_head[rows], 1)
            self._fill(rows, np.minimum(self._placement.samples[rows], room), room, slot)
            self.moved[rows] = True
            self._release(rows)
            self._expect(rows)

    def _look_ahead(self, now_ns: int) -> None:
        """Find the rows that have heard more than time has passed."""
        changed, ahead = self._placement.look_ahead(now_ns)
        if len(changed):
            self._settle(changed)
            self._placement.ahead[changed] = ahead
            self._expect(changed)

    def _fill(self, rows: Rows, samples: NDArray[np.int64], room: NDArray[np.int64], slot: NDArray[np.intp]) -> None:
        """Fill; where the packet right behind the gap waits already, the gap is bridged from both sides."""
        bridged = room == samples
        if bridged.any():
            kind, payload, length = self._slots.peek(rows, slot)
            # These need no state to be decoded twice.
            bridged &= ((kind == Kind.PCMU) | (kind == Kind.PCMA)) & ~self._wide[rows]
            code = np.where(bridged, kind * _FORM + length, -1)
            for each in np.unique(code[bridged]):
                same = np.flatnonzero(code == each)
                form, octets = divmod(int(each), _FORM)
                following = self._codecs.decode(form, rows[same], payload[same, :octets])
                self._timeline.fill(rows[same], samples[same], following)
        self._timeline.fill(rows[~bridged], samples[~bridged])

    def _continue(self, rows: Rows, data: NDArray[np.uint8], now_ns: int) -> None:
        """Each packet is the one that its row expects."""
        for kind, octets, chosen in self._in_order.forms(rows):
            same, packets = (rows, data) if chosen is None else (rows[chosen], data[chosen])
            pcm = self._codecs.decode(kind, same, packets[:, packet.HEADER : packet.HEADER + octets])
            head = self._timeline.append(same, pcm)
            delay = now_ns - head * self._placement.sample_ns[same]
            late = self.held_up[same]
            self._delays.append((same[~late], delay[~late]) if late.any() else (same, delay))
            self._in_order.passed(same, octets)
        self._table.rx_last_ns[rows] = now_ns
        self.moved[rows] = True

    def _learn(self) -> None:
        """Learn from the delays of the packets that came in order."""
        if not self._delays:
            return
        self._due_ns = 0  # deadlines move
        delays, self._delays = self._delays, []
        if len(delays) > 1:
            rows = np.concatenate([rows for rows, _ in delays])
            if len(set(rows.tolist())) == len(rows):
                self.delay.observe(rows, np.concatenate([delay for _, delay in delays]))
                return
        for rows, delay in delays:
            self.delay.observe(rows, delay)

    def _settle(self, rows: Rows) -> None:
        """Bring the columns of rows that went the fast way up to date, before the long way looks at them."""
        self._learn()
        rows, packets, octets = self._in_order.settle(rows)
        if not len(rows):
            return
        before = self._next_sequence[rows]
        following = before + packets
        self._next_sequence[rows] = following
        self._placement.advance(rows, octets)
        self._sources.highest_sequence[rows] = np.maximum(self._sources.highest_sequence[rows], following - 1)
        self._slots.remember_all(rows, before, following)

    def count(self, rows: Rows) -> None:
        """Bring the counters of `rows` up to date: packets in order are counted together."""
        self._in_order.count(rows)

    def _examine(self, batch: Batch, now_ns: int) -> None:
        """The long way, for packets of which no two are of the same row."""
        self._due_ns = 0
        listening = self.receiving[batch.rows]
        control = packet.is_rtcp(batch.data, batch.length) & listening
        for index in np.flatnonzero(control).tolist():
            self.control.append((int(batch.rows[index]), batch.data[index, : batch.length[index]].tobytes()))
        headers = packet.parse(batch.data, batch.length)
        kind = self.kinds[batch.rows, headers.payload_type].astype(np.int64)
        fits = headers.payload_length <= formats.MAX_PAYLOAD
        fits &= (headers.payload_length > 0) | (kind > Kind.G722)  # audio of no duration is none
        self._count("dropped_malformed", batch.rows[listening & ~control & ~(headers.valid & fits)])
        usable = listening & ~control & headers.valid & fits
        self._count("dropped_payload_type", batch.rows[usable & (kind == Kind.UNKNOWN)])
        usable &= kind != Kind.UNKNOWN
        sequence, begin = self._sources.follow(batch.rows, headers, usable)
        if np.count_nonzero(begin):
            self._begin(batch.rows[begin], sequence[begin])
        chosen = np.flatnonzero(usable)
        if not len(chosen):
            return
        rows, sequence, kind = batch.rows[chosen], sequence[chosen], kind[chosen]
        self._count_received(rows, headers.payload_length[chosen])
        self.first.extend(rows[self._table.rx_last_ns[rows] == 0].tolist())
        self._table.rx_last_ns[rows] = now_ns
        events = chosen[kind == Kind.TELEPHONE_EVENT]
        self._count("dtmf_packets", batch.rows[events])
        self.events.extend(event_packets(batch, headers, events))
        seen = self._slots.seen(rows, sequence)
        self._count("dropped_duplicate", rows[seen])
        if not seen.all():
            self._place(batch, headers, chosen[~seen], sequence[~seen], kind[~seen], now_ns)
            self._release(rows[~seen])
        self._expect(rows)

    def _begin(self, rows: Rows, sequence: NDArray[np.int64]) -> None:
        """Another stream begins with this number."""
        self._slots.clear(rows)
        self._refused[rows] = 0
        self._placement.anew[rows] = True
        self._next_sequence[rows] = sequence
        self.losses.begin(rows, sequence)
        self._short_before[rows] = self._short(rows)

    def _place(
        self,
        batch: Batch,
        headers: Headers,
        chosen: NDArray[np.intp],
        sequence: NDArray[np.int64],
        kind: NDArray[np.int64],
        now_ns: int,
    ) -> None:
        """Store packets that may still be heard; none of them has come before."""
        rows = batch.rows[chosen]
        self._slots.remember(rows, sequence)
        self._count("reordered", rows[sequence < self._sources.highest_sequence[rows]])
        late = sequence < self._next_sequence[rows]
        self._count("dropped_late", rows[late & (kind <= Kind.G722)])
        # It had been counted as lost when the line went past it.
        counted = rows[late & (sequence >= self._sources.first_sequence[rows])]
        self._table.counters[counted, COUNTER["lost"]] -= np.uint64(1)
        steps = np.where(headers.marker[chosen], CYCLE, sequence - self._next_sequence[rows])
        timestamp, octets = headers.timestamp[chosen], headers.payload_length[chosen]
        position = self._placement.place(rows, timestamp, octets, kind, late, steps, now_ns)
        self._sources.highest_sequence[rows] = np.maximum(self._sources.highest_sequence[rows], sequence)
        waits = self._placement.ahead[rows]
        if waits.any():
            self._count("dropped_late", rows[waits & ~late & (kind <= Kind.G722)])
            self._next_sequence[rows[waits]] = self._sources.highest_sequence[rows[waits]] + 1
            self._placement.anew[rows[waits]] = True
        keep = ~late & ~waits
        ahead = sequence - self._next_sequence[rows]
        alone = keep & (ahead >= SLOTS) & (self._slots.waiting[rows] == 0)
        # A long gap, all of it filled by the clock already: go on behind it.
        self._pass(rows[alone], sequence[alone])
        self._next_sequence[rows[alone]] = sequence[alone]
        full = keep & ~self._slots.has_room(rows, sequence)
        self._count("dropped_full", rows[full])
        self._refused[rows] += full
        keep &= ~full
        index = np.flatnonzero(keep)
        if len(index):
            taken = chosen[index]
            length = headers.payload_length[taken]
            payload = packet.payloads(batch.take(taken), _only(headers, taken), int(length.max()))
            self._slots.store(
                rows[index], sequence[index], position[index], headers.timestamp[taken], kind[index], payload, length
            )

    def _release(self, rows: Rows) -> None:
        """Append what is next, or whose time has been filled, until each row waits again."""
        rows = rows[self._slots.waiting[rows] > 0]
        while len(rows):
            sequence, position, slot = self._slots.earliest(rows)
            head = self._table.rx_head[rows]
            ready = (sequence == self._next_sequence[rows]) | ((sequence != NOBODY) & (position <= head))
            rows, sequence, position, slot = rows[ready], sequence[ready], position[ready], slot[ready]
            if not len(rows):
                return
            self._pass(rows, sequence)
            self._next_sequence[rows] = sequence + 1
            timestamp, kind, payload, length = self._slots.take(rows, slot)
            self._put(rows, position, timestamp, kind, payload, length)
            rows = rows[self._slots.waiting[rows] > 0]

    def _pass(self, rows: Rows, sequence: NDArray[np.int64]) -> None:
        """Count what lies before these numbers as lost, but for what came and found no room."""
        skipped = sequence - self._next_sequence[rows]
        if not skipped.any():
            return
        came = np.minimum(self._refused[rows], skipped)
        self._refused[rows] -= came
        self._table.counters[rows, COUNTER["lost"]] += (skipped - came).astype(np.uint64)
        gone = skipped > 0
        self.losses.lose(rows[gone], self._next_sequence[rows[gone]], sequence[gone])

    def _put(
        self,
        rows: Rows,
        position: NDArray[np.int64],
        timestamp: NDArray[np.int64],
        kind: NDArray[np.int64],
        payload: NDArray[np.uint8],
        length: NDArray[np.int64],
    ) -> None:
        self.moved[rows] = True
        silent = kind == Kind.COMFORT_NOISE
        if silent.any():
            level = np.where(length > 0, -(payload[:, 0] & 0x7F).astype(np.float32), np.float32(-127))
            self._timeline.set_noise(rows[silent], level[silent])
            self._count("comfort_noise_packets", rows[silent])
        self._timeline.pause(rows[kind > Kind.G722])
        ahead = position - self._table.rx_head[rows]
        early = (ahead > 0) & (kind != Kind.TELEPHONE_EVENT)
        if early.any():  # the number follows, the timestamp does not: silence suppression, or a gap that was cut short
            was_quiet = self._timeline.quiet[rows[early]]
            self._timeline.quiet[rows[early]] = True
            self._timeline.fill(rows[early], ahead[early])
            self._timeline.quiet[rows[early]] = was_quiet
        code = np.where(kind <= Kind.G722, (kind + WIDE * self._wide[rows]) * _FORM + length, -1)
        skip = np.maximum(-ahead, 0)
        for each in np.unique(code[code >= 0]):
            same = np.flatnonzero(code == each)
            form, octets = divmod(int(each), _FORM)
            pcm = self._codecs.decode(form, rows[same], payload[same, :octets])
            self._placement.released(rows[same], timestamp[same], octets, position[same], pcm.shape[1])
            self._append(rows[same], pcm, skip[same])
            self._in_order.set_form(rows[same], form, octets, pcm.shape[1])

    def _append(self, rows: Rows, pcm: NDArray[np.int16], skip: NDArray[np.int64]) -> None:
        """Append packets; the first `skip` [n] samples of each come too late, their time is filled."""
        for each in np.unique(skip):
            same = skip == each
            if each >= pcm.shape[1]:
                self._count("dropped_late", rows[same])
            else:
                self._timeline.append(rows[same], pcm[same, int(each) :])

    # ---- small things

    def _expect(self, rows: Rows) -> None:
        """Let rows go the fast way of which it is known what the next packet begins with."""
        line = self._placement
        plain = self.receiving[rows] & self._sources.followed[rows] & (self._slots.waiting[rows] == 0)
        kind = self._in_order.kind(rows) % WIDE
        plain &= ~line.anew[rows] & ~line.ahead[rows] & (line.next_position[rows] == self._table.rx_head[rows])
        plain &= kind > 0
        # The lowest payload type that means this kind; a sender that uses another one goes the long way.
        match = self.kinds[rows] == kind[:, None]
        plain &= match.any(axis=1)
        self._in_order.leave(rows[~plain])
        some = rows[plain]
        if len(some):
            self._in_order.expect(
                some,
                match.argmax(axis=1)[plain],
                self._next_sequence[some],
                line.next_timestamp[some],
                self._sources.ssrc[some],
            )

    def _short(self, rows: Rows) -> NDArray[np.int64]:
        """By how many packets more were expected than came, repeated ones too."""
        lost, twice = (self._table.counters[rows, COUNTER[name]] for name in ("lost", "dropped_duplicate"))
        short: NDArray[np.int64] = lost.astype(np.int64) - twice.astype(np.int64)
        return short

    def _count(self, name: str, rows: Rows) -> None:
        if len(rows):
            self._table.counters[rows, COUNTER[name]] += np.uint64(1)

    def _count_received(self, rows: Rows, octets: NDArray[np.int64]) -> None:
        self._packets[rows] += np.uint64(1)
        self._octets[rows] += octets.astype(np.uint64)


def _only(headers: Headers, chosen: NDArray[np.intp]) -> Headers:
    return Headers(*(getattr(headers, name)[chosen] for name in Headers.__slots__))
