import numpy as np
import soxr

from sipagent.rtp.vad.options import EarsOptions
from tests.vad import speech
from tests.vad.line import Line
from tests.vad.speech import needs_recordings


def frames_of_speech(line: Line, row: int, start_s: float) -> float:
    """Share of packets since `start_s` in which the row counted as speech."""
    packets = line.probabilities[int(start_s * 50) :]
    return float(np.mean([probability[row] >= 0.5 for probability in packets]))


@needs_recordings
def test_a_spoken_sentence_has_one_onset_near_its_first_sound() -> None:
    sentences = speech.recordings(8)
    for sentence in sentences:
        line = Line(1)
        line.hear(np.concatenate([speech.silence(1), sentence, speech.silence(1)]))
        (begins, onset), *others = line.events[0]
        loud = np.flatnonzero(np.abs(sentence.astype(np.int32)) > 700)
        first_sound = 8000 + int(loud[0])
        assert begins
        assert first_sound - 2400 <= onset <= first_sound + 800
        assert others[-1][0] is False
        assert 8000 + int(loud[-1]) - 2400 <= others[-1][1] <= 8000 + len(sentence) + 2400
        assert line.woken


@needs_recordings
def test_rows_together_hear_what_each_hears_alone() -> None:
    sentences = [each[:12000] for each in speech.recordings(6)]
    together = Line(len(sentences))
    together.hear(*sentences)
    for row, sentence in enumerate(sentences):
        alone = Line(1)
        alone.hear(sentence)
        assert alone.events[0] == together.events[row]


@needs_recordings
def test_a_wideband_row_hears_the_same_words() -> None:
    sentence = np.concatenate([speech.silence(0.5), speech.recordings(1)[0], speech.silence(0.5)])
    narrow, wide = Line(1), Line(1, rate_hz=16000)
    narrow.hear(sentence)
    wide.hear(soxr.resample(sentence, 8000, 16000))
    assert len(narrow.events[0]) == len(wide.events[0])
    for (_, narrow_at), (_, wide_at) in zip(narrow.events[0], wide.events[0], strict=True):
        assert abs(wide_at / 2 - narrow_at) <= 512


@needs_recordings
def test_speech_after_two_minutes_of_music_is_heard_as_promptly_as_after_silence() -> None:
    sentence = speech.recordings(1)[0]
    delays = []
    for before in (speech.music(120), speech.tones(120), speech.silence(2)):
        line = Line(1)
        line.hear(np.concatenate([before, speech.silence(0.2), sentence]))
        start = len(before) + 1600
        onsets = [at for speaking, at in line.events[0] if speaking and at >= start - 1600]
        assert onsets, "never heard"
        delays.append(onsets[0] - start)
    assert max(delays) - min(delays) <= 2 * 256


@needs_recordings
def test_without_resets_music_deafens_the_ears() -> None:
    """The wiring: what the test above passes by is the reset."""
    sentence = speech.recordings(1)[0]
    shares = []
    for options in (EarsOptions(), EarsOptions(reset_ms=10_000_000)):
        line = Line(1, options)
        line.hear(np.concatenate([speech.music(120), sentence]))
        shares.append(frames_of_speech(line, 0, 120.0))
    assert shares[0] > shares[1]


def test_noise_tones_and_music_are_not_speech() -> None:
    line = Line(3)
    line.hear(speech.noise(12, -30), speech.tones(12), speech.music(12))
    assert line.events == [[], [], []]


def test_what_is_below_the_gate_never_reaches_the_network() -> None:
    line = Line(2)
    line.hear(speech.noise(1, -75), speech.noise(1, -40))
    quiet, loud = np.abs(line.ears._state[:, :2]).sum(axis=(0, 2))
    assert quiet == 0
    assert loud > 0


@needs_recordings
def test_a_new_call_in_the_row_begins_with_no_events() -> None:
    line = Line(1)
    line.hear(speech.recordings(1)[0][:12000])
    assert line.speaking(0)
    line.open(0, generation=2)
    assert line.table.speech_count[0] == 0
    assert line.table.speech_generation[0] == 2
    line.events[0].clear()
    line.hear(speech.silence(1))
    assert line.events[0] == []


@needs_recordings
def test_a_backlog_is_heard_in_order_and_a_lapped_row_goes_on() -> None:
    sentence = speech.recordings(1)[0][:16000]
    line = Line(1)
    table = line.table
    table.rx_pcm[0, :16000] = sentence
    table.rx_head[0] = 16000
    while line.ears.step(line.now):
        pass
    prompt = Line(1)
    prompt.hear(sentence)
    count = int(table.speech_count[0])
    assert table.speech_at[0, :count].tolist() == [at for _, at in prompt.events[0]]
    table.rx_head[0] += 10 * table.rx_pcm.shape[1]
    while line.ears.step(line.now):
        pass
    assert line.ears._position[0] > table.rx_head[0] - 256


def test_a_silent_closed_row_costs_nothing() -> None:
    line = Line(1)
    line.table.active[0] = 0
    line.table.rx_head[0] += 8000
    assert line.ears.step(line.now) == 0


@needs_recordings
def test_a_row_whose_conversation_takes_no_turns_is_not_listened_to() -> None:
    sentence = np.concatenate([speech.silence(1), *speech.recordings(1), speech.silence(1)])
    line = Line(2)
    line.table.listened[1] = 0
    line.hear(sentence, sentence)
    assert line.events[0] and not line.events[1]
    assert line.table.speech_probability[1] == 0
