"""What became of a call: its turns, its transcript, and a picture of both voices."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


@dataclass(slots=True)
class Kept:
    """The files that are left of a call; "" for what there is not."""

    recording: str = ""
    ladder: str = ""
    packets: str = ""


@dataclass(slots=True)
class CallReport:
    """One call as its events told it; times in seconds since the call was connected."""

    call_id: str
    direction: str
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def connected_at(self) -> float:
        """Unix time at which both sides could talk, 0 when they never could."""
        return next((event["at"] for event in self.events if event.get("state") == "connected"), 0.0)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of one type, in order."""
        return [event for event in self.events if event["type"] == kind]

    def turns(self) -> list[dict[str, Any]]:
        """What the caller said, what the agent answered, and how long it took from one to the other (ms)."""
        turns: list[dict[str, Any]] = []
        for line in self.of("transcript"):
            if line["role"] == "user" or not turns:
                turns.append({"caller": "", "agent": "", "response_ms": None})
            key = "caller" if line["role"] == "user" else "agent"
            turns[-1][key] = f"{turns[-1][key]} {line['text']}".strip()
        answered = [turn for turn in turns if turn["caller"]]
        for turn, timing in zip(answered, self.of("turn"), strict=False):
            turn["response_ms"] = round(timing["response_ms"])
        return turns

    def pauses(self) -> list[tuple[float, float]]:
        """From the end of what the caller said to the agent's first sound, (second, second) on the recording's line."""
        found: list[tuple[float, float]] = []
        response_s = 0.0
        for event in self.events:
            if event["type"] == "turn":
                response_s = event["response_ms"] / 1000
            elif response_s and event["type"] == "transcript" and event["role"] == "assistant":
                answer_s = event["at_ms"] / 1000
                found.append((answer_s - response_s, answer_s))
                response_s = 0.0
        return found

    def outcome(self) -> str:
        """The named outcome, "" while the call lasts."""
        return next((event["outcome"] for event in self.events if event.get("state") == "ended"), "")

    def as_json(self, recording: str) -> dict[str, Any]:
        """The call in the form that `sipagent demo --json` prints."""
        return {
            "turns": self.turns(),
            "barge_ins": len(self.of("barge_in")),
            "dtmf": "".join(event["digit"] for event in self.of("dtmf")),
            "recording": recording,
            "outcome": self.outcome(),
        }


def write_transcript(report: CallReport, kept: Kept, path: Path) -> None:
    """The transcript as text with times and the files that belong to it, and every event as JSON lines beside it."""
    start = report.connected_at
    lines = [
        f"{event['at'] - start:7.2f} s  {'caller' if event['role'] == 'user' else 'agent':>6}  {event['text']}"
        + (" [interrupted]" if event.get("interrupted") else "")
        for event in report.of("transcript")
    ]
    files = (("SIP messages", kept.ladder), ("SIP and RTP packets", kept.packets), ("recording", kept.recording))
    lines += [""] + [f"{what}: {Path(name).name}" for what, name in files if name]
    path.write_text("\n".join(lines) + "\n")
    path.with_suffix(".jsonl").write_text("".join(json.dumps(event) + "\n" for event in report.events))


def write_ladder(drawing: str, path: Path) -> str:
    """The SIP ladder; its path."""
    path.write_text(drawing, encoding="utf-8")
    return str(path)


def draw(report: CallReport, recording: Path, picture: Path) -> None:
    """Both waveforms on one time line, with transcript lines, turns, barge-ins and keys where they happened."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    samples, rate_hz = soundfile.read(recording, dtype="float32", always_2d=True)
    seconds = np.arange(len(samples)) / rate_hz
    start = report.connected_at
    figure, axes = pyplot.subplots(2, 1, sharex=True, figsize=(16, 6), layout="constrained")
    for axis, channel, role, colour in ((axes[0], 0, "user", "#1f77b4"), (axes[1], 1, "assistant", "#2ca02c")):
        axis.plot(seconds, samples[:, channel], linewidth=0.4, color=colour)
        axis.set_ylim(-1, 1)
        axis.set_ylabel("caller" if role == "user" else "agent")
        for number, event in enumerate(e for e in report.of("transcript") if (e["role"] == "user") == (role == "user")):
            height = 0.9 - 0.14 * (number % 3)
            axis.text(event["at_ms"] / 1000, height, event["text"], fontsize=7, va="top", clip_on=True)
    for ended_s, answered_s in report.pauses():
        for axis in axes:
            axis.axvspan(ended_s, answered_s, color="orange", alpha=0.25, linewidth=0)
        milliseconds = f"{1000 * (answered_s - ended_s):.0f} ms"
        axes[0].text(answered_s, -0.7, milliseconds, color="darkorange", fontsize=8, ha="right")
    for event in report.of("barge_in"):
        for axis in axes:
            axis.axvline(event["at"] - start, color="red", linestyle="--", linewidth=1)
        axes[1].text(event["at"] - start, -0.9, " barge-in", color="red", fontsize=8)
    for event in report.of("dtmf"):
        axes[0].axvline(event["at"] - start, color="purple", linewidth=1)
        axes[0].text(event["at"] - start, -0.9, f" key {event['digit']}", color="purple", fontsize=8)
    timings = [turn["response_ms"] for turn in report.turns() if turn["response_ms"] is not None]
    median = f", median response {np.median(timings):.0f} ms" if timings else ""
    axes[0].set_title(f"{report.direction} call {report.call_id}: {len(timings)} turns{median}")
    axes[1].set_xlabel("seconds since both sides could talk")
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
