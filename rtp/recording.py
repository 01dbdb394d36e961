"""Recordings of calls: both legs on one time line, left the far end, right us, streamed to disk.

The media loop only hands over arrays; one thread for all rows opens, encodes, writes and closes. Nothing here blocks
the caller: when the disk is too slow, samples are left out, and stand in the file as silence, so that time stays true.
A file that cannot be opened or written ends that recording with a `problem`, and never the call.

    media loop:  start ─ append ─ append ─ pause ─ append ─ resume ─ append ─ stop            finished()
                   │ queue (bounded in samples)                                                   ▲
    thread:      open ── every 250 ms: merge the legs, encode, write, header ─────────── close ───┘
"""

import errno
import os
import queue
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from sipagent.rtp.control import RecordingEnded
from sipagent.rtp.writer_thread import WriterThread

RowKey = tuple[int, int]  # row, generation
FORMATS: Final = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS"), "ogg": ("OGG", "OPUS")}
WRITE_INTERVAL_S: Final = 0.25
HOLD_S: Final = 0.4  # how long a leg may lag behind the other before the gap is written as silence
BACKLOG_SAMPLES: Final = 16_000_000  # handed over and not yet written, all rows together: 32 MB
WAV_HEADER: Final = 44  # octets before the samples, for 16-bit PCM
WAV_OCTETS: Final = (1 << 32) - 1  # of a file, whose header counts them in 32 bits: 37 hours at 8 kHz
FLAC_BLOCK: Final = 4096  # samples that libsndfile encodes at once
FLAC_TOTAL_SAMPLES: Final = 18  # octets before the 64 bits that end in the number of samples
OGG_PAGE_MS: Final = 400.0
SFC_SET_OGG_PAGE_LATENCY_MS: Final = 0x1302  # sndfile.h, since 1.1.0; soundfile has no name for it
PROBE_OCTETS: Final = 65_536  # what the system refused was less: two seconds of WAV
MAXIMUM_JUMP_S: Final = 600  # a position further ahead than this is a mistake and not a gap


class Timeline:
    """Merges two legs, which arrive in pieces at their own pace, into stereo blocks; positions count from the start."""

    def __init__(self, rate_hz: int) -> None:
        self._hold = round(HOLD_S * rate_hz)
        self._maximum_jump = MAXIMUM_JUMP_S * rate_hz
        self._window = np.zeros((2 * rate_hz, 2), np.int16)
        self._base = 0  # position of window[0]: all before has been taken
        self._ends = [0, 0]
        self._ready: list[NDArray[np.int16]] = []

    @property
    def end(self) -> int:
        """Position behind the last sample of the longer leg."""
        return max(self._ends)

    def place(self, leg: int, pcm: NDArray[np.int16], position: int | None = None, silent: bool = False) -> None:
        """Put pcm i2[n] of leg 0 or 1 at `position` (default: where the leg ends); what comes too late is left out."""
        at = self._ends[leg] if position is None else position
        end = at + len(pcm)
        if end > self.end + self._maximum_jump:
            return
        pcm = pcm[max(0, self._base - at) :]
        at = max(at, self._base)
        while len(pcm):
            if at >= self._base + len(self._window):
                # Half of it: while the disk stalls one leg is told of before the other, which must find room yet.
                self._advance(min(at, self._base + len(self._window) // 2))
                continue
            start = at - self._base
            piece = pcm[: len(self._window) - start]
            if not silent:
                self._window[start : start + len(piece), leg] = piece
            at += len(piece)
            pcm = pcm[len(piece) :]
        self._ends[leg] = max(self._ends[leg], end)

    def take(self, everything: bool = False) -> Iterator[NDArray[np.int16]]:
        """Blocks i2[n, 2] that are complete: both legs have come, or one is later than it may be."""
        upto = self.end if everything else max(min(self._ends), self.end - self._hold)
        while upto > self._base:
            self._advance(min(upto, self._base + len(self._window)))
        ready, self._ready = self._ready, []
        yield from ready

    def _advance(self, upto: int) -> None:
        count = upto - self._base
        self._ready.append(self._window[:count].copy())
        self._window[: -count or None] = self._window[count:]
        self._window[len(self._window) - count :] = 0
        self._base = upto


@dataclass(slots=True)
class _Recording:
    """One open file, known to the writer thread alone."""

    key: RowKey
    path: str
    rate_hz: int
    file: soundfile.SoundFile
    descriptor: int  # of the same file
    timeline: Timeline
    paused: bool = False
    written: int = 0
    left_out: int = 0  # samples of either leg for which the backlog had no room


class Recorder:
    """All recordings of a media plane and the one thread that writes them; the methods may be called by one thread."""

    def __init__(self, backlog_samples: int = BACKLOG_SAMPLES, interval_s: float = WRITE_INTERVAL_S) -> None:
        self._limit = backlog_samples
        self._put = 0  # samples handed over; only the caller's thread writes it
        self._taken = 0  # samples taken; only the writer thread writes it
        self._missing: dict[RowKey, list[int]] = {}  # samples of each leg that found no room, told with the next append
        self._done: queue.SimpleQueue[RecordingEnded] = queue.SimpleQueue()
        self._open: dict[RowKey, _Recording] = {}
        self._writer = WriterThread("recorder", interval_s, self._write_all, self._stop_all)
        self._writer.start()

    def start(self, key: RowKey, path: str, rate_hz: int) -> None:
        """Begin a file for `key` at position 0; its suffix (wav, flac, opus) is the format, its mode is 0600.

        Whatever goes wrong is told by `finished`. A file that exists already is not written over.
        """
        self._writer.do(lambda: self._start(key, path, rate_hz))

    def append(
        self,
        key: RowKey,
        received: NDArray[np.int16],
        sent: NDArray[np.int16],
        received_at: int | None = None,
        sent_at: int | None = None,
    ) -> None:
        """Hand over the next samples of both legs, i2[n] and i2[m], either may be empty; nobody may change them later.

        Positions count samples since `start`; without one a leg goes on where it ended.
        """
        samples = len(received) + len(sent)
        if self._put - self._taken + samples > self._limit:
            missing = self._missing.setdefault(key, [0, 0])
            missing[0] += len(received)
            missing[1] += len(sent)
            return
        self._put += samples
        gap = self._missing.pop(key, None)
        self._writer.do(lambda: self._append(key, received, sent, received_at, sent_at, gap))

    def pause(self, key: RowKey) -> None:
        """Write silence for both legs from here on."""
        self._writer.do(lambda: self._pause(key, True))

    def resume(self, key: RowKey) -> None:
        """Write the legs again."""
        self._writer.do(lambda: self._pause(key, False))

    def stop(self, key: RowKey) -> None:
        """Close the file once all that was handed over is written; `finished` then tells of it."""
        gap = self._missing.pop(key, None)
        self._writer.do(lambda: self._stop(key, gap))

    def finished(self) -> list[RecordingEnded]:
        """The recordings that have ended since the last call of this method."""
        ended = []
        while not self._done.empty():
            ended.append(self._done.get())
        return ended

    def close(self, timeout_s: float = 5.0) -> None:
        """Close every file and end the thread; waits for the disk for at most `timeout_s`."""
        self._writer.close(timeout_s)

    # ---- the writer thread

    def _write_all(self) -> None:
        for key in list(self._open):
            self._write(key)

    def _stop_all(self) -> None:
        for key in list(self._open):
            self._stop(key)

    def _start(self, key: RowKey, path: str, rate_hz: int) -> None:
        if key in self._open:
            self._report(key, path, 0, "this call is being recorded already")
            return
        try:
            file, descriptor = _open_file(path, rate_hz)
        except (OSError, soundfile.SoundFileError) as error:
            self._report(key, path, 0, _problem(error))
            return
        self._open[key] = _Recording(key, path, rate_hz, file, descriptor, Timeline(rate_hz))

    def _append(
        self,
        key: RowKey,
        received: NDArray[np.int16],
        sent: NDArray[np.int16],
        received_at: int | None,
        sent_at: int | None,
        gap: list[int] | None,
    ) -> None:
        self._taken += len(received) + len(sent)
        recording = self._open.get(key)
        if recording is not None:
            _leave_out(recording, gap)
            recording.timeline.place(0, received, received_at, recording.paused)
            recording.timeline.place(1, sent, sent_at, recording.paused)

    def _pause(self, key: RowKey, paused: bool) -> None:
        recording = self._open.get(key)
        if recording is not None:
            recording.paused = paused

    def _stop(self, key: RowKey, gap: list[int] | None = None) -> None:
        if key in self._open:
            _leave_out(self._open[key], gap)
        self._write(key, everything=True)
        if key in self._open:
            self._end(key, "")

    def _write(self, key: RowKey, everything: bool = False) -> None:
        recording = self._open.get(key)
        if recording is None:
            return
        try:
            wrote = False
            for block in recording.timeline.take(everything):
                if _is_full(recording, block.nbytes):
                    self._end(key, "a WAV file holds no more than 4 GB")
                    return
                recording.file.write(block)
                recording.written += len(block)
                wrote = True
            if wrote:
                recording.file.flush()
                _update_header(recording)
        except (OSError, soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts on a short write
            self._end(key, _refusal(recording.descriptor) or _problem(error))

    def _end(self, key: RowKey, problem: str) -> None:
        recording = self._open.pop(key)
        try:
            recording.file.close()
        except (OSError, soundfile.SoundFileError) as error:
            problem = problem or _problem(error)
        finally:
            os.close(recording.descriptor)
        if recording.left_out and not problem:
            problem = f"the disk was too slow: {recording.left_out * 500 // recording.rate_hz} ms are silent"
        self._report(key, recording.path, recording.written * 1000 // recording.rate_hz, problem)

    def _report(self, key: RowKey, path: str, duration_ms: int, problem: str) -> None:
        self._done.put(RecordingEnded(key[0], key[1], path, duration_ms, problem))


def _leave_out(recording: _Recording, gap: list[int] | None) -> None:
    for leg, samples in enumerate(gap or ()):
        recording.timeline.place(leg, np.broadcast_to(np.int16(0), samples))
        recording.left_out += samples


def _is_full(recording: _Recording, octets: int) -> bool:
    """Whether the format has no room for so many octets more."""
    return recording.file.format == "WAV" and os.fstat(recording.descriptor).st_size + octets > WAV_OCTETS


def _open_file(path: str, rate_hz: int) -> tuple[soundfile.SoundFile, int]:
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in FORMATS:
        raise OSError(errno.EINVAL, f"recordings are {', '.join(FORMATS)}, not {suffix!r}")
    container, subtype = FORMATS[suffix]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # A recording is private: nobody but the service reads it, and an older one is never written over.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    # libsndfile would close the descriptor when it fails, and we could not know: a second close might be of the socket
    # of another call that the media loop has just opened under the same number.
    try:
        file = soundfile.SoundFile(descriptor, "w", rate_hz, 2, subtype=subtype, format=container, closefd=False)
    except (OSError, soundfile.SoundFileError) as error:
        problem = _refusal(descriptor) or _problem(error)
        os.close(descriptor)
        raise OSError(errno.EIO, problem) from error
    if subtype == "OPUS":
        _set_page_latency(file)
    return file, descriptor


def _update_header(recording: _Recording) -> None:
    """Bring the lengths in the header up to date, which libsndfile does at close: a crash leaves a file that plays."""
    descriptor = recording.descriptor
    if recording.file.format == "WAV":  # the sizes of the RIFF chunk and of the data chunk
        size = os.fstat(descriptor).st_size
        os.pwrite(descriptor, struct.pack("<I", size - 8), 4)
        os.pwrite(descriptor, struct.pack("<I", size - WAV_HEADER), WAV_HEADER - 4)
    elif recording.file.format == "FLAC":  # STREAMINFO (RFC 9639 §8.2): the last 36 of these 64 bits
        whole = recording.written // FLAC_BLOCK * FLAC_BLOCK  # what the encoder has not put out yet does not count
        (word,) = struct.unpack(">Q", os.pread(descriptor, 8, FLAC_TOTAL_SAMPLES))
        os.pwrite(descriptor, struct.pack(">Q", word >> 36 << 36 | whole), FLAC_TOTAL_SAMPLES)


def _set_page_latency(file: soundfile.SoundFile) -> None:
    """Write Ogg pages of 0.4 s: libsndfile holds back 1 s by default, and a crash may cost no more than that in all."""
    milliseconds = soundfile._ffi.new("double*", OGG_PAGE_MS)
    soundfile._snd.sf_command(file._file, SFC_SET_OGG_PAGE_LATENCY_MS, milliseconds, 8)


def _refusal(descriptor: int) -> str:
    """Why the system takes no more octets into a file, "" if it does; libsndfile keeps that to itself."""
    size = os.fstat(descriptor).st_size
    try:
        os.posix_fallocate(descriptor, size, PROBE_OCTETS)
        os.ftruncate(descriptor, size)
    except OSError as error:
        return error.strerror or ""
    return ""


def _problem(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or "short write: is the disk full?"
