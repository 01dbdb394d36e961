"""The transcript of a call as files beside its recording: `ID.json` for programs, `ID.txt` for people."""

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

SPEAKERS: Final = {"user": "caller", "assistant": "agent"}
SUFFIXES: Final = (".json", ".txt")


def write(directory: Path, summary: Mapping[str, Any]) -> Path:
    """Write both files of an ended call and return the path of the JSON one; each appears whole or not at all."""
    stem = _stem(directory, summary["id"])
    record = json.dumps(summary, ensure_ascii=False, indent=1, default=str)
    _replace(stem.with_name(stem.name + ".txt"), as_text(summary))
    path = stem.with_name(stem.name + ".json")
    _replace(path, record + "\n")
    return path


def as_text(summary: Mapping[str, Any]) -> str:
    """The call in a few lines: who, when, how it ended, and what was said."""
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(summary["started_at"]))
    lines = [
        f"{summary['direction']} call {summary['id']}",
        f"from {summary['from']} to {summary['to']}, {started} UTC, {summary.get('duration_seconds', 0.0):.0f} s",
        f"outcome: {summary.get('outcome') or 'unknown'} {summary.get('reason') or ''}".rstrip(),
        "",
    ]
    for line in summary.get("transcript") or ():
        role = str(line.get("role", ""))
        text = " ".join(str(line.get("text", "")).split())
        if text:
            lines.append(f"{SPEAKERS.get(role, role)}: {text}")
    return "\n".join(lines) + "\n"


def remove(directory: Path, gone: Iterable[tuple[str, str]]) -> int:
    """Delete the files of (id, recording), only what lies within the directory. Returns how many there were."""
    removed = 0
    root = directory.resolve()
    for call_id, recording in gone:
        stem = _stem(root, call_id)
        paths = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
        paths += [*root.glob(f"{stem.name}.pcapng"), *root.glob(f"{stem.name}-*.pcapng")]
        if recording:
            paths.append(Path(recording).resolve())
            paths += root.glob(f"{stem.name}*{paths[-1].suffix}")  # a media plane that died began another one
        for path in paths:
            if path.is_relative_to(root) and path.is_file():
                path.unlink()
                removed += 1
    return removed


def _stem(directory: Path, call_id: str) -> Path:
    return directory / re.sub(r"[^A-Za-z0-9_\-]", "_", call_id)  # an id is ours, a path must not be made of it anyway


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - opened with its mode
        file.write(text)
    part.replace(path)
