from pathlib import Path

import numpy as np
import pytest
import soundfile

from sipagent.rtp.control import CloseRow, ControlRecording, MediaProblem, Record, RecordingEnded
from tests.rtp.line import Line, marked, rtp
from tests.rtp.test_send import level, speak


def talk_both_ways(line: Line, milliseconds: int, first: int = 0) -> int:
    for number in range(first, first + milliseconds // 20):
        line.arrive(rtp(number, 160 * number, marked(11)))
        speak(line, level(3000, 160))
        line.tick(4)
    return first + milliseconds // 20


def finish(line: Line) -> RecordingEnded:
    line.plane._taps.shut_down()
    (ended,) = line.events_of(RecordingEnded)
    return ended


def test_both_legs_are_recorded_from_the_command_to_the_end_of_the_call(tmp_path: Path) -> None:
    line = Line().open()
    first = talk_both_ways(line, 200)
    path = tmp_path / "call.wav"
    line.do(Record(0, 1, str(path)))
    talk_both_ways(line, 1000, first)
    line.do(CloseRow(0, 1))
    ended = finish(line)
    assert ended.problem == "" and ended.duration_ms == pytest.approx(1000, abs=45)
    pcm, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == 8000 and pcm.shape[1] == 2
    far, ours = pcm[800:7000].T
    assert len(np.unique(far)) == 1 and far[0] != 0
    assert np.abs(ours.astype(int) - 3000).max() < 150


def test_while_it_is_paused_both_legs_are_silent_and_time_goes_on(tmp_path: Path) -> None:
    line = Line().open()
    path = tmp_path / "call.wav"
    line.do(Record(0, 1, str(path)))
    first = talk_both_ways(line, 400)
    line.do(ControlRecording(0, 1, "pause"))
    first = talk_both_ways(line, 400, first)
    line.do(ControlRecording(0, 1, "resume"))
    talk_both_ways(line, 400, first)
    line.do(ControlRecording(0, 1, "stop"))
    assert finish(line).duration_ms == pytest.approx(1200, abs=45)
    pcm, _ = soundfile.read(path, dtype="int16")
    assert not pcm[3600:6000].any()
    assert pcm[1000:2800].all() and pcm[7000:9000].all()


def test_a_recording_that_is_not_there_cannot_be_stopped() -> None:
    line = Line().open()
    line.do(ControlRecording(0, 1, "stop"))
    assert "not being recorded" in line.events_of(MediaProblem)[0].problem
