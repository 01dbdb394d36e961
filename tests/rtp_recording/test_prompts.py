"""Prompts: any sound file becomes samples of the row's rate, errors are for the operator."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sipagent.codecs import tones
from sipagent.errors import ConfigError
from sipagent.rtp import prompts as prompts_module
from sipagent.rtp.prompts import Prompts


def write_sine(path: Path, rate_hz: int, channels: int = 1, seconds: float = 1.0, hz: float = 500) -> Path:
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    soundfile.write(path, np.stack([0.5 * np.sin(2 * np.pi * hz * time)] * channels, axis=1), rate_hz)
    return path


@pytest.mark.parametrize("file_hz", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_any_rate_and_any_channels_become_mono_at_the_rate_of_the_row(
    tmp_path: Path, file_hz: int, channels: int, rate_hz: int
) -> None:
    pcm = Prompts().load(str(write_sine(tmp_path / "a.wav", file_hz, channels)), rate_hz)
    assert pcm.dtype == np.int16
    assert abs(len(pcm) - rate_hz) <= 1
    assert int(np.abs(np.fft.rfft(pcm, rate_hz)).argmax()) == 500
    assert np.abs(pcm).max() == pytest.approx(16384, rel=0.02)


def test_tones_are_named_with_or_without_a_plan() -> None:
    prompts = Prompts()
    np.testing.assert_array_equal(prompts.load("tone:ringback", 8000), tones.ringback(8000, "etsi"))
    np.testing.assert_array_equal(prompts.load("tone:busy/us", 16000), tones.busy(16000, "us"))
    np.testing.assert_array_equal(Prompts(plan="uk").load("tone:busy", 8000), tones.busy(8000, "uk"))
    with pytest.raises(ConfigError, match=r"tones are ringback, busy; plans etsi, us, uk"):
        prompts.load("tone:reorder", 8000)


def test_what_cannot_be_read_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = Prompts(str(tmp_path))
    with pytest.raises(ConfigError, match=r"gone\.wav: the prompt cannot be read: No such file"):
        prompts.load("gone.wav", 8000)
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(ConfigError, match="not a sound file"):
        prompts.load("text.wav", 8000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    with pytest.raises(ConfigError, match="empty"):
        prompts.load("empty.wav", 8000)
    monkeypatch.setattr(prompts_module, "MAXIMUM_PROMPT_S", 0.5)
    write_sine(tmp_path / "long.wav", 8000)
    with pytest.raises(ConfigError, match="longer than"):
        prompts.load("long.wav", 8000)


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "IMA_ADPCM", "ULAW", "ALAW", "PCM_24", "PCM_U8", "FLOAT"])
def test_what_phones_and_studios_keep_in_wav_is_read(tmp_path: Path, subtype: str) -> None:
    time = np.arange(8000) / 8000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 500 * time), 8000, subtype=subtype)
    pcm = Prompts().load(str(tmp_path / "a.wav"), 16000)
    assert int(np.abs(np.fft.rfft(pcm[:16000], 16000)).argmax()) == 500


def test_a_pipe_or_a_name_that_is_none_does_not_hold_up_the_other_prompts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for name in ("pipe.wav", ".", "a\0b.wav"):
        with pytest.raises(ConfigError, match=r"not a file|cannot be read"):
            Prompts(str(tmp_path)).load(name, 8000)


def test_samples_that_are_no_numbers_are_silent_and_too_loud_ones_are_clipped(tmp_path: Path) -> None:
    samples = np.array([0.5, np.nan, np.inf, -np.inf, 3.0, -0.5], np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    assert Prompts().load(str(tmp_path / "a.wav"), 8000).tolist() == [16384, 0, 32767, -32768, 32767, -16384]


def test_a_prompt_is_read_once_and_again_when_the_file_changed(tmp_path: Path) -> None:
    path = write_sine(tmp_path / "a.wav", 8000)
    prompts = Prompts()
    first = prompts.load(str(path), 8000)
    assert prompts.load(str(path), 8000) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    write_sine(path, 8000, hz=700)
    os.utime(path, ns=(1, 1))
    assert prompts.load(str(path), 8000) is not first


def test_the_cache_lets_go_of_what_was_used_longest_ago(tmp_path: Path) -> None:
    paths = [str(write_sine(tmp_path / f"{name}.wav", 8000)) for name in "abc"]
    prompts = Prompts(cache_samples=17000)
    first, second = (prompts.load(path, 8000) for path in paths[:2])
    assert prompts.load(paths[0], 8000) is first
    prompts.load(paths[2], 8000)
    assert prompts.load(paths[0], 8000) is first
    assert prompts.load(paths[1], 8000) is not second
