from pathlib import Path

import numpy as np
import pytest
import soundfile

from sipagent.codecs import comfort_noise, g711
from sipagent.rtp.control import CloseRow, ControlRecording, MediaProblem, Record, RecordingEnded
from sipagent.rtp.heard_leg import HeardLeg
from sipagent.rtp.taps import EVERY_TICKS, TURN
from tests.rtp.line import START_NS, TICK_NS, Line, marked, rtp
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


def test_a_plane_that_passes_over_some_of_its_turns_records_all_that_it_sends(tmp_path: Path) -> None:
    line = Line().open(rate_hz=16000)
    path = tmp_path / "call.wav"
    line.do(Record(0, 1, str(path)))
    for _ in range(200):
        if 40 < line.tick_number < 110 and line.tick_number % EVERY_TICKS == TURN - 1:
            line.tick_number += 1  # too late for it
            line.now_ns += TICK_NS
        if line.tick_number % 4 == 0:
            speak(line, level(3000, 320))
        line.tick()
    line.plane._taps.shut_down()
    ours = soundfile.read(path, dtype="int16")[0][2000:14000, 1]
    assert np.count_nonzero(ours) > 0.99 * len(ours)


def test_a_recording_that_is_not_there_cannot_be_stopped() -> None:
    line = Line().open()
    line.do(ControlRecording(0, 1, "stop"))
    assert "not being recorded" in line.events_of(MediaProblem)[0].problem


def test_a_recording_whose_file_cannot_be_written_may_be_begun_again(tmp_path: Path) -> None:
    line = Line().open()
    (tmp_path / "file").write_text("")
    line.do(Record(0, 1, str(tmp_path / "file" / "call.wav")))
    line.plane._taps._recorder.close()  # type: ignore[union-attr]
    first = talk_both_ways(line, 200)
    assert line.events_of(RecordingEnded)[0].problem
    line.plane._taps._recorder = None  # a thread again
    line.do(Record(0, 1, str(tmp_path / "call.wav")))
    talk_both_ways(line, 1000, first)
    line.do(CloseRow(0, 1))
    line.plane._taps.shut_down()
    assert line.events_of(RecordingEnded)[1].problem == "" and not line.events_of(MediaProblem)


EVERY_S = 10  # a click


@pytest.mark.parametrize(
    ("ppm", "seconds"), [(400, 300), (-400, 300), *(pytest.param(p, 3600, marks=pytest.mark.long) for p in (200, -200))]
)
def test_both_legs_stay_together_though_the_clocks_of_both_ends_differ(tmp_path: Path, ppm: int, seconds: int) -> None:
    random = np.random.default_rng(7)
    line = Line(rows=1).open()
    path = tmp_path / "call.flac"
    line.do(Record(0, 1, str(path)))
    noise = g711.ulaw_encode(random.integers(-900, 900, 160).astype(np.int16)).tobytes()
    click = g711.ulaw_encode(np.full(160, 16000, np.int16)).tobytes()
    period_ns = 20_000_000 * (1 + ppm / 1e6)
    waiting: list[tuple[float, int]] = []  # when it arrives, number
    number = 0
    while line.now_ns < START_NS + seconds * 1_000_000_000:
        while START_NS + number * period_ns <= line.now_ns:
            clicks = START_NS + number * period_ns
            if random.random() > 0.05:
                waiting.append((clicks + abs(random.normal(0, 8e6)), number))
            number += 1
        now = [item for item in waiting if item[0] <= line.now_ns + TICK_NS]
        waiting = [item for item in waiting if item not in now]
        for _, each in sorted(now):
            # By the far end's own clock, which is not ours: the first packet behind each EVERY_S of true time.
            true_s = each * period_ns / 1e9
            line.arrive(rtp(each, 160 * each, click if true_s % EVERY_S < period_ns / 1e9 else noise))
        if (line.now_ns - START_NS) % (EVERY_S * 1_000_000_000) < TICK_NS:
            speak(line, level(-16000, 160))
        line.tick()
    line.plane._taps.shut_down()
    pcm, _ = soundfile.read(path, dtype="int16")
    heard, sent = (np.flatnonzero(np.diff((np.abs(leg) > 12000).astype(int)) == 1) for leg in pcm.T)
    assert len(sent) == seconds // EVERY_S - 1 and len(heard) > 0.9 * len(sent)
    apart_ms = np.array([(at - sent[np.abs(sent - at).argmin()]) / 8 for at in heard])
    assert np.ptp(np.percentile(apart_ms, (2, 98))) <= 20, "a packet"
    third = len(apart_ms) // 3
    assert abs(np.median(apart_ms[:third]) - np.median(apart_ms[-third:])) <= 10


def test_the_heard_leg_is_moved_at_once_in_silence_and_by_single_samples_in_sound() -> None:
    leg = HeardLeg(8000, 0)
    silence, sound = np.zeros(800, np.int16), level(3000, 800)
    pcm, at = leg.place(sound, 30)
    assert (len(pcm), at) == (800, 0), "less than a tick is not looked at"
    pcm, at = leg.place(silence, 1000)
    assert (len(pcm), at) == (800, 1000)
    pcm, at = leg.place(silence, 1500)
    assert (len(pcm), at) == (500, 1800)
    pcm, at = leg.place(sound, 2600)
    assert (len(pcm), at) == (802, 2300)
    pcm, at = leg.place(sound, 3000)
    assert (len(pcm), at) == (798, 3102)
    noise = comfort_noise.generate(np.array([-50.0], np.float32), 800, np.random.default_rng(1))[0]
    pcm, at = leg.place(noise, 3800)
    assert (len(pcm), at) == (700, 3900), "comfort noise is silence"
    pcm, at = leg.place(np.zeros(0, np.int16), 9000)
    assert (len(pcm), at) == (0, 4600)


def test_what_is_left_out_or_doubled_is_where_the_sound_moves_least() -> None:
    wave = np.rint(8000 * np.sin(np.arange(800) * 2 * np.pi / 80)).astype(np.int16)
    for belongs, length in ((-1000, 798), (1000, 802)):
        pcm, _ = HeardLeg(8000, 0).place(wave, belongs)
        assert len(pcm) == length
        assert np.abs(np.diff(pcm.astype(int))).max() <= np.abs(np.diff(wave.astype(int))).max()


def test_speech_that_begins_within_a_piece_is_put_where_it_belongs_before_it_begins() -> None:
    leg = HeardLeg(8000, at=0)
    sound = np.full(600, 5000, np.int16)
    pcm, at = leg.place(np.concatenate([np.zeros(200, np.int16), sound]), belongs=233)
    assert at == 233 and len(pcm) == 800
    pcm, at = leg.place(sound, belongs=leg.at - 100)
    assert at == 1033 and 595 <= len(pcm) < 600, "within speech it is moved sample by sample"
    pcm, at = leg.place(np.concatenate([np.zeros(200, np.int16), sound]), belongs=leg.at - 100)
    assert len(pcm) == 700
