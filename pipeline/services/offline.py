"""The offline stack of a worker: everything in this process, nothing downloaded."""

from dataclasses import dataclass

from sipagent.pipeline.cascaded import Services
from sipagent.pipeline.services.cached_voice import CachedVoice
from sipagent.pipeline.services.hibari import HibariVoice
from sipagent.pipeline.services.smart_turn import SmartTurn
from sipagent.pipeline.services.whisper import Whisper


@dataclass(frozen=True, slots=True)
class OfflineModels:
    """The models, loaded: about 400 MB and one second. Share them among all calls of a worker."""

    whisper: Whisper
    smart_turn: SmartTurn
    hibari: HibariVoice
    services: Services

    @classmethod
    def load(cls, model_path: str = "", *, speed: float = 1.0, seed: int | None = 0) -> "OfflineModels":
        """Raises ConfigError that names the package to install, when one is missing."""
        whisper, smart_turn = Whisper(model_path), SmartTurn(model_path)
        hibari = HibariVoice(model_path, speed=speed, seed=seed)
        return cls(whisper, smart_turn, hibari, Services(whisper, CachedVoice(hibari), smart_turn))

    async def warm_up(self) -> None:
        """Run each model once, so that the first caller does not pay for it."""
        for model in (self.whisper, self.smart_turn, self.hibari):
            await model.warm_up()

    def close(self) -> None:
        """End the models' threads."""
        for model in (self.whisper, self.smart_turn, self.hibari):
            model.close()
