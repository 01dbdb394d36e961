"""The models and services of a worker: loaded once, shared by all its calls."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from sipagent.errors import ConfigError
from sipagent.pipeline.cascaded import Services
from sipagent.pipeline.chat import ChatModel
from sipagent.pipeline.services.cached_voice import CachedVoice
from sipagent.pipeline.services.hibari import HibariVoice
from sipagent.pipeline.services.openai_chat import ChatOptions, OpenAIChat
from sipagent.pipeline.services.smart_turn import SmartTurn
from sipagent.pipeline.services.whisper import Whisper
from sipagent.pipeline.speech import EndOfTurn, SpeechToText, TextToSpeech
from sipagent.service.worker.options import ChatEndpoint, WorkerOptions


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a cascaded conversation needs; without `chat` only the brain's rules answer."""

    services: Services
    chat: ChatModel | None


class Models:
    """Loads what the options name, in a thread, at most once each."""

    def __init__(self, model_path: str = "") -> None:
        self._model_path = model_path
        self._lock = asyncio.Lock()
        self._stt: SpeechToText | None = None
        self._voices: dict[tuple[float, int], TextToSpeech] = {}
        self._end_of_turn: EndOfTurn | None = None
        self._end_of_turn_missing = ""
        self._chats: dict[bytes, OpenAIChat] = {}  # by endpoint, in JSON

    async def cascaded(self, options: WorkerOptions) -> Loaded:
        """The services that `options` names; raises ConfigError when a model is missing."""
        async with self._lock:  # loading takes up to a second each: in a thread, while the loop goes on
            if self._stt is None:
                whisper = await asyncio.to_thread(Whisper, self._model_path)
                await whisper.warm_up()
                self._stt = whisper
            pace = (options.voice_speed, options.voice_seed)
            if pace not in self._voices:
                varied = pace[1] == -1
                voice = await asyncio.to_thread(
                    HibariVoice, self._model_path, speed=pace[0], seed=None if varied else pace[1]
                )
                await voice.warm_up()
                # With a seed the same text is the same sound, so that greetings need to be computed only once.
                self._voices[pace] = voice if varied else CachedVoice(voice)
            if options.end_of_turn and self._end_of_turn is None and not self._end_of_turn_missing:
                try:
                    smart_turn = await asyncio.to_thread(SmartTurn, self._model_path)
                    await smart_turn.warm_up()
                    self._end_of_turn = smart_turn
                except ConfigError as problem:
                    self._end_of_turn_missing = f"turns end by silence alone: {problem}"
            chat = await self._chat(options.llm) if options.llm is not None else None
            end_of_turn = self._end_of_turn if options.end_of_turn else None
            return Loaded(Services(self._stt, self._voices[pace], end_of_turn), chat)

    async def warm(self, options: Iterable[WorkerOptions]) -> tuple[str, ...]:
        """Load everything that calls may need; returns what is missing."""
        problems: list[str] = []
        for each in options:
            try:
                await self.cascaded(each)
            except ConfigError as problem:
                problems.append(str(problem))
        if self._end_of_turn_missing:
            problems.append(self._end_of_turn_missing)
        return tuple(dict.fromkeys(problems))

    async def close(self) -> None:
        """Close the connections."""
        for chat in self._chats.values():
            await chat.close()

    async def _chat(self, endpoint: ChatEndpoint) -> ChatModel:
        key = msgspec.json.encode(endpoint)
        if key not in self._chats:
            chat = OpenAIChat(
                ChatOptions(
                    base_url=endpoint.base_url,
                    model=endpoint.model,
                    api_key=endpoint.api_key,
                    headers=endpoint.headers,
                    parameters=endpoint.parameters,
                    first_token_seconds=endpoint.first_token_seconds,
                )
            )
            await chat.warm_up()
            self._chats[key] = chat
        return self._chats[key]
