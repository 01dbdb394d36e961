"""Recorded sound for a caller, out of files of any kind."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sipagent.errors import ConfigError
from sipagent.service.worker.clip import read_clip


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE", "GSM610", "ULAW"])
def test_a_clip_is_as_loud_as_its_file_whatever_that_holds(tmp_path: Path, subtype: str) -> None:
    sound = 0.5 * np.sin(2 * np.pi * 500 * np.arange(8000) / 8000)
    soundfile.write(tmp_path / "a.wav", sound, 8000, subtype=subtype)
    clip = read_clip(tmp_path / "a.wav", "greeting")
    assert clip.rate_hz == 8000
    assert np.std(clip.pcm) == pytest.approx(16384 / np.sqrt(2), rel=0.1)


def test_what_is_no_sound_is_told_under_the_name_of_its_field(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    os.mkfifo(tmp_path / "pipe.wav")
    for name in ("text.wav", "pipe.wav", "gone.wav"):
        with pytest.raises(ConfigError, match="apology"):
            read_clip(tmp_path / name, "apology")
