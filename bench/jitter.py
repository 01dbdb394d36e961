"""How a line with jitter sounds, and the delay that is spent on it: our receiver in virtual time, scored by PESQ.

Every row of one table receives a text whose packets are delayed at random and independently, so that they overtake each
other; nothing is lost on the way. What the receiver gives up waiting for it conceals. The delay is that of a packet
from the end of its place in the sender's time to the tick in which it stands in the ring.
"""

import os
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import g711
from sipagent.rtp.concealer import PitchConcealer
from sipagent.rtp.formats import Codecs, Kind
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import HEADER, MAX_PACKET, Batch
from sipagent.rtp.receive import Receiver
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.table import CONCEALED_BLOCK, CallTable
from sipagent.rtp.timeline import RECEIVED, Timeline
from sipagent.rtp.turns import in_turns
from sipagent.rtp.waking import WAKE_TICKS

PACKET: Final = 160
PACKET_NS: Final = 20_000_000
TICK_NS: Final = WAKE_TICKS * MediaOptions().tick_ms * 1_000_000  # packets are taken as often as workers are woken
START_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Network:
    """Delays: normal with this mean and deviation, and a share of packets that takes `detour_ms` longer."""

    name: str
    mean_ms: float
    deviation_ms: float
    detour_share: float = 0.0
    detour_ms: float = 0.0
    target: float = 0.0  # PESQ to reach …
    within_ms: float = 0.0  # … with at most this delay


NETWORKS: Final = (
    Network("40 ± 10 ms", 40, 10, target=4.0, within_ms=80),
    Network("60 ± 20 ms", 60, 20, target=3.9, within_ms=120),
    Network("120 ± 40 ms", 120, 40, target=3.5, within_ms=200),
    Network("5 % later by 60 ms", 20, 1, 0.05, 60, target=4.0, within_ms=100),
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What came out: pcm i2[rows, samples], the share of packets made up, and delays in ms."""

    pcm: NDArray[np.int16]
    made_up: float
    delay_p50_ms: float
    delay_p99_ms: float
    delay_max_ms: float


def arrivals_ns(network: Network, rows: int, packets: int, seed: int) -> NDArray[np.int64]:
    """When each packet arrives, i8[rows, packets]; packet n is sent when its 20 ms are over."""
    random = np.random.default_rng(seed)
    delay_ms = random.normal(network.mean_ms, network.deviation_ms, (rows, packets))
    delay_ms += network.detour_ms * (random.random((rows, packets)) < network.detour_share)
    sent_ns = START_NS + PACKET_NS * np.arange(1, packets + 1)
    return sent_ns + (np.maximum(delay_ms, 1) * 1e6).astype(np.int64)


def listen(network: Network, coded: NDArray[np.uint8], seed: int = 1, options: MediaOptions | None = None) -> Heard:
    """µ-law u1[rows, packets, PACKET] over `network` into a receiver with these options."""
    rows, packets, _ = coded.shape
    options = options or MediaOptions(rows=rows)
    table, fd = CallTable.create(rows)
    os.close(fd)  # its map stays
    table.active[:], table.rate_hz[:] = 1, 8000
    timeline = Timeline(table, PitchConcealer(table))
    receiver = Receiver(table, options, timeline, Codecs(rows))
    arrival = arrivals_ns(network, rows, packets, seed)
    for row in range(rows):
        receiver.open(row, 8000)
        # The line is open from the moment at which the sender begins: what comes first is late already.
        receiver.set_formats(row, {0: Kind.PCMU}, 8000, receiving=True, ptime_ms=20, now_ns=START_NS)
    data = _packets(coded)
    order = np.argsort(arrival, axis=None, kind="stable")
    row_of, packet_of = np.unravel_index(order, arrival.shape)
    when = arrival.reshape(-1)[order]
    ring = RingColumn(table.rx_pcm)
    length = (packets + 40) * PACKET
    heard = np.zeros((rows, length), np.int16)  # by ring position
    released = np.zeros((rows, length // PACKET), np.int64)
    flags = RingColumn(table.rx_concealed)
    concealed = np.zeros((rows, length // PACKET), np.bool_)
    taken = 0
    for now in range(START_NS + TICK_NS, START_NS + (packets + 20) * PACKET_NS, TICK_NS):
        end = int(np.searchsorted(when, now, side="right"))
        before = table.rx_head.copy()
        if end > taken:
            chosen = row_of[taken:end], packet_of[taken:end]
            came = Batch(chosen[0], data[chosen], np.full(end - taken, HEADER + PACKET, np.int64))
            for batch in in_turns(came):
                receiver.receive(batch, now)
            taken = end
        receiver.fill(now)
        for row in np.flatnonzero(table.rx_head > before).tolist():
            first, last = int(before[row]), int(min(table.rx_head[row], length))
            if last > first:
                heard[row, first:last] = ring.read(np.array([row]), before[[row]], last - first)[0]
                packet = slice(first // PACKET, last // PACKET)
                released[row, packet] = now
                blocks = flags.read(
                    np.array([row]), before[[row]] // CONCEALED_BLOCK, (last - first) // CONCEALED_BLOCK
                )
                concealed[row, packet] = blocks[0, :: PACKET // CONCEALED_BLOCK] != RECEIVED
    return _align(heard, released, concealed, coded)


def _align(
    heard: NDArray[np.int16], released: NDArray[np.int64], concealed: NDArray[np.bool_], coded: NDArray[np.uint8]
) -> Heard:
    """Find where the text begins in each row, cut it out, and take the delays of its packets."""
    rows, packets, _ = coded.shape
    truth = g711.ulaw_decode(coded).reshape(rows, -1)
    size = 1 << (heard.shape[1] + truth.shape[1]).bit_length()
    cross = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(truth, size)), size)
    begin = cross[:, : heard.shape[1] - truth.shape[1] + 1].argmax(axis=1)
    pcm = np.take_along_axis(heard, begin[:, None] + np.arange(truth.shape[1]), axis=1)
    block = begin[:, None] // PACKET + np.arange(packets)
    sent = START_NS + PACKET_NS * np.arange(1, packets + 1)
    delay = (np.take_along_axis(released, block, axis=1) - sent) / 1e6
    delay = delay[:, packets // 5 : -10]  # once the deadline has been learned
    made_up = float(np.take_along_axis(concealed, block, axis=1).mean())
    return Heard(pcm, made_up, float(np.median(delay)), float(np.percentile(delay, 99)), float(delay.max()))


def _packets(coded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, packets, _ = coded.shape
    data = np.zeros((rows, packets, MAX_PACKET), np.uint8)
    number = np.arange(packets)
    data[:, :, 0] = 0x80
    data[:, :, 2], data[:, :, 3] = (number + 1) >> 8, (number + 1) & 255
    stamp = number * PACKET
    for byte in range(4):
        data[:, :, 4 + byte] = stamp >> (24 - 8 * byte) & 255
    data[:, :, 11] = 7
    data[:, :, HEADER : HEADER + PACKET] = coded
    return data
