"""RTCP of every row (RFC 3550 §6): when reports are due, what they say, and what the far end's reports tell.

Two parties, one stream each way: the interval is a constant with the random factor of §6.3.1, without reconsideration.
What is heard never changes a call; a BYE in particular ends nothing, since anybody on the path could have sent it.
"""

import base64
import secrets
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.gauges import Gauges
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.receive import Receiver, Reception
from sipagent.rtp.rtcp_packet import (
    Description,
    Goodbye,
    Packet,
    Report,
    ReportBlock,
    SenderInfo,
    build,
    parse,
)
from sipagent.rtp.send import Sender
from sipagent.rtp.table import COUNTER, GAUGE, CallTable
from sipagent.rtp.voip_metrics import voip_metrics
from sipagent.rtp.xr import UNAVAILABLE, ExtendedReport

Rows = NDArray[np.intp]

NEVER_NS: Final = 1 << 62
NTP_EPOCH_NS: Final = 2_208_988_800 * 1_000_000_000  # 1900 to 1970
ALIVE_NS: Final = 15_000_000_000  # three of the longest usual intervals between two reports
EVERY_TICKS: Final = 20
PATIENCE_NS: Final = 200_000_000  # a report waits for others: one costs half as much as a hundred together
TURN: Final = 6  # … of each of these: gauges, meters and silences have others, so that no tick is long
REPORTS_AT_ONCE: Final = 64  # a thousand calls that begin at once must not report at once
MAX_LEFT_TICKS: Final = 1000  # until the next packet; a row whose clock has not begun is due never
MAX_ROUND_TRIP_MS: Final = 10_000  # longer ones are forged, or of another stream
LOST_ON_THE_WAY: Final = 25  # packets that the far end says it sent while nothing came: half a second
_WORD: Final = 0xFFFFFFFF
_SENT: Final = slice(COUNTER["packets_sent"], COUNTER["octets_sent"] + 1)
_CNAME_OCTETS: Final = 12  # 96 random bits (RFC 7022 §4.2)


class ControlReports:
    """RTCP for all rows of `table`; `send(row, data)` puts a report on the wire."""

    def __init__(
        self,
        table: CallTable,
        receiver: Receiver,
        sender: Sender,
        gauges: Gauges,
        options: MediaOptions,
        send: Callable[[int, bytes], None],
        wall_clock_offset_ns: int = 0,
        seed: int | None = None,
    ) -> None:
        rows = table.rows
        self._table = table
        self._receiver = receiver
        self._sender = sender
        self._gauges = gauges
        self._tick_ms = options.tick_ms
        self._tick_ns = options.tick_ms * 1_000_000
        self._interval_ns = options.rtcp_interval_ms * 1_000_000
        self._send = send
        self._offset_ns = wall_clock_offset_ns + NTP_EPOCH_NS
        self._random = np.random.default_rng(seed)
        self._cnames = [""] * rows
        self._due_ns = np.full(rows, NEVER_NS, np.int64)
        self._next_ns = NEVER_NS  # the earliest of them
        self.alive_until_ns = np.zeros(rows, np.int64)  # the far end's reports are a sign of life until then
        self._reports = np.zeros(rows, np.int64)  # sent so far
        self._sent = np.zeros(rows, np.uint64)  # RTP packets sent at the report before
        self._before = np.zeros((rows, 2), np.uint64)  # packets and octets sent under the SSRC before this one
        self._prior = np.zeros((rows, 2), np.int64)  # expected and lost at the report before
        self._ssrc = np.zeros(rows, np.int64)  # of the stream that was reported on then
        self._sr_ssrc = np.zeros(rows, np.int64)  # the last SR: who sent it, …
        self._sr_ntp = np.zeros(rows, np.int64)  # … when by its sender's clock (middle 32 bits) …
        self._sr_ns = np.zeros(rows, np.int64)  # … and ours,
        self._sr_packets = np.full(rows, -1, np.int64)  # how much it says was sent, …
        self._sr_received = np.zeros(rows, np.uint64)  # … and how much had come

    # ---- rows come and go

    def open(self, row: int) -> None:
        """The row goes to a new call: a new CNAME (RFC 7022), nothing reported yet."""
        self._cnames[row] = base64.b64encode(secrets.token_bytes(_CNAME_OCTETS)).decode()
        self._due_ns[row] = NEVER_NS
        self._reports[row] = self._sr_ntp[row] = 0
        self._before[row] = self._table.counters[row, _SENT]
        self._sent[row] = self._before[row, 0]
        self._prior[row] = 0
        self._ssrc[row] = self._sr_ssrc[row] = self._sr_packets[row] = -1
        self.alive_until_ns[row] = 0

    def begin(self, row: int, now_ns: int) -> None:
        """The row's stream is agreed upon: report from now on, first after about half an interval (§6.2)."""
        if self._interval_ns and self._due_ns[row] == NEVER_NS:
            waits = self._interval_ns * self._random.uniform(0.25, 0.75) - PATIENCE_NS - EVERY_TICKS * self._tick_ns / 2
            self._due_ns[row] = now_ns + max(0, waits)
            self._next_ns = min(self._next_ns, int(self._due_ns[row]))

    def close(self, row: int, tick: int, now_ns: int) -> None:
        """Say goodbye, if we ever said anything (§6.3.7)."""
        sent = self._reports[row] or self._packets_sent(row)
        if self._due_ns[row] != NEVER_NS and sent:
            (report,) = self._compounds(np.array([row]), tick, now_ns)
            self._send(row, build(*report, Goodbye((int(self._sender.ssrc[row]),))))
        self._due_ns[row] = NEVER_NS

    # ---- every tick

    def on_tick(self, tick: int, now_ns: int) -> None:
        """Send the reports that are due; of a few rows together, as they come to be due."""
        if tick % EVERY_TICKS != TURN or now_ns < self._next_ns + PATIENCE_NS:
            return
        rows = np.flatnonzero(self._due_ns <= now_ns)[:REPORTS_AT_ONCE]
        if len(rows):
            for row, packets in zip(rows.tolist(), self._compounds(rows, tick, now_ns), strict=True):
                self._send(row, build(*packets))
            self._reports[rows] += 1
            shortest, latest = 0.5 * self._interval_ns, PATIENCE_NS + EVERY_TICKS * self._tick_ns
            longest = max(shortest, 1.5 * self._interval_ns - latest)
            self._due_ns[rows] = now_ns + self._random.uniform(shortest, longest, len(rows)).astype(np.int64)
        self._next_ns = int(self._due_ns.min())

    def receive(self, row: int, data: bytes, now_ns: int) -> bool:
        """An RTCP datagram from an allowed source, decrypted; False when it is none."""
        packets = parse(data)
        if packets is None:
            return False
        vain = False
        for packet in packets:
            if isinstance(packet, Report):
                vain |= self._hear(row, packet, now_ns)
            elif isinstance(packet, ExtendedReport):
                self._hear_extended(row, packet)
        # Packets that were sent, and of which none came: that is a broken line and not a far end that pauses.
        if not vain:
            self.alive_until_ns[row] = now_ns + ALIVE_NS
        return True

    # ---- what we say

    def _compounds(self, rows: Rows, tick: int, now_ns: int) -> list[list[Packet]]:
        """Report, name and metrics of each of `rows` [n]."""
        sent = self._table.counters[rows, COUNTER["packets_sent"]]
        active = (sent > self._sent[rows]).tolist()
        self._sent[rows] = sent
        reception = self._receiver.reception(rows)
        self._gauges.update(rows)
        senders = self._sender_infos(rows, tick, now_ns)
        blocks = self._blocks(rows, reception, now_ns)
        metrics = voip_metrics(self._table, self._receiver, self._sender, rows, reception, self._tick_ms)
        compounds: list[list[Packet]] = []
        for index, (row, ssrc, heard) in enumerate(
            zip(rows.tolist(), self._sender.ssrc[rows].tolist(), reception.heard.tolist(), strict=True)
        ):
            sender = senders[index] if active[index] else None
            report = Report(ssrc, sender, (blocks[index],) if heard else ())
            compounds.append([report, Description(ssrc, self._cnames[row])])
            if heard:
                compounds[-1].append(ExtendedReport(ssrc, (metrics[index],)))
        return compounds

    def _sender_infos(self, rows: Rows, tick: int, now_ns: int) -> list[SenderInfo]:
        """NTP and RTP time of the same instant: the next packet's timestamp, less what is left until it is due."""
        sender = self._sender
        left_ms = np.clip(sender.due[rows] - tick, 0, MAX_LEFT_TICKS) * self._tick_ms
        left_ticks = np.rint(left_ms * self._clock_rate_hz(rows) / 1000).astype(np.int64)
        timestamp = (sender.timestamp[rows] - left_ticks) & _WORD
        counted = (self._table.counters[rows, _SENT] - self._before[rows]).astype(np.int64) & _WORD
        ntp = self._ntp(now_ns)
        return [
            SenderInfo(ntp, at, packets, octets)
            for at, (packets, octets) in zip(timestamp.tolist(), counted.tolist(), strict=True)
        ]

    def _blocks(self, rows: Rows, reception: Reception, now_ns: int) -> list[ReportBlock]:
        """What was received, since the report before and in all (RFC 3550 A.3)."""
        ssrc, lost = reception.ssrc, reception.lost
        new = rows[ssrc != self._ssrc[rows]]
        self._ssrc[rows] = ssrc
        self._prior[new] = 0
        expected = reception.highest_sequence - reception.first_sequence + 1
        expected_now, lost_now = expected - self._prior[rows, 0], lost - self._prior[rows, 1]
        self._prior[rows, 0], self._prior[rows, 1] = expected, lost
        fraction = np.clip((np.maximum(lost_now, 0) << 8) // np.maximum(expected_now, 1), 0, 255)
        jitter = self._receiver.delay.jitter_ms(rows) / 1000 * self._clock_rate_hz(rows)
        answers = (self._sr_ntp[rows] != 0) & (self._sr_ssrc[rows] == ssrc)
        delay = ((now_ns - self._sr_ns[rows]) // 1000 << 16) // 1_000_000
        columns = (
            ssrc,
            fraction,
            np.clip(lost, -(1 << 23), (1 << 23) - 1),
            reception.highest_sequence & _WORD,
            np.clip(np.rint(jitter), 0, _WORD).astype(np.int64),
            np.where(answers, self._sr_ntp[rows], 0),
            np.where(answers, delay & _WORD, 0),
        )
        return [ReportBlock(*values) for values in np.stack(columns, 1).tolist()]

    def _clock_rate_hz(self, rows: Rows) -> NDArray[np.float64]:
        sender = self._sender
        rate: NDArray[np.float64] = sender.ticks[rows] * self._table.rate_hz[rows] / sender.samples[rows]
        return rate

    def _packets_sent(self, row: int) -> int:
        """Under the present SSRC: RFC 3550 §6.4.1 counts anew with each."""
        return int(self._table.counters[row, COUNTER["packets_sent"]] - self._before[row, 0])

    def _ntp(self, now_ns: int) -> int:
        return ((now_ns + self._offset_ns) << 32) // 1_000_000_000 & 0xFFFFFFFFFFFFFFFF

    # ---- what we hear

    def _hear(self, row: int, report: Report, now_ns: int) -> bool:
        """Take in an SR or RR; True when it speaks of media that did not come."""
        for block in report.blocks:
            if block.ssrc == int(self._sender.ssrc[row]):
                self._take_block(row, block, now_ns)
        if report.sender is None:
            return False
        self._sr_ssrc[row] = report.ssrc
        self._sr_ntp[row] = report.sender.ntp >> 16 & 0xFFFFFFFF
        self._sr_ns[row] = now_ns
        self._receiver.count(np.array([row]))
        received = self._table.counters[row, COUNTER["packets_received"]]
        said = report.sender.packets - int(self._sr_packets[row])
        vain = bool(self._sr_packets[row] >= 0 and said > LOST_ON_THE_WAY and received == self._sr_received[row])
        self._sr_packets[row], self._sr_received[row] = report.sender.packets, received
        return vain

    def _take_block(self, row: int, block: ReportBlock, now_ns: int) -> None:
        gauges = self._table.gauges[row]
        lost, sent = max(block.cumulative_lost, 0), max(self._packets_sent(row), 1)
        gauges[GAUGE["remote_loss_fraction"]] = min(lost / sent, 1.0)
        clock_rate_hz = float(self._clock_rate_hz(np.array([row]))[0])
        gauges[GAUGE["remote_jitter_ms"]] = min(block.jitter_ticks * 1000 / clock_rate_hz, MAX_ROUND_TRIP_MS)
        self._gauges.reported[row] = True
        if block.last_sr:  # §6.4.1: A - LSR - DLSR
            arrival = self._ntp(now_ns) >> 16 & 0xFFFFFFFF
            round_trip = (arrival - block.last_sr - block.delay_since_last_sr) & 0xFFFFFFFF
            if round_trip >= 0xFFFF0000:  # rounding at either end can make it a little less than nothing
                round_trip = 0
            if round_trip * 1000 / 65536 <= MAX_ROUND_TRIP_MS:
                gauges[GAUGE["round_trip_ms"]] = round_trip * 1000 / 65536

    def _hear_extended(self, row: int, report: ExtendedReport) -> None:
        """The far end's own verdict is better than our guess at it."""
        for metrics in report.metrics:
            known = metrics.r_factor <= 100 and 10 <= metrics.mos_conversational <= 50
            if metrics.ssrc == int(self._sender.ssrc[row]) and known and metrics.r_factor != UNAVAILABLE:
                self._gauges.scored[row] = True
                self._table.gauges[row, GAUGE["r_factor_out"]] = metrics.r_factor
                self._table.gauges[row, GAUGE["mos_out"]] = metrics.mos_conversational / 10
