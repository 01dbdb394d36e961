"""Measures how long a turn waits for its answer, from the frames that pass by."""

import asyncio
from collections.abc import Callable

from sipagent.pipeline.frames import (
    AgentAudio,
    Frame,
    Interruption,
    Metric,
    Speak,
    TextDelta,
    TurnEnded,
    TurnTimes,
)
from sipagent.pipeline.port import AudioPort


class TurnLatency:
    """Observer: `emit`s `TurnTimes` when the first audio of an answer has been written.

    end of the caller's voice ─► pause reported ─► verdict ─► first text ─► first sentence ─► first audio
    """

    def __init__(self, port: AudioPort, emit: Callable[[Frame], None]) -> None:
        self._port, self._emit = port, emit
        self._voice_ended_at: float | None = None
        self._turn_ended_at = 0.0
        self._stages_ms: dict[str, float] = {}

    def on_frame(self, frame: Frame, source: str) -> None:
        """See the class."""
        match frame:
            case Metric(name, value) if name in ("stt_ms", "end_of_turn_ms"):
                self._stages_ms[name.removesuffix("_ms")] = value
            case TurnEnded(stopped=stopped) if source == "Listening":
                now = asyncio.get_running_loop().time()
                self._turn_ended_at = now
                self._voice_ended_at = now - max(self._port.received() - stopped, 0) / self._port.rate_hz
                self._stages_ms["turn_ended"] = (now - self._voice_ended_at) * 1e3
            case TextDelta() if source == "Responding":
                self._stage("responder")
            case Speak() if source == "Sentences":
                self._stage("sentence")
            case AgentAudio() if source == "Playout":
                self._finish()
            case Interruption():
                self._voice_ended_at = None

    def _stage(self, name: str) -> None:
        if self._voice_ended_at is not None and name not in self._stages_ms:
            self._stages_ms[name] = (asyncio.get_running_loop().time() - self._turn_ended_at) * 1e3

    def _finish(self) -> None:
        if self._voice_ended_at is None:
            return
        now = asyncio.get_running_loop().time()
        self._stages_ms["audio"] = (now - self._turn_ended_at) * 1e3
        response_ms = (now - self._voice_ended_at) * 1e3
        stages_ms, self._stages_ms, self._voice_ended_at = self._stages_ms, {}, None
        self._emit(TurnTimes(response_ms, stages_ms))
