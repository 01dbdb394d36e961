import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.codecs import g711, level
from sipagent.rtp.table import GAUGE
from tests.rtp.line import Line, rtp, talk
from tests.rtp.test_send import speak


def gauge(line: Line, name: str) -> float:
    return float(line.table.gauges[0, GAUGE[name]])


def tone(amplitude: float, packets: int) -> NDArray[np.int16]:
    time = np.arange(packets * 160)
    return (amplitude * np.sin(2 * np.pi * 440 / 8000 * time)).astype(np.int16)


def packets(pcm: NDArray[np.int16]) -> list[tuple[int, bytes]]:
    coded = g711.ulaw_encode(pcm).reshape(-1, 160)
    return [(20 * n, rtp(n, 160 * n, payload.tobytes())) for n, payload in enumerate(coded)]


def say(line: Line, pcm: NDArray[np.int16]) -> None:
    line.table.tx_pcm[0, : len(pcm)] = pcm
    line.table.tx_head[0] = len(pcm)


def test_levels_are_unknown_until_somebody_speaks() -> None:
    line = Line().open()
    line.run_ms(2000)
    assert gauge(line, "level_in_dbov") == gauge(line, "level_out_dbov") == gauge(line, "noise_floor_dbov") == -127


def test_the_level_heard_is_that_of_the_speech_and_not_of_the_pauses() -> None:
    line = Line().open()
    silence = np.zeros(160 * 50, np.int16)
    speech = tone(3276.8, 50)
    talk(line, packets(np.concatenate([speech, silence, speech, silence, silence])), until_ms=5200)
    assert gauge(line, "level_in_dbov") == pytest.approx(-23, abs=0.7)


def test_the_level_sent_is_measured_behind_gain_and_mix() -> None:
    line = Line().open()
    line.table.tx_gain[0] = 0.5
    say(line, tone(3276.8, 150))
    line.run_ms(3000)
    assert gauge(line, "level_out_dbov") == pytest.approx(-29, abs=0.7)


def test_clipped_samples_are_counted() -> None:
    line = Line().open()
    loud = np.clip(3 * tone(32000.0, 100).astype(np.int32), -32768, 32767).astype(np.int16)
    talk(line, packets(loud), until_ms=2600)
    clipped = int(level.clipped(g711.ulaw_decode(g711.ulaw_encode(loud))[None])[0])
    assert clipped > 1000
    assert line.counter("clipped_samples") == pytest.approx(clipped, rel=0.3)
    quiet = Line().open()
    talk(quiet, packets(tone(8000, 100)), until_ms=2600)
    assert quiet.counter("clipped_samples") == 0


def test_double_talk_is_counted_where_both_speak() -> None:
    line = Line().open()
    say(line, tone(3000, 100))
    talk(line, packets(tone(3000, 150)), until_ms=3000)
    assert 75 <= line.counter("double_talk_packets") <= 125
    alone = Line().open()
    talk(alone, packets(tone(3000, 150)), until_ms=3000)
    assert alone.counter("double_talk_packets") == 0


def test_noise_behind_speech_is_the_floor() -> None:
    line = Line().open()
    noise = (np.random.default_rng(3).standard_normal(160 * 400) * 32768 * 10 ** (-50 / 20)).astype(np.int16)
    talk(line, packets(noise), until_ms=8000)
    assert gauge(line, "noise_floor_dbov") == pytest.approx(-50, abs=3)


def test_a_caller_in_a_loud_place_is_not_one_who_speaks_all_the_time() -> None:
    line = Line().open()
    random = np.random.default_rng(3)
    count = 160 * 800
    noise = random.standard_normal(count) * 32768 * 10 ** (-40 / 20)
    turns = np.arange(count) // 8000 % 2 == 1  # of a second each
    speech = 32768 * 10 ** (-17 / 20) * np.sin(np.arange(count) * 2 * np.pi * 300 / 8000) * turns
    heard, ours = (noise + speech).astype(np.int16), (~turns * tone(3000, 800)).astype(np.int16)
    for at_ms, packet in packets(heard):
        line.arrive(packet)
        speak(line, ours[8 * at_ms : 8 * at_ms + 160])
        line.tick(4)
    assert gauge(line, "noise_floor_dbov") == pytest.approx(-40, abs=1.5)
    assert gauge(line, "level_in_dbov") == pytest.approx(-20, abs=0.3)
    assert line.counter("double_talk_packets") < 40


def test_a_new_call_begins_without_the_levels_of_the_one_before() -> None:
    line = Line().open()
    say(line, tone(3000, 100))
    talk(line, packets(tone(3000, 100)), until_ms=2000)
    assert gauge(line, "level_in_dbov") > -30
    line.open(generation=2)
    assert gauge(line, "level_in_dbov") == gauge(line, "level_out_dbov") == -127
