"""Recordings: one time line, formats, pauses, crashes, full disks. The writer is a thread; tests wait by closing it."""

import os
import resource
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sipagent.rtp.control import RecordingEnded
from sipagent.rtp.recording import Recorder, Timeline

KEY = (3, 7)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


def constant(value: int, samples: int = 160) -> NDArray[np.int16]:
    return np.full(samples, value, np.int16)


def finish(recorder: Recorder) -> RecordingEnded:
    recorder.close()
    (ended,) = recorder.finished()
    return ended


def blocks(timeline: Timeline) -> NDArray[np.int16]:
    return np.concatenate([np.zeros((0, 2), np.int16), *timeline.take(everything=True)])


def test_the_far_end_is_left_and_we_are_right_on_one_time_line(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    recorder.start(KEY, str(path), 8000)
    for packet in range(50):
        recorder.append(KEY, constant(packet + 1), constant(-packet - 1))
    recorder.stop(KEY)
    ended = finish(recorder)
    assert ended == RecordingEnded(3, 7, str(path), 1000, "")
    pcm, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == 8000
    np.testing.assert_array_equal(pcm[:, 0], np.repeat(np.arange(1, 51), 160))
    np.testing.assert_array_equal(pcm[:, 1], -pcm[:, 0])


def test_recordings_are_private(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "new" / "call.wav"
    recorder.start(KEY, str(path), 8000)
    finish(recorder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "opus"])
def test_every_format_keeps_the_sound_and_its_length(
    recorder: Recorder, tmp_path: Path, suffix: str, rate_hz: int
) -> None:
    path = tmp_path / f"call.{suffix}"
    time = np.arange(2 * rate_hz) / rate_hz
    left = np.rint(9000 * np.sin(2 * np.pi * 500 * time)).astype(np.int16)
    right = np.rint(9000 * np.sin(2 * np.pi * 900 * time)).astype(np.int16)
    recorder.start(KEY, str(path), rate_hz)
    size = rate_hz // 50
    for at in range(0, len(left), size):
        recorder.append(KEY, left[at : at + size], right[at : at + size])
    assert finish(recorder).duration_ms == 2000
    pcm, found_hz = soundfile.read(path)
    assert found_hz == rate_hz
    assert len(pcm) == 2 * rate_hz
    peaks = np.abs(np.fft.rfft(pcm, axis=0)).argmax(axis=0) / 2
    assert peaks.tolist() == [500, 900]


def test_positions_place_the_legs_and_gaps_are_silence() -> None:
    timeline = Timeline(8000)
    timeline.place(0, constant(1), 0)
    timeline.place(1, constant(2), 80)
    timeline.place(0, constant(3), 320)
    pcm = blocks(timeline)
    assert pcm.shape == (480, 2)
    assert pcm[:, 0].tolist() == [1] * 160 + [0] * 160 + [3] * 160
    assert pcm[:, 1].tolist() == [0] * 80 + [2] * 160 + [0] * 240


def test_a_leg_that_is_silent_for_long_does_not_hold_the_other_back() -> None:
    timeline = Timeline(8000)
    for packet in range(100):
        timeline.place(0, constant(packet))
    written = sum(len(block) for block in timeline.take())
    assert written == 100 * 160 - 3200  # all but the 0.4 s for which a leg is waited for
    timeline.place(1, constant(9), 0)  # too late: that time has been written
    timeline.place(1, constant(8), 100 * 160 - 160)
    rest = blocks(timeline)
    assert len(rest) == 3200
    assert rest[:, 1].tolist() == [0] * 3040 + [8] * 160


def test_a_disk_that_stalls_for_seconds_costs_neither_leg_a_sample() -> None:
    timeline = Timeline(8000)
    for tenth in range(100):  # all in turn, with no look at what is complete between
        timeline.place(0, constant(tenth + 1, 800), tenth * 800)
        timeline.place(1, constant(-tenth - 1, 800), tenth * 800)
    pcm = blocks(timeline)
    np.testing.assert_array_equal(pcm[:, 0], np.repeat(np.arange(1, 101), 800))
    np.testing.assert_array_equal(pcm[:, 1], -pcm[:, 0])


def test_a_long_gap_becomes_silence_and_an_absurd_position_is_refused() -> None:
    timeline = Timeline(8000)
    timeline.place(0, constant(5), 60 * 8000)
    timeline.place(0, constant(5), 1 << 50)
    pcm = blocks(timeline)
    assert len(pcm) == 60 * 8000 + 160
    assert not pcm[: 60 * 8000].any()
    assert (pcm[60 * 8000 :, 0] == 5).all()


def test_while_paused_both_legs_are_silence_and_time_goes_on(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    recorder.start(KEY, str(path), 8000)
    recorder.append(KEY, constant(1), constant(2))
    recorder.pause(KEY)
    recorder.append(KEY, constant(3), constant(4))
    recorder.resume(KEY)
    recorder.append(KEY, constant(5), constant(6))
    finish(recorder)
    pcm = soundfile.read(path, dtype="int16")[0]
    assert pcm[::160].tolist() == [[1, 2], [0, 0], [5, 6]]


def test_an_unwritable_path_is_a_problem_in_words_and_the_call_goes_on(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "old.wav").write_bytes(b"precious")
    recorder.start((1, 1), str(tmp_path / "file" / "call.wav"), 8000)
    recorder.start((2, 1), str(tmp_path / "old.wav"), 8000)
    recorder.start((3, 1), str(tmp_path / "call.mp3"), 8000)
    recorder.append((1, 1), constant(1), constant(1))
    recorder.stop((1, 1))
    recorder.close()
    problems = [(ended.row, ended.problem) for ended in recorder.finished()]
    assert problems[0][0] == 1
    assert problems[0][1] in ("Not a directory", "File exists")
    assert problems[1] == (2, "File exists")
    assert problems[2] == (3, "recordings are wav, flac, opus, ogg, not 'mp3'")
    assert (tmp_path / "old.wav").read_bytes() == b"precious"


def test_a_second_start_is_refused_and_the_first_recording_goes_on(recorder: Recorder, tmp_path: Path) -> None:
    recorder.start(KEY, str(tmp_path / "a.wav"), 8000)
    recorder.start(KEY, str(tmp_path / "b.wav"), 8000)
    recorder.append(KEY, constant(1), constant(1))
    recorder.close()
    assert [(e.path[-5:], e.duration_ms, e.problem) for e in recorder.finished()] == [
        ("b.wav", 0, "this call is being recorded already"),
        ("a.wav", 20, ""),
    ]


@pytest.mark.parametrize("suffix", ["wav", "flac", "opus"])
def test_a_full_disk_ends_the_recording_with_a_problem(recorder: Recorder, tmp_path: Path, suffix: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(1).integers(-30000, 30000, 16000).astype(np.int16)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        recorder.start(KEY, str(tmp_path / f"call.{suffix}"), 8000)
        for _ in range(10):
            recorder.append(KEY, noise, noise[::-1])
        recorder.stop(KEY)
        ended = finish(recorder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.problem == "File too large", "in the words of the system, for a disk that is full too"
    assert ended.duration_ms < 20000


@pytest.mark.parametrize("suffix", ["wav", "flac", "opus"])
def test_a_disk_that_is_full_from_the_start_is_told_and_nobody_elses_file_is_closed(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    closed: list[int] = []
    close = os.close

    def watched(descriptor: int) -> None:
        os.fstat(descriptor)  # it is open still, and ours
        closed.append(descriptor)
        close(descriptor)

    monkeypatch.setattr("sipagent.rtp.recording.os.close", watched)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        recorder.start(KEY, str(tmp_path / f"call.{suffix}"), 8000)
        recorder.append(KEY, np.ones(8000, np.int16), np.ones(8000, np.int16))
        recorder.stop(KEY)
        ended = finish(recorder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.problem == "File too large"
    assert len(closed) == 1


def test_a_wav_file_that_can_grow_no_more_ends_alone_and_holds_all_until_then(tmp_path: Path) -> None:
    recorder = Recorder(interval_s=0.01)
    recorder.start(KEY, str(tmp_path / "long.wav"), 16000)
    recorder.start((1, 1), str(tmp_path / "short.wav"), 16000)

    def pass_a_day() -> None:
        descriptor = recorder._open[KEY].descriptor
        os.ftruncate(descriptor, (1 << 32) - 700)  # most of it is a hole
        os.lseek(descriptor, 0, os.SEEK_END)

    recorder._writer.do(pass_a_day)
    ended: list[RecordingEnded] = []
    for _ in range(100):
        if not ended:
            recorder.append(KEY, constant(1), constant(1))
            time.sleep(0.02)
            ended = recorder.finished()
    assert ended[0].problem == "a WAV file holds no more than 4 GB"
    assert (1 << 32) - 700 <= Path(ended[0].path).stat().st_size < 1 << 32
    recorder.append((1, 1), constant(1), constant(1))
    assert finish(recorder).duration_ms == 10, "other recordings go on"


def test_a_disk_that_is_too_slow_costs_samples_and_not_time_or_memory(tmp_path: Path) -> None:
    recorder = Recorder(backlog_samples=1000)
    gate = threading.Event()

    def hang() -> None:
        gate.wait(10)

    recorder._writer.do(hang)  # the disk
    path = tmp_path / "call.wav"
    recorder.start(KEY, str(path), 8000)
    for packet in range(10):
        recorder.append(KEY, constant(packet + 1), constant(packet + 1))
    assert recorder._put <= 1000
    gate.set()
    recorder.stop(KEY)
    ended = finish(recorder)
    assert ended.problem == "the disk was too slow: 140 ms are silent"
    assert ended.duration_ms == 200
    pcm = soundfile.read(path, dtype="int16")[0]
    assert pcm[::160, 0].tolist() == [1, 2, 3] + [0] * 7


CRASH = """
import os, sys, threading, numpy as np
from sipagent.rtp.recording import Recorder
recorder = Recorder(interval_s=0.02)
recorder.start((1, 1), sys.argv[1], 8000)
noise = np.random.default_rng(1).integers(-9000, 9000, 24000).astype(np.int16)
recorder.append((1, 1), noise, noise)
threading.Event().wait(0.5)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("suffix", ["wav", "opus", "flac"])
def test_a_crash_loses_at_most_one_second(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"call.{suffix}"
    subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False, timeout=30)
    frames = len(soundfile.read(path)[0])
    assert frames == soundfile.info(path).frames
    assert frames >= 2 * 8000
    if suffix == "wav":
        assert int.from_bytes(path.read_bytes()[40:44], "little") == path.stat().st_size - 44
