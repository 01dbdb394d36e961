"""One call's audio without a network: a caller who speaks on schedule, and a record of what they heard."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sipagent.pipeline.port import SpeechEvent

PACKET_S = 0.020


@dataclass
class SimulatedLine:
    """An AudioPort on the loop's clock. Voice activity is reported as late as the real ears report it."""

    rate_hz: int = 8000
    onset_s: float = 0.06
    offset_s: float = 0.25
    gains: list[float] = field(default_factory=list)
    flushes: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._begun = asyncio.get_running_loop().time()
        self._caller = np.zeros(0, np.int16)
        self._events: list[tuple[float, SpeechEvent]] = []
        self._segments: list[tuple[float, int, NDArray[np.int16]]] = []  # (time played, playout position, pcm)
        self._queue: list[tuple[int, NDArray[np.int16]]] = []
        self._written = self._played = 0
        self._clock = self._begun
        self._flush_to: int | None = None
        self._flushed_at: int | None = None

    # ---- the caller's side

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time() - self._begun

    def speak(self, pcm: NDArray[np.int16], at_s: float | None = None) -> float:
        """The caller says `pcm`, from now or from `at_s`; returns when it ends. With voice activity to match."""
        start = int((self.now_s if at_s is None else at_s) * self.rate_hz)
        end = start + len(pcm)
        if end > len(self._caller):
            self._caller = np.pad(self._caller, (0, end - len(self._caller)))
        self._caller[start:end] = pcm
        loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 300)
        if len(loud):
            self.voice((start + int(loud[0])) / self.rate_hz, (start + int(loud[-1]) + 1) / self.rate_hz)
        return end / self.rate_hz

    def voice(self, start_s: float, end_s: float | None) -> None:
        """Report voice activity over this time; `end_s` None: its end is never reported."""
        self._events.append((start_s + self.onset_s, SpeechEvent(True, int(start_s * self.rate_hz))))
        if end_s is not None:
            self._events.append((end_s + self.offset_s, SpeechEvent(False, int(end_s * self.rate_hz))))
        self._events.sort(key=lambda event: event[0])

    def heard(self) -> list[tuple[float, NDArray[np.int16]]]:
        """What left towards the caller: (time in s, samples) by packet."""
        self._advance()
        return [(at, pcm) for at, _, pcm in self._segments]

    def heard_seconds(self) -> float:
        return sum(len(pcm) for _, pcm in self.heard()) / self.rate_hz

    # ---- AudioPort

    def received(self) -> int:
        return int(self.now_s * self.rate_hz)

    def read(self, start: int, end: int) -> NDArray[np.int16]:
        out = np.zeros(end - start, np.int16)
        last = min(end, len(self._caller))
        if start < last:
            out[: last - start] = self._caller[start:last]
        return out

    def speech_events(self) -> list[SpeechEvent]:
        due = [event for at, event in self._events if at <= self.now_s]
        self._events = [(at, event) for at, event in self._events if at > self.now_s]
        return due

    def write(self, pcm: NDArray[np.int16]) -> int:
        self._advance()
        position = self._written
        self._queue.append((position, pcm.copy()))
        self._written += len(pcm)
        return position

    def written(self) -> int:
        return self._written

    def played(self) -> int:
        self._advance()
        return self._played

    def flush(self) -> None:
        self._advance()
        self.flushes.append(self.now_s)
        self._flush_to, self._flushed_at = self._written, None

    def flushed_at(self) -> int | None:
        self._advance()
        return self._flushed_at

    def set_gain(self, gain: float) -> None:
        self.gains.append(gain)

    def pump(self) -> None:
        self._advance()

    def _advance(self) -> None:
        """Send the packets that were due since the last call, as the media plane would."""
        now = asyncio.get_running_loop().time()
        packet = int(PACKET_S * self.rate_hz)
        while self._clock + PACKET_S <= now + 1e-9:
            self._clock += PACKET_S
            if self._flush_to is not None and self._flushed_at is None:
                self._flushed_at = self._played
                self._played = self._flush_to
                self._queue = [(at, pcm) for at, pcm in self._queue if at >= self._flush_to]
            room = packet
            while room and self._queue:
                at, pcm = self._queue.pop(0)
                part, rest = pcm[:room], pcm[room:]
                self._segments.append((self._clock - self._begun, at, part))
                self._played = at + len(part)
                room -= len(part)
                if len(rest):
                    self._queue.insert(0, (at + len(part), rest))
