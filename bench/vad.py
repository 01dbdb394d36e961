"""What the ears cost and how well they hear: `python -m bench.vad [--json] [--calls N]`.

Speech is the recordings of the Debian package asterisk-core-sounds-en-wav, music that of asterisk-moh-opsound-wav (or
synthetic chords when it is missing); noise, tones and babble are made here. Everything passes µ-law first.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: as the process itself is started

import numpy as np
import soundfile
from numpy.typing import NDArray

from sipagent.rtp.vad.options import EarsOptions
from tests.vad import echo_trials, speech
from tests.vad.echo_paths import EchoPath, received, through_g711
from tests.vad.line import Line

MUSIC = speech.Path("/usr/share/asterisk/moh")
PACKETS_S = 50


def core_share(rows: int, kind: str, seconds: float = 4.0) -> dict[str, float]:
    """CPU seconds per second of line with `rows` calls on it, the harness taken off.

    `kind`: speech (the caller talks, the agent is silent), echo (the agent talks and hears itself), silence.
    """
    distinct = 20
    agent = np.stack([through_g711(speech.talk(seconds, seed)) for seed in range(distinct)])
    if kind == "echo":
        heard = np.stack([received(pcm, EchoPath("hybrid", 100, 12, seed)) for seed, pcm in enumerate(agent)])
    else:
        heard = agent if kind == "speech" else np.zeros_like(agent)
        agent = np.zeros_like(agent)
    index = np.arange(rows) % distinct
    line = Line(rows)
    step, spent, slowest = line.ears.step, [0.0], [0.0]

    def timed(now: float) -> int:
        start = time.process_time()
        count = step(now)
        took = time.process_time() - start
        spent[0] += took
        slowest[0] = max(slowest[0], took)
        return count

    line.ears.step = timed  # type: ignore[method-assign]
    line.hear_all(heard[index], agent[index])
    return {"core_share": round(spent[0] / seconds, 4), "slowest_step_ms": round(slowest[0] * 1000, 2)}


def onset_delay(calls: int) -> dict[str, float]:
    """From the first sound of a sentence to the step that tells its onset, after a second of silence."""
    line = Line(calls)
    voices = [speech.talk(2, 9000 + call) for call in range(calls)]
    line.hear_all(np.stack([through_g711(np.concatenate([speech.silence(1), v])) for v in voices]), _nothing(calls, 3))
    delays = []
    for voice, told in zip(voices, line.told, strict=True):
        first = speech.RATE_HZ + speech.first_sound(voice)
        after = [at for at, speaking in told if speaking and at >= first - 800]
        delays += [(after[0] - first) / speech.RATE_HZ * 1000] if after else []
    early = [
        (event[0][1] - speech.RATE_HZ - speech.first_sound(voice)) / speech.RATE_HZ * 1000
        for voice, event in zip(voices, line.events, strict=True)
        if event
    ]
    return {
        "told_median_ms": round(float(np.median(delays)), 1),
        "told_p90_ms": round(float(np.quantile(delays, 0.9)), 1),
        "position_median_ms": round(float(np.median(early)), 1),
        "position_p90_ms": round(float(np.quantile(early, 0.9)), 1),
        "missed": calls - len(delays),
    }


def miss_rate(calls: int, disturbance: str) -> dict[str, float]:
    """Share of speech (20 ms blocks that are loud in the clean recording) not covered, of pauses covered; percent."""
    voices = np.stack([speech.talk(8, 7000 + call) for call in range(calls)])
    clean = voices.astype(np.float32)
    rms = np.sqrt((clean**2).mean(axis=1, keepdims=True))
    if disturbance == "quiet 30 dB":
        mixed = clean * 10**-1.5
    else:
        mixed = clean + _disturbance(disturbance, voices.shape[1], calls) * rms
    mixed = np.concatenate([np.zeros((calls, 4000)), mixed], axis=1)
    line = Line(calls)
    line.hear_all(through_g711(mixed.clip(-32768, 32767).astype(np.int16)), np.zeros(mixed.shape, np.int16))
    levels = np.sqrt((clean[:, : clean.shape[1] // 160 * 160].reshape(calls, -1, 160) ** 2).mean(axis=2))
    missed, false = [], []
    for row in range(calls):
        covered = np.zeros(mixed.shape[1], bool)
        for start, end in _intervals(line.events[row], mixed.shape[1]):
            covered[start:end] = True
        blocks = covered[4000:][: levels.shape[1] * 160].reshape(-1, 160).mean(axis=1) > 0.5
        missed.append(1 - blocks[levels[row] > 300].mean())
        quiet = np.convolve(levels[row] > 60, np.ones(51), "same") == 0  # half a second off any sound
        false += blocks[quiet].tolist()
    rate = {"missed_percent": round(100 * float(np.mean(missed)), 1)}
    return rate | ({"false_percent": round(100 * float(np.mean(false)), 1)} if false else {})


def false_alarms(kind: str, seconds: float = 60.0) -> dict[str, float]:
    """Onsets per minute, and percent of the time spent in them, on sound without any speech."""
    pcm = _sound(kind, seconds)
    line = Line(1)
    line.hear_all(through_g711(pcm)[None], np.zeros((1, len(pcm)), np.int16))
    covered = sum(end - start for start, end in _intervals(line.events[0], len(pcm)))
    onsets = sum(speaking for speaking, _ in line.events[0])
    return {"onsets_per_minute": round(onsets * 60 / seconds, 1), "percent": round(100 * covered / len(pcm), 1)}


def echo_table(calls: int) -> list[dict[str, object]]:
    """False barge-ins on echo, true ones in double talk, in percent of the calls, for each line."""
    table: list[dict[str, object]] = []
    for kind, loss in (("none", 0), *((k, db) for k in ("hybrid", "speakerphone") for db in (6, 12, 20))):
        row: dict[str, object] = {"line": kind, "return_loss_db": loss}
        row["false_percent"] = _percent(echo_trials.run(kind, loss, calls).false_alarms, calls)
        if loss in (6, 20):
            ungated = echo_trials.run(kind, loss, calls, options=EarsOptions(echo=False))
            row["false_without_gate_percent"] = _percent(ungated.false_alarms, calls)
        for name, at, level in (("at 1 s", 1.0, 0.0), ("at 3 s", 3.0, 0.0), ("6 dB softer", 3.0, -6.0)):
            outcome = echo_trials.run(kind, loss, calls, caller_at_s=at, caller_db=level)
            row[f"heard {name}"] = _percent(outcome.heard, calls)
            row[f"median_ms {name}"] = round(float(np.median(outcome.delays_ms)), 0)
            row[f"p90_ms {name}"] = round(float(np.quantile(outcome.delays_ms, 0.9)), 0)
        table.append(row)
    return table


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1)


def _nothing(calls: int, seconds: float) -> NDArray[np.int16]:
    return np.zeros((calls, int(seconds * speech.RATE_HZ)), np.int16)


def _intervals(events: list[tuple[bool, int]], end: int) -> list[tuple[int, int]]:
    positions = [at for _, at in events] + ([end] if len(events) % 2 else [])
    return list(zip(positions[::2], positions[1::2], strict=True))


def _sound(kind: str, seconds: float) -> NDArray[np.int16]:
    if kind == "white noise -30 dBov":
        return speech.noise(seconds, -30)
    if kind == "tones":
        return speech.tones(seconds)
    if kind == "music":
        files = sorted(MUSIC.glob("*.wav")) if MUSIC.is_dir() else []
        pieces = [soundfile.read(path, dtype="int16")[0] for path in files]
        each = int(seconds * speech.RATE_HZ / max(1, len(pieces)))
        return np.concatenate([piece[:each] for piece in pieces]) if pieces else speech.music(seconds)
    return _babble(seconds)


def _babble(seconds: float) -> NDArray[np.int16]:
    voices = sum(speech.talk(seconds, 300 + voice).astype(np.float64) for voice in range(8))
    return np.asarray(voices / np.abs(voices).max() * 3000, np.int16)


def _disturbance(kind: str, length: int, calls: int) -> NDArray[np.float32]:
    """Noise f4 [calls, length], to be multiplied by the level of the speech."""
    if kind == "clean":
        return np.zeros((calls, length), np.float32)
    name, decibels = kind.rsplit(" ", 1)
    seconds = length / speech.RATE_HZ + 1
    raw: NDArray[np.float64]
    if name == "white":
        raw = np.random.default_rng(4).normal(0, 1, (calls, length))
    else:
        one = (_babble(seconds) if name == "babble" else _sound("music", seconds * 5)).astype(np.float64)
        raw = np.stack([np.roll(one, 997 * call)[:length] for call in range(calls)])
    raw = raw / np.sqrt((raw**2).mean(axis=1, keepdims=True)) * 10 ** (-float(decibels) / 20)
    return raw.astype(np.float32)


def measure(calls: int) -> dict[str, object]:
    """All of it."""
    return {
        "core": {
            f"{rows} {kind}": core_share(rows, kind) for rows in (100, 500) for kind in ("silence", "speech", "echo")
        },
        "onset": onset_delay(max(calls, 60)),
        "speech": {kind: miss_rate(20, kind) for kind in ("clean", "white 10", "music 10", "babble 15", "quiet 30 dB")},
        "no_speech": {kind: false_alarms(kind) for kind in ("white noise -30 dBov", "tones", "music", "babble")},
        "echo": echo_table(calls),
    }


def main() -> None:
    """Print the tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, default=40, help="calls per cell of the echo table")
    arguments = parser.parse_args()
    if not speech.SOUNDS.is_dir():
        raise SystemExit("needs the recordings of the Debian package asterisk-core-sounds-en-wav")
    result = measure(arguments.calls)
    if arguments.json:
        print(json.dumps(result))
        return
    for title in ("core", "onset", "speech", "no_speech"):
        print(f"\n{title}")
        values = result[title]
        assert isinstance(values, dict)
        for name, value in values.items():
            cells = value if not isinstance(value, dict) else "  ".join(f"{k} {v}" for k, v in value.items())
            print(f"  {name:24} {cells}")
    table = result["echo"]
    assert isinstance(table, list)
    print("\necho: barge-ins told, percent of calls; delays from the caller's first sound")
    print("  line            false  (no gate)  | at 1 s  med/p90 ms | at 3 s  med/p90 ms | 6 dB softer  med/p90 ms")
    for row in table:
        cells = "".join(
            f" | {row[f'heard {name}']:6} {row[f'median_ms {name}']:4.0f}/{row[f'p90_ms {name}']:4.0f}   "
            for name in ("at 1 s", "at 3 s", "6 dB softer")
        )
        without = row.get("false_without_gate_percent", "")
        print(f"  {row['line']:12} {row['return_loss_db']:2}  {row['false_percent']:5}   {without:>6}   {cells}")


if __name__ == "__main__":
    main()
