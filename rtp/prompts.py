"""What the Play command names: prompts from sound files, and tones, as samples at the rate of the row."""

from collections import OrderedDict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import tones
from sipagent.codecs.resample import resample
from sipagent.errors import ConfigError
from sipagent.rtp.sound_file import read_mono

TONE_PREFIX: Final = "tone:"
MAXIMUM_PROMPT_S: Final = 600.0  # a longer file is refused: at 8 kHz this one takes 10 MB
CACHE_SAMPLES: Final = 16_000_000  # 32 MB: half an hour at 8 kHz


class Prompts:
    """Loads prompts and keeps those that were used last; one instance belongs to one media plane.

    Loading reads a file, so it is done when the Play command comes, ahead of the tick that needs the samples.
    """

    def __init__(self, directory: str = "", cache_samples: int = CACHE_SAMPLES, plan: str = "etsi") -> None:
        """Relative paths are taken from `directory`; `plan` is the national plan of tones that name none."""
        self._directory = Path(directory)
        self._cache_samples = cache_samples
        self._plan = plan
        self._cache: OrderedDict[tuple[str, int, int], NDArray[np.int16]] = OrderedDict()
        self._cached = 0

    def load(self, source: str, rate_hz: int) -> NDArray[np.int16]:
        """Samples of `source` at `rate_hz`, i2[n], read-only: a sound file (any rate, any channels) or a tone.

        Tones are `tone:ringback` and `tone:busy`, with a plan behind a slash when another is meant: `tone:busy/us`.
        Raises ConfigError, which says what is wrong with the file, in words for the operator.
        """
        if source.startswith(TONE_PREFIX):
            key = (source, rate_hz, 0)
        else:
            path = self._directory / source
            try:
                key = (str(path), rate_hz, path.stat().st_mtime_ns)  # a file that was replaced is read again
            except (OSError, ValueError) as error:  # a name may hold a zero octet
                raise ConfigError(source, f"the prompt cannot be read: {getattr(error, 'strerror', error)}") from error
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        pcm = self._tone(source, rate_hz) if source.startswith(TONE_PREFIX) else _read(key[0], source, rate_hz)
        pcm = pcm.view()
        pcm.flags.writeable = False
        self._remember(key, pcm)
        return pcm

    def _remember(self, key: tuple[str, int, int], pcm: NDArray[np.int16]) -> None:
        self._cache[key] = pcm
        self._cached += len(pcm)
        while self._cached > self._cache_samples and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1])

    def _tone(self, source: str, rate_hz: int) -> NDArray[np.int16]:
        name, _, plan = source.removeprefix(TONE_PREFIX).partition("/")
        makers = {"ringback": tones.ringback, "busy": tones.busy}
        try:
            return makers[name](rate_hz, plan or self._plan)
        except KeyError as error:
            known = f"{', '.join(makers)}; plans {', '.join(tones.BUSY)}"
            raise ConfigError(source, "there is no such tone", f"tones are {known}") from error


def _read(path: str, source: str, rate_hz: int) -> NDArray[np.int16]:
    try:
        mono, file_hz = read_mono(path, MAXIMUM_PROMPT_S)
    except ValueError as error:
        raise ConfigError(source, f"the prompt is {error}") from error
    if not len(mono):
        raise ConfigError(source, "the prompt is empty")
    return resample(mono, file_hz, rate_hz)
