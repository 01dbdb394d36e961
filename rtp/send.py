"""Sending: one packet per row and packet time, from SetStream to CloseRow, whatever the other planes do.

Deadlines are whole ticks, `start + n * ptime`. A few rows share one tick of their packet time, since a tick that sends
costs much the same for one packet or a hundred; more rows are spread over the others. Sequence numbers grow by one with
every packet and timestamps by one packet with every packet time, also while the row is on hold and sends nothing;
packet times that we were too late for leave no gap in either. What a packet carries: a telephone event; or else the
worker's speech, a prompt and the other side of a bridge mixed together; or else comfort noise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import comfort_noise
from sipagent.rtp.formats import WIDE, Codecs, Kind
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import HEADER
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.table import COUNTER, FAR_END, MARKS, TX_RING, CallTable
from sipagent.rtp.worker_columns import bounded_gain, mend

Rows = NDArray[np.intp]

STRIDE: Final = 512  # octets of a row's packet buffer: header, 480 of payload, an SRTP tag
MAX_BURST: Final = 3  # packets made good, one per tick, after we were held up; the stream goes on from there
RESUME_PACKETS: Final = 10  # speech that goes on within so many packets was not over: what lay between was dry
NEVER: Final = 1 << 62
FOR_PROMPT: Final = 1  # speech waits until an exclusive prompt has ended …
FOR_DIGITS: Final = 2  # … or until digits have been sent
ROWS_PER_PHASE: Final = 256  # rows that share a phase before the next one is used: two milliseconds of sending
PHASES: Final = (0, 2, 1, 3)  # in this order: while the last two are empty, nobody is woken for every second tick
_NOISE: Final = 1 << 15
_SEED: Final = 711
_FORM: Final = 256  # form = samples per packet * 256 + (kind, WIDE)
_STRIDE_OF_NOISE: Final = 7919  # so that no two rows hiss alike


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Packets of one tick: buffer rows `rows` [n] with `length` [n] octets each, in `Sender.packets`."""

    rows: Rows
    length: NDArray[np.int64]


Mixer = Callable[[Rows, int], tuple[Rows, NDArray[np.float32]]]  # (rows, samples) -> rows with sound, f4[n, samples]


class Sender:
    """The send side of all rows of `table`; `packets` u1[rows, STRIDE] holds the last packet of each."""

    def __init__(self, table: CallTable, options: MediaOptions, codecs: Codecs, seed: int | None = None) -> None:
        rows = table.rows
        self._codecs = codecs
        self._table = table
        self._options = options
        self._tick_ms = options.tick_ms
        self._random = np.random.default_rng(seed)
        self._speech = RingColumn(table.tx_pcm)
        self._sent = RingColumn(table.sent_pcm)
        noise = comfort_noise.generate(
            np.array([options.comfort_noise_dbov], np.float32), _NOISE, np.random.default_rng(_SEED)
        )
        self._noise = RingColumn(noise)
        self.packets = np.zeros((rows, STRIDE), np.uint8)
        self.packets[:, 0] = 0x80
        self._sequence_field = self.packets[:, 2:4].view(">u2")[:, 0]
        self._timestamp_field = self.packets[:, 4:8].view(">u4")[:, 0]
        self._ssrc_field = self.packets[:, 8:12].view(">u4")[:, 0]
        self.due = np.full(rows, NEVER, np.int64)  # tick in which the next packet is due
        self._period = np.full(rows, 4, np.int64)  # ticks per packet
        self.samples = np.full(rows, 160, np.int64)  # samples per packet
        self.ticks = np.full(rows, 160, np.int64)  # RTP timestamp units per packet
        self._form = np.zeros(rows, np.int64)
        # A row that has just begun, is on hold, held, mixed, at another gain, or whose next packet is marked.
        self._unusual = np.ones(rows, np.bool_)
        self.payload_type = np.zeros(rows, np.uint8)
        self.sequence = np.zeros(rows, np.int64)  # of the next packet
        self.timestamp = np.zeros(rows, np.int64)
        self.ssrc = np.zeros(rows, np.int64)
        self.sending = np.zeros(rows, np.bool_)
        self._talking = np.zeros(rows, np.bool_)
        self._mark_next = np.ones(rows, np.bool_)  # the next packet with sound carries the marker bit
        self._gain = np.ones(rows, np.float32)
        self._spoke_until = np.full(rows, -NEVER, np.int64)  # tx_clock at which the last speech ended
        self.held = np.zeros(rows, np.uint8)  # speech waits, for FOR_PROMPT and FOR_DIGITS
        self.muted = np.zeros(rows, np.bool_)  # speech passes unheard: two callers are joined without the agent
        self.routed = np.zeros(rows, np.bool_)  # speech is for whom tx_audience names
        self._mixers: list[tuple[Mixer, NDArray[np.bool_]]] = []
        self._packets_sent = table.counters[:, COUNTER["packets_sent"]]
        self._octets_sent = table.counters[:, COUNTER["octets_sent"]]

    # ---- rows come and go

    def open(self, row: int) -> None:
        """The row goes to a new call: new SSRC, sequence and timestamp (RFC 3550 §5.1), nothing of the old speech."""
        self.ssrc[row] = self._random.integers(1, 1 << 32)
        self.sequence[row] = self._random.integers(0, 1 << 15)
        self.timestamp[row] = self._random.integers(0, 1 << 32)
        self._ssrc_field[row] = self.ssrc[row]
        self.due[row] = NEVER
        self.sending[row] = self._talking[row] = False
        self.held[row] = 0
        self.muted[row] = self.routed[row] = False
        self._unusual[row] = True
        self._mark_next[row] = True
        self._gain[row] = 1.0
        self._spoke_until[row] = -NEVER
        self.drop_speech(row)
        self._table.tx_pcm[row] = 0  # a worker may announce what it has not written

    def set_format(
        self, row: int, kind: Kind, payload_type: int, clock_rate_hz: int, ptime_ms: int, *, sending: bool, tick: int
    ) -> None:
        """What is sent from now on; the first call starts the row's clock, in a phase that others may share."""
        rate_hz = int(self._table.rate_hz[row])
        self._period[row] = max(1, round(ptime_ms / self._tick_ms))
        ptime_ms = int(self._period[row]) * self._tick_ms
        self.samples[row] = ptime_ms * rate_hz // 1000
        self.ticks[row] = ptime_ms * clock_rate_hz // 1000
        self._form[row] = int(self.samples[row]) * _FORM + kind + (WIDE if rate_hz > 8000 else 0)
        self._unusual[row] = True
        self.payload_type[row] = payload_type
        self.sending[row] = sending
        if self.due[row] == NEVER:
            period = int(self._period[row])
            self.due[row] = tick + 1 + (self._phase(period) - tick - 1) % period

    def _phase(self, period: int) -> int:
        """For one more row of this period: the phase that has the fewest rows, or one that has room if that is used."""
        rows = np.flatnonzero((self._period == period) & (self.due != NEVER))
        used = np.bincount(self.due[rows] % period, minlength=period)
        order = sorted(range(period), key=lambda phase: PHASES.index(phase % len(PHASES)))
        room = [phase for phase in order if used[phase] < ROWS_PER_PHASE]
        return room[0] if room else int(used.argmin())

    def close(self, row: int) -> None:
        """Nothing is sent any more."""
        self.due[row] = NEVER
        self.sending[row] = False

    def add_mixer(self, mixer: Mixer, busy: NDArray[np.bool_]) -> None:
        """Let `mixer` add sound to what rows send; `busy` bool[rows], which it keeps, says to which.

        The mixer calls `hold` or `mute` for a row where it begins.
        """
        self._mixers.append((mixer, busy))

    def hold(self, row: int, held: bool, what: int) -> None:
        """Let speech wait for `what` (FOR_PROMPT, FOR_DIGITS), or no longer."""
        waits = int(self.held[row])
        self.held[row] = waits | what if held else waits & ~what
        self._unusual[row] = True

    def mute(self, rows: Rows, muted: bool) -> None:
        """Let speech pass unheard, or be heard again; also to be called when a mixer begins with `rows`."""
        self.muted[rows] = muted
        self._unusual[rows] = True

    def route(self, row: int, routed: bool) -> None:
        """Let speech be heard here only when `tx_audience` says so, or always again."""
        self.routed[row] = routed
        self._unusual[row] = True

    def drop_speech(self, row: int) -> None:
        """Flush what a worker has queued, without its asking."""
        table = self._table
        mend(table, np.array([row]))
        table.tx_flush_at[row] = table.tx_read[row]
        table.tx_read[row] = table.tx_head[row]
        table.tx_flush_done[row] = max(int(table.tx_head[row]), int(table.tx_flush_to[row]))
        table.mark_done[row] = table.mark_count[row]

    # ---- every tick

    def compose(self, tick: int, events: Mapping[int, object]) -> list[Outgoing]:
        """Build the packets that are due; of rows in `events`, which carry telephone events, only the clocks move."""
        due = (self.due <= tick).nonzero()[0]
        if not len(due):
            return []
        when = self.due[due]
        period = self._period[due]
        if np.count_nonzero(when < tick):
            behind = (tick - when) // period
            if (behind >= MAX_BURST).any():
                self._leave_out(due, behind)
                when = self.due[due]
        self.due[due] = when + period
        special = self._special()
        code = self._form[due]
        if np.count_nonzero(code == code[0]) == len(code):
            return [self._compose(due, int(code[0]), special, events)]
        return [self._compose(due[code == each], int(each), special, events) for each in np.unique(code)]

    def advance(self, rows: Rows) -> None:
        """Move the numbers of `rows` past a packet that was sent."""
        self.sequence[rows] += 1

    def _leave_out(self, due: Rows, behind: NDArray[np.int64]) -> None:
        """Pass over packet times that cannot be made good any more: a burst would only fill the far end's buffer.

        On the wire nothing is missing: the far end hears a pause and then goes on, rather than conceal and drop. Our
        own call time runs on, so that both legs of a recording stay together; what was not sent is silence there.
        """
        much = behind >= MAX_BURST
        rows, missed = due[much], behind[much] - (MAX_BURST - 1)
        self.due[rows] += missed * self._period[rows]
        skipped = missed * self.samples[rows]
        clock = self._table.tx_clock[rows]
        self._table.tx_clock[rows] = clock + skipped
        self._mark_next[rows] = self._unusual[rows] = True
        while len(rows):
            piece = np.minimum(skipped, self._sent.size)
            count = int(piece.min())
            self._sent.write(rows, clock + skipped - piece, np.zeros((len(rows), count), np.int16))
            left = piece > count
            rows, clock, skipped = rows[left], clock[left], (piece - count)[left]

    def _special(self) -> NDArray[np.bool_]:
        """Rows in which this packet is not simply more of what the last one was, bool[rows]."""
        table = self._table
        special: NDArray[np.bool_] = table.tx_flush_to > table.tx_flush_done
        special |= table.mark_done < table.mark_count
        special |= table.tx_gain != 1.0
        special |= table.duck != 0
        special |= self._unusual
        return special

    def _compose(self, rows: Rows, form: int, special: NDArray[np.bool_], events: Mapping[int, object]) -> Outgoing:
        samples, kind = divmod(form, _FORM)
        table = self._table
        clock = table.tx_clock[rows]
        timestamp = self.timestamp[rows]
        self.timestamp[rows] = timestamp + self.ticks[rows]
        start = table.tx_read[rows]
        waiting = table.tx_head[rows] - start
        talking = self._talking[rows]
        usual = (waiting >= samples) & talking
        usual |= (waiting <= 0) & ~talking
        usual &= ~special[rows]
        plain = np.count_nonzero(usual) == len(rows)
        if plain:
            mixed = self._go_on(rows, samples, clock, start, talking)
        else:
            mixed = np.empty((len(rows), samples), np.int16)
            mixed[usual] = self._go_on(rows[usual], samples, clock[usual], start[usual], talking[usual])
            mixed[~usual] = self._speak(rows[~usual], samples)
        self._sent.write(rows, clock, mixed)
        table.tx_clock[rows] = clock + samples
        second = self.payload_type[rows]
        if not plain or events:
            sends = self.sending[rows]
            if events:
                sends &= ~np.isin(rows, np.fromiter(events, np.intp, len(events)))
            if not sends.all():
                chosen = np.flatnonzero(sends)
                rows, mixed, timestamp, second = rows[chosen], mixed[chosen], timestamp[chosen], second[chosen]
            marker = self._mark_next[rows] & self._talking[rows]
            self._mark_next[rows] &= ~marker
            second |= marker.view(np.uint8) << 7
        if not len(rows):
            return Outgoing(rows, np.zeros(0, np.int64))
        payload = self._codecs.encode(kind, rows, mixed)
        octets = payload.shape[1]
        self.packets[rows, HEADER : HEADER + octets] = payload
        sequence = self.sequence[rows]
        self.sequence[rows] = sequence + 1
        self._sequence_field[rows] = sequence
        self._timestamp_field[rows] = timestamp
        self.packets[rows, 1] = second
        self._packets_sent[rows] += np.uint64(1)
        self._octets_sent[rows] += np.uint64(octets)
        return Outgoing(rows, np.full(len(rows), HEADER + octets))

    def _go_on(
        self, rows: Rows, samples: int, clock: NDArray[np.int64], start: NDArray[np.int64], talking: NDArray[np.bool_]
    ) -> NDArray[np.int16]:
        """The next packet of rows that go on as before: full packets of speech where they talk, else silence."""
        table = self._table
        speaking = np.count_nonzero(talking)
        if speaking == len(rows):
            table.tx_read[rows] = start + samples
            return self._speech.read(rows, start, samples)
        pcm = self._noise.read(np.zeros(len(rows), np.intp), (clock + rows * _STRIDE_OF_NOISE) & (_NOISE - 1), samples)
        if speaking:
            some = talking.nonzero()[0]
            pcm[some] = self._speech.read(rows[some], start[some], samples)
            table.tx_read[rows[some]] = start[some] + samples
        return pcm

    def _speak(self, rows: Rows, samples: int) -> NDArray[np.int16]:
        """What each row says in this packet, i2[n, samples]; moves tx_read, marks and flushes."""
        table = self._table
        start = table.tx_read[rows]
        residue = self._flush(rows, start, samples)
        if residue is not None:
            start = table.tx_read[rows]
        waiting = table.tx_head[rows] - start
        may = self.sending[rows] & (self.held[rows] == 0)
        count = np.where(may, np.clip(waiting, 0, samples), 0)
        full = count == samples
        self._count_dry(rows, count, samples)
        if full.all():
            pcm = self._speech.read(rows, start, samples)
            talking = full
        else:
            phase = (table.tx_clock[rows] + rows * _STRIDE_OF_NOISE) & (_NOISE - 1)
            pcm = self._noise.read(np.zeros(len(rows), np.intp), phase, samples)
            some = np.flatnonzero(count)
            if len(some):
                speech = self._speech.read(rows[some], start[some], samples)
                inside = np.arange(samples) < count[some, None]
                pcm[some] = np.where(inside, speech, pcm[some])
            talking = count > 0
        pcm = self._apply_gain(rows, pcm, talking)
        if residue is not None:
            flushed, fading = residue
            pcm[flushed] = np.maximum(np.minimum(pcm[flushed].astype(np.int32) + fading, 32767), -32768)
        table.tx_read[rows] = start + count
        self._pass_marks(rows, start, count)
        for mixer, busy in self._mixers:
            if not busy[rows].any():
                continue
            heard, sound = mixer(rows, samples)
            if len(heard):
                at = np.searchsorted(rows, heard)
                pcm[at] = np.clip(np.rint(pcm[at] + sound), -32768, 32767)
                talking = talking.copy()
                talking[at] = True
        # A talk spurt begins: RFC 3551 §4.1.
        self._mark_next[rows] |= talking & ~self._talking[rows]
        self._talking[rows] = talking
        unusual = (self._mark_next[rows] & talking) | (self.held[rows] != 0) | ~self.sending[rows]
        unusual |= self._gain[rows] != 1.0
        for _, busy in self._mixers:
            unusual |= busy[rows]
        self._unusual[rows] = unusual
        return pcm

    def _flush(
        self, rows: Rows, start: NDArray[np.int64], samples: int
    ) -> tuple[NDArray[np.intp], NDArray[np.int32]] | None:
        """Carry out flushes; what is left of the speech fades out in the ramp: (indices into rows, i4[k, samples])."""
        table = self._table
        to = table.tx_flush_to[rows]
        asked = (to > table.tx_flush_done[rows]) & (to <= start + TX_RING)
        if not asked.any():
            return None
        index = np.flatnonzero(asked)
        flushed = rows[index]
        ramp = min(samples, self._options.ramp_ms * samples * 1000 // int(self._ptime_us(flushed[0])))
        fading = np.zeros((len(index), samples), np.int32)
        # Only what was really spoken fades; behind its end the ring holds old speech.
        had = (table.tx_head[flushed] - start[index]) >= ramp
        had &= (start[index] < to[index]) & self._talking[flushed]
        speech = self._speech.read(flushed, start[index], max(1, ramp))[:, :ramp]
        gain = (self._gain[flushed] * had)[:, None] * np.linspace(1.0, 0.0, max(1, ramp), endpoint=False)[:ramp]
        fading[:, :ramp] = speech * gain
        table.tx_flush_at[flushed] = start[index]
        table.tx_read[flushed] = np.maximum(start[index], to[index])
        table.tx_flush_done[flushed] = to[index]
        self._spoke_until[flushed] = -NEVER  # an end that was asked for is not a dry slot
        return index, fading

    def _ptime_us(self, row: int) -> int:
        return int(self._period[row]) * self._tick_ms * 1000

    def _apply_gain(self, rows: Rows, pcm: NDArray[np.int16], talking: NDArray[np.bool_]) -> NDArray[np.int16]:
        """Ramp to the gain that worker and ears ask for; comfort noise keeps its level."""
        table = self._table
        ducked = (table.duck[rows] != 0) & (table.reflex[rows] != 0)
        # Ears and worker duck for the same reason: the lower of the two, not one on top of the other.
        gain = table.tx_gain[rows]
        goal = np.where(ducked, np.minimum(gain, np.float32(self._options.duck_gain)), gain)
        elsewhere = self.routed[rows] & ((table.tx_audience[rows] & FAR_END) == 0)
        goal = np.where(self.muted[rows] | elsewhere, np.float32(0), goal)
        now = self._gain[rows]
        if ((goal == 1.0) & (now == 1.0)).all():
            return pcm
        goal = bounded_gain(goal)
        self._gain[rows] = goal
        index = np.flatnonzero(talking & ((goal != 1.0) | (now != 1.0)))
        if len(index):
            samples = pcm.shape[1]
            ramp = max(1, min(samples, self._options.ramp_ms * samples * 1000 // self._ptime_us(int(rows[0]))))
            progress = np.minimum(np.arange(1, samples + 1, dtype=np.float32) / ramp, 1.0)
            gain = now[index, None] + (goal - now)[index, None] * progress
            pcm[index] = np.clip(np.rint(pcm[index] * gain), -32768, 32767)
        return pcm

    def _count_dry(self, rows: Rows, count: NDArray[np.int64], samples: int) -> None:
        """Packets without speech between two with it were dry slots, if the pause was too short to be meant."""
        spoke = count > 0
        clock = self._table.tx_clock[rows]
        talked = self._talking[rows]
        ended = rows[talked & ~spoke]
        self._spoke_until[ended] = np.maximum(clock[talked & ~spoke], self._spoke_until[ended])
        pause = clock - self._spoke_until[rows]
        again = spoke & ~talked & (pause > 0) & (pause <= RESUME_PACKETS * samples)
        if again.any():
            self._table.counters[rows[again], COUNTER["dry_slots"]] += (pause[again] // samples).astype(np.uint64)

    def _pass_marks(self, rows: Rows, start: NDArray[np.int64], count: NDArray[np.int64]) -> None:
        """Note the call time at which marks left; a mark on speech that was flushed passes with the flush."""
        table = self._table
        for _ in range(MARKS):
            done = table.mark_done[rows]
            position = table.mark_position[rows, done & (MARKS - 1)]
            waiting = table.mark_count[rows] - done
            passed = (waiting > 0) & (waiting <= MARKS) & (position <= start + count)
            if not passed.any():
                return
            rows, start, count, done, position = (part[passed] for part in (rows, start, count, done, position))
            clock = table.tx_clock[rows] + np.maximum(position, start) - start
            table.mark_clock[rows, done & (MARKS - 1)] = clock
            table.mark_done[rows] = done + 1
