"""A sound file as samples of one channel, whatever it holds."""

from pathlib import Path
from stat import S_ISREG

import numpy as np
import soundfile
from numpy.typing import NDArray


def read_mono(path: str | Path, longest_s: float) -> tuple[NDArray[np.int16], int]:
    """All channels mixed to one, i2[samples], and their rate in Hz.

    Raises OSError when there is no such file, ValueError when it holds no sound that can be read, or too much of it;
    both say why.
    """
    if not S_ISREG(Path(path).stat().st_mode):  # a pipe would be waited for
        raise ValueError("not a file")
    try:
        with soundfile.SoundFile(path) as file:
            if not 0 <= file.frames <= longest_s * file.samplerate:
                raise ValueError(f"longer than {longest_s:.0f} s")
            # By number, since GSM, which many prompts for telephones come in, cannot be read to its end otherwise. As
            # floats, since those of a file would become integers without being scaled.
            sound: NDArray[np.float32] = file.read(file.frames, dtype="float32", always_2d=True)
            rate_hz: int = file.samplerate
    except soundfile.SoundFileError as error:
        raise ValueError(f"not a sound file that can be read: {error}") from error
    mono = np.nan_to_num(sound, posinf=1.0, neginf=-1.0).mean(axis=1)
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16), rate_hz
