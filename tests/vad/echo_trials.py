"""Calls whose line sends the agent's own words back, many in one table, with or without a caller who talks as well."""

from dataclasses import dataclass

import numpy as np
import soxr

from sipagent.rtp.vad.options import EarsOptions
from tests.vad import speech
from tests.vad.echo_paths import EchoPath, received, through_g711
from tests.vad.line import Line

AGENT_FROM_S = 0.5
AGENT_UNTIL_S = 6.0
LENGTH_S = 7.0
HEARD_WITHIN_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """Of `calls`: how many had an onset before the caller spoke, how many told the caller's within a second."""

    calls: int
    false_alarms: int
    heard: int
    delays_ms: tuple[float, ...]


def run(
    kind: str,
    return_loss_db: float,
    calls: int,
    *,
    caller_at_s: float | None = None,
    caller_db: float = 0.0,
    options: EarsOptions | None = None,
    rate_hz: int = 8000,
    first_seed: int = 0,
) -> Outcome:
    """Delays are spread from 20 to 300 ms; the caller begins within a second of `caller_at_s`, `caller_db` louder."""
    rng = np.random.default_rng(first_seed + 5)
    sent, heard, begin = [], [], []
    for call in range(first_seed, first_seed + calls):
        agent = np.zeros(int(LENGTH_S * speech.RATE_HZ), np.int16)
        start, end = int(AGENT_FROM_S * speech.RATE_HZ), int(AGENT_UNTIL_S * speech.RATE_HZ)
        agent[start:end] = through_g711(speech.talk(AGENT_UNTIL_S - AGENT_FROM_S, call))
        path = EchoPath(kind, rng.uniform(20, 300), return_loss_db, call)
        caller, first = None, len(agent)
        if caller_at_s is not None:
            gain = 10 ** (caller_db / 20)
            voice = (speech.talk(2, 5000 + call) * gain).astype(np.int16)
            caller = np.concatenate([speech.silence(caller_at_s + rng.uniform(0, 1)), voice])
            first = len(caller) - len(voice) + speech.first_sound(voice, int(700 * gain))
        sent.append(agent)
        heard.append(received(agent, path, caller))
        begin.append(first)
    factor = rate_hz // speech.RATE_HZ
    line = Line(calls, options, rate_hz=rate_hz)
    if factor > 1:
        sent = [soxr.resample(pcm, speech.RATE_HZ, rate_hz) for pcm in sent]
        heard = [soxr.resample(pcm, speech.RATE_HZ, rate_hz) for pcm in heard]
    line.hear_all(np.stack(heard), np.stack(sent))
    false_alarms, delays_ms = 0, []
    for told, first in zip(line.told, begin, strict=True):
        onsets = [at / factor for at, speaking in told if speaking]
        false_alarms += any(at < first for at in onsets)
        after = [at - first for at in onsets if 0 <= at - first < HEARD_WITHIN_S * speech.RATE_HZ]
        delays_ms += [delay / speech.RATE_HZ * 1000 for delay in after[:1]]
    return Outcome(calls, false_alarms, len(delays_ms), tuple(delays_ms))
