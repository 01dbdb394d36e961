"""What a conversation leaves behind: its transcript, its numbers, and the events for those who watch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sipagent.pipeline.chat import Usage
from sipagent.pipeline.frames import (
    AgentAudio,
    AgentSpeaking,
    ErrorFrame,
    Frame,
    Heard,
    Interruption,
    Transcription,
    TurnEnded,
    TurnTimes,
)
from sipagent.pipeline.port import AudioPort
from sipagent.service.messages import CallEvent, FromWorker

MAX_TOOL_CHARACTERS: Final = 500  # of arguments and results in an event


class Notes:
    """Reads the frames that leave a pipeline. Times in a transcript are call time: milliseconds received so far."""

    def __init__(
        self, call_id: str, send: Callable[[FromWorker], None], history: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """`history` are the lines of the worker that had the call before."""
        self._call_id, self._send = call_id, send
        self._port: AudioPort | None = None
        self._agent_since_ms = 0
        self.to = ""  # who hears the agent, when that is not the caller
        self.transcript: list[dict[str, Any]] = [dict(line) for line in history]
        self.usage: dict[str, float] = {}

    def attach(self, port: AudioPort) -> None:
        """The call's audio is there, and with it its clock."""
        self._port = port

    def on_frame(self, frame: Frame) -> None:
        """Take note of a frame."""
        match frame:
            case Transcription(text=text, final=True, start=start) if text:
                self._count("user_turns")
                self._line("user", text, self._ms(start))
            case TurnEnded(pcm=pcm, rate_hz=rate_hz):
                self._count("stt_audio_seconds", len(pcm) / rate_hz)
            case AgentAudio(text=text):
                self._count("tts_characters", len(text))
            case AgentSpeaking():
                self._agent_since_ms = self._now_ms()
            case Heard(text, interrupted):
                if text:
                    self._line("assistant", text, self._agent_since_ms, interrupted)
                self._agent_since_ms = self._now_ms()
            case Interruption(by):
                self.event("barge_in", at_ms=self._now_ms(), by=by)
            case TurnTimes(response_ms, stages_ms):
                rounded = {name: round(value, 1) for name, value in stages_ms.items()}
                self.event("turn", response_ms=round(response_ms, 1), stages_ms=rounded)
            case ErrorFrame(service, problem, fatal):
                self.event("warning", service=service, problem=problem, fatal=fatal)

    def overheard(self, text: str, seconds: float) -> None:
        """A colleague on the line has said something, for so long and until now."""
        self._count("stt_audio_seconds", seconds)
        self._line("colleague", text, max(0, self._now_ms() - round(seconds * 1000)))

    def tool_called(self, name: str, arguments: Mapping[str, Any], result: Any, took_ms: float) -> None:
        """A tool has been run for the model."""
        self._count("tool_calls")
        short = {key: str(value)[:MAX_TOOL_CHARACTERS] for key, value in arguments.items()}
        text = str(result)[:MAX_TOOL_CHARACTERS]
        self.event("tool", name=name, arguments=short, result=text, took_ms=round(took_ms, 1))

    def tokens_used(self, usage: Usage) -> None:
        """The model counted an answer."""
        self._count("input_tokens", usage.prompt_tokens)
        self._count("output_tokens", usage.completion_tokens)

    def event(self, kind: str, **data: Any) -> None:
        """Tell those who watch the call."""
        self._send(CallEvent(self._call_id, kind, data))

    def _line(self, role: str, text: str, at_ms: int, interrupted: bool = False) -> None:
        """Tell of a line at once; in the record, what one side says in a row is one line."""
        line = {"role": role, "text": text, "at_ms": at_ms, "interrupted": interrupted}
        if role == "assistant" and self.to:
            line["to"] = self.to
        self.event("transcript", **line)
        last = self.transcript[-1] if self.transcript else None
        same = last is not None and last["role"] == role and last.get("to", "") == line.get("to", "")
        if role == "assistant" and last is not None and same and not last.get("interrupted"):
            last["text"] += f" {text}"
            last["interrupted"] = interrupted
        else:
            self.transcript.append(line)
            if role == "assistant":
                self._count("bot_turns")

    def _ms(self, position: int) -> int:
        return position * 1000 // self._port.rate_hz if self._port is not None else 0

    def _now_ms(self) -> int:
        return self._ms(self._port.received()) if self._port is not None else 0

    def _count(self, name: str, amount: float = 1) -> None:
        self.usage[name] = self.usage.get(name, 0) + amount
