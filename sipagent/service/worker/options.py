"""The `options` of a route whose pipeline is cascaded: one flat table, ours and those of the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sipagent.brain.answering import ResponderOptions
from sipagent.errors import ConfigError
from sipagent.pipeline.cascaded import CascadedOptions, options_from


class ChatEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`llm`: an endpoint that speaks OpenAI's chat completions.

    Write `api_key_credential = "name"` for a key that systemd keeps. `parameters` (temperature, max_tokens, …) are sent
    with each request as they are.
    """

    base_url: str
    model: str
    api_key: str = ""
    first_token_seconds: float = 8.0
    headers: dict[str, str] = {}
    parameters: dict[str, Any] = {}


class WorkerOptions(msgspec.Struct, frozen=True):
    """Options that the pipeline itself does not know."""

    llm: ChatEndpoint | None = None  # the model that answers when the brain does not
    end_of_turn: bool = True  # ask the end-of-turn model; False = silence alone ends a turn
    voice_speed: float = 1.0
    voice_seed: int = 0  # -1 = the same sentence sounds a little different each time
    offer_seconds: float = 10.0  # what a brain may take to decide about a call


@dataclass(frozen=True, slots=True)
class TalkSettings:
    """All options of a route, sorted by who reads them."""

    worker: WorkerOptions
    answers: ResponderOptions
    pipeline: CascadedOptions


def read_options(options: Mapping[str, Any]) -> TalkSettings:
    """The options of a route; raises ConfigError that names the one that is wrong."""
    ours = {name: value for name, value in options.items() if name in WorkerOptions.__struct_fields__}
    answers = {name: value for name, value in options.items() if name in ResponderOptions.__struct_fields__}
    rest = {name: value for name, value in options.items() if name not in ours and name not in answers}
    pipeline = options_from(rest, (*WorkerOptions.__struct_fields__, *ResponderOptions.__struct_fields__))
    return TalkSettings(_convert(ours, WorkerOptions), _convert(answers, ResponderOptions), pipeline)


def _convert(values: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as problem:
        text, _, path = str(problem).partition(" - at `$")
        raise ConfigError(f"options{path.rstrip('`')}", text) from None
