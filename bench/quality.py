"""How a bad line sounds: PESQ (ITU-T P.862, narrow band, MOS-LQO) by loss, for each way of concealing, and by jitter.

    python -m bench.quality [--quick] [--json] [--plot quality.png]

Five texts times eight seeds per figure, G.711 µ-law, 20 ms packets, losses drawn at random or in bursts of two. µ-law
itself is the ceiling, at about 4.15. Of the two columns that are ours, `ours` knows only what went before the gap, and
`ours+next` also the packet behind it, by whose arrival the receiver noticed the gap. Jitter goes through the whole
receiver, in virtual time (`bench/jitter.py`), with the delay that it spends.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from bench import jitter
from sipagent.codecs import g711
from sipagent.codecs.concealment import Concealment
from sipagent.codecs.resample import resample

RATE_HZ: Final = 8000
PACKET: Final = 160
TEXT_S: Final = 10
RECORDINGS: Final = Path("/usr/share/asterisk/sounds/en_US_f_Allison")  # Debian: asterisk-core-sounds-en-wav
FILES: Final = ("demo-instruct", "priv-callee-options", "demo-congrats", "basic-pbx-ivr-main", "demo-echotest")
SENTENCES: Final = (
    "Your order left the warehouse this morning and should be with you by Thursday at the latest, unless it snows. ",
    "Please tell me the number of the invoice, and I will look up which of the items was charged twice, and when. ",
    "The office is open from nine until half past five, and on Saturdays until noon; would you like to come by? ",
    "I have moved your appointment to the fourteenth of March at a quarter to ten. You will get a message shortly. ",
    "If the light on the router keeps blinking, hold the small button for ten seconds, then wait for two minutes. ",
)
LONGEST_BRIDGED: Final = 3  # packets; a longer gap has begun to play before its end is known
Pcm = NDArray[np.int16]
Lost = NDArray[np.bool_]


def texts() -> Pcm:
    """Five texts, i2[5, samples]: the packaged recordings, or speech from the offline synthesiser."""
    if all((RECORDINGS / f"{name}.wav").exists() for name in FILES):
        clips = [soundfile.read(RECORDINGS / f"{name}.wav", dtype="int16")[0] for name in FILES]
    else:
        clips = _synthesised()
    return np.stack([np.resize(clip, TEXT_S * RATE_HZ) for clip in clips])


def _synthesised() -> list[Pcm]:
    from hibari import SAMPLE_RATE, Hibari

    voice = Hibari()
    clips = []
    for seed, sentence in enumerate(SENTENCES):
        speech = voice(sentence * 2, seed=seed)
        clips.append(resample(np.rint(np.clip(speech, -1, 1) * 32767).astype(np.int16), SAMPLE_RATE, RATE_HZ))
    return clips


def losses(loss: float, burst: int, seed: int, packets: int) -> Lost:
    """Which packets are lost, bool[packets]; bursts have `burst` packets each."""
    random = np.random.default_rng([seed, burst, round(loss * 10_000)])
    begins = random.random(packets) < 1 - (1 - loss) ** (1 / burst)
    lost: Lost = begins.copy()
    for late in range(1, burst):
        lost[late:] |= begins[: packets - late]
    lost[:2] = False
    return lost


def silence(packets: Pcm, lost: Lost) -> Pcm:
    return np.where(lost[:, :, None], np.int16(0), packets)


def repeat(packets: Pcm, lost: Lost) -> Pcm:
    latest = np.maximum.accumulate(np.where(lost, 0, np.arange(lost.shape[1])), axis=1)
    return np.take_along_axis(packets, latest[:, :, None], axis=1)


def ours(packets: Pcm, lost: Lost) -> Pcm:
    return _concealed(packets, lost, longest_bridged=0)


def ours_with_next(packets: Pcm, lost: Lost) -> Pcm:
    return _concealed(packets, lost, longest_bridged=LONGEST_BRIDGED)


def _concealed(packets: Pcm, lost: Lost, longest_bridged: int) -> Pcm:
    """All rows through one `Concealment`, i2[rows, packets, PACKET], gaps of up to `longest_bridged` from both ends."""
    rows, count, _ = packets.shape
    state = Concealment(rows, RATE_HZ)
    out = packets.copy()
    todo = lost.copy()
    following = np.full((rows, count + 1), count)  # index of the next packet that came
    for index in range(count - 1, -1, -1):
        following[:, index] = np.where(lost[:, index], following[:, index + 1], index)
    for index in range(count):
        gap = np.where(todo[:, index], following[:, index] - index, 0)
        gap[following[:, index] >= count] = longest_bridged + 1
        for length in range(1, longest_bridged + 1):
            bridged = np.flatnonzero(gap == length)
            if len(bridged) and todo[bridged, index].all():
                pcm = state.conceal(bridged, length * PACKET, packets[bridged, index + length])
                out[bridged, index : index + length] = pcm.reshape(-1, length, PACKET)
                todo[bridged, index : index + length] = False
        open_ended = np.flatnonzero(todo[:, index])
        if len(open_ended):
            out[open_ended, index] = state.conceal(open_ended, PACKET)
        good = np.flatnonzero(~lost[:, index])
        out[good, index] = state.remember(good, packets[good, index])
    return out


WAYS: Final[dict[str, Callable[[Pcm, Lost], Pcm]]] = {
    "silence": silence,
    "repeat": repeat,
    "ours": ours,
    "ours+next": ours_with_next,
}


def score(pair: tuple[Pcm, Pcm]) -> float:
    """PESQ-NB as MOS-LQO of (reference, degraded)."""
    from pesq import pesq

    return float(pesq(RATE_HZ, pair[0], pair[1], "nb"))


def measure(
    conditions: Sequence[tuple[float, int]], seeds: int, ways: Sequence[str] = tuple(WAYS), processes: int = 2
) -> list[dict[str, float]]:
    """One record per (loss, burst): the mean PESQ of every way over all texts and seeds."""
    clean = texts()
    reference = np.repeat(clean, seeds, axis=0)
    coded = g711.ulaw_decode(g711.ulaw_encode(reference)).reshape(len(reference), -1, PACKET)
    table = []
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for loss, burst in conditions:
            lost = np.stack([losses(loss, burst, seed, coded.shape[1]) for seed in range(len(reference))])
            record: dict[str, float] = {"loss": loss, "burst": burst}
            for way in ways:
                heard = WAYS[way](coded, lost).reshape(len(reference), -1)
                scores = pool.map(score, list(zip(reference, heard, strict=True)), chunksize=4)
                record[way] = round(float(np.mean(scores)), 3)
            table.append(record)
    return table


def measure_jitter(seeds: int, processes: int = 2) -> list[dict[str, float | str]]:
    """One record per network of `bench.jitter`: mean PESQ, share made up, and delays in ms, network included."""
    reference = np.repeat(texts(), seeds, axis=0)
    coded = g711.ulaw_encode(reference).reshape(len(reference), -1, PACKET)
    table: list[dict[str, float | str]] = []
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for network in jitter.NETWORKS:
            heard = jitter.listen(network, coded)
            scores = pool.map(score, list(zip(reference, heard.pcm, strict=True)), chunksize=4)
            table.append(
                {
                    "network": network.name,
                    "pesq": round(float(np.mean(scores)), 3),
                    "target": network.target,
                    "made_up": round(heard.made_up, 4),
                    "delay_p50_ms": heard.delay_p50_ms,
                    "delay_p99_ms": heard.delay_p99_ms,
                    "delay_max_ms": heard.delay_max_ms,
                    "within_ms": network.within_ms,
                }
            )
    return table


def plot(table: list[dict[str, float]], path: str) -> None:
    """PESQ over loss, one line per way, random losses drawn through and bursts dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for number, way in enumerate(WAYS):
        for burst, style in ((1, "-o"), (2, "--s")):
            points = [(100 * record["loss"], record[way]) for record in table if record["burst"] == burst]
            label = way if burst == 1 else f"{way}, bursts of 2"
            axes.plot(*zip(*points, strict=True), style, color=f"C{number}", label=label, markersize=4)
    axes.set(xlabel="packets lost (%)", ylabel="PESQ-NB (MOS-LQO)", ylim=(1, 4.3), title="G.711 µ-law, 20 ms packets")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="two seeds and four losses instead of eight and eight")
    parser.add_argument("--plot", metavar="FILE", help="write a picture as well")
    options = parser.parse_args()
    rates = (0.01, 0.03, 0.05, 0.10) if options.quick else (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.10, 0.20)
    seeds = 2 if options.quick else 8
    table = measure([(rate, burst) for burst in (1, 2) for rate in rates], seeds)
    by_jitter = measure_jitter(seeds)
    if options.plot:
        plot(table, options.plot)
    if options.json:
        json.dump({"texts": len(FILES), "seeds": seeds, "by_loss": table, "by_jitter": by_jitter}, sys.stdout)
        print()
        return
    print("| loss % | burst | " + " | ".join(WAYS) + " |")
    print("|---|---|" + "---|" * len(WAYS))
    for record in table:
        figures = " | ".join(f"{record[way]:.2f}" for way in WAYS)
        print(f"| {100 * record['loss']:g} | {record['burst']:.0f} | {figures} |")
    print(
        "\n| network | PESQ | target | made up % | delay p50 / p99 / max, ms | within, ms |\n|---|---|---|---|---|---|"
    )
    for line in by_jitter:
        delays = f"{line['delay_p50_ms']:.0f} / {line['delay_p99_ms']:.0f} / {line['delay_max_ms']:.0f}"
        print(
            f"| {line['network']} | {line['pesq']:.2f} | {line['target']} | {100 * float(line['made_up']):.1f} | "
            f"{delays} | {line['within_ms']} |"
        )


if __name__ == "__main__":
    main()
