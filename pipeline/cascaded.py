"""The cascaded conversation: turn → words → answer → sentences → speech → line.

Listening ─ Keypad ─ [Responding] ─ Sentences ─ [Synthesis] ─ Playout         [ ] = has a mailbox
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from sipagent.errors import ConfigError
from sipagent.pipeline.context import Context
from sipagent.pipeline.conversation import Conversation, TalkOptions
from sipagent.pipeline.deadlines import Deadlines
from sipagent.pipeline.frames import AgentAudio, Frame
from sipagent.pipeline.keypad import Keypad, KeypadOptions
from sipagent.pipeline.latency import TurnLatency
from sipagent.pipeline.listening import Listening
from sipagent.pipeline.mailbox import Mailbox
from sipagent.pipeline.pipeline import Pipeline
from sipagent.pipeline.playout import Playout, PlayoutOptions
from sipagent.pipeline.port import AudioPort
from sipagent.pipeline.processor import Observer
from sipagent.pipeline.responder import Responder
from sipagent.pipeline.responding import Responding
from sipagent.pipeline.sentences import Sentences
from sipagent.pipeline.silence import SilenceOptions
from sipagent.pipeline.speech import EndOfTurn, SpeechToText, TextToSpeech
from sipagent.pipeline.synthesis import Synthesis
from sipagent.pipeline.task import TaskOptions
from sipagent.pipeline.turn import TurnOptions, TurnTaking


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker's calls share. Without `end_of_turn` every pause waits for the silence limit."""

    stt: SpeechToText
    tts: TextToSpeech
    end_of_turn: EndOfTurn | None = None


@dataclass(frozen=True, slots=True)
class CascadedOptions:
    """Every option, by subject."""

    talk: TalkOptions = field(default_factory=TalkOptions)
    turn: TurnOptions = field(default_factory=TurnOptions)
    silence: SilenceOptions = field(default_factory=SilenceOptions)
    keypad: KeypadOptions = field(default_factory=KeypadOptions)
    playout: PlayoutOptions = field(default_factory=PlayoutOptions)
    deadlines: Deadlines = field(default_factory=Deadlines)
    task: TaskOptions = field(default_factory=TaskOptions)


GROUPS: Final[Mapping[str, Any]] = {group.name: group.type for group in fields(CascadedOptions)}


def options_from(mapping: Mapping[str, Any], others: Collection[str] = ()) -> CascadedOptions:
    """Options from one flat mapping, such as a route's; raises ConfigError for a name or a type that is wrong.

    `others` are names that whoever asks knows besides, for "did you mean".
    """
    owners = {option.name: group for group, kind in GROUPS.items() for option in fields(kind)}
    chosen: dict[str, dict[str, Any]] = {}
    for name, value in mapping.items():
        if name not in owners:
            near = get_close_matches(name, (*owners, *others), 1)
            fix = f"did you mean {near[0]}?" if near else "docs/configuration.md lists them"
            raise ConfigError(f"options.{name}", "is no option of a cascaded conversation", fix)
        chosen.setdefault(owners[name], {})[name] = value
    try:
        return msgspec.convert(chosen, CascadedOptions)
    except msgspec.ValidationError as error:
        raise ConfigError("options", str(error)) from None


def cascaded(
    port: AudioPort,
    services: Services,
    responder: Responder,
    options: CascadedOptions,
    *,
    context: Context | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    observers: Sequence[Observer] = (),
    fallback: AgentAudio | None = None,
) -> Conversation:
    """A conversation on `port`. `fallback` is a clip that is played when the voice is mute.

    `on_frame` is told once of everything that happens: transcriptions, what was heard, interruptions, times.

    A `context` with messages in it goes on where another worker stopped: then there is no greeting.
    """
    context = context if context is not None else Context()
    talk = options.talk
    playout = Playout(port, options.playout)
    responding = Mailbox(
        Responding(responder, context, playout.settled, options.deadlines, talk.apology),
    )
    synthesis = Mailbox(Synthesis(services.tts, options.deadlines, fallback))

    def agent_idle() -> bool:
        return responding.idle and synthesis.idle and playout.idle

    listening = Listening(
        port,
        TurnTaking(options.turn, port.rate_hz),
        services.stt,
        services.end_of_turn,
        # What the agent says to somebody else does not make an interruption of the caller's words.
        agent=lambda: (not agent_idle() and not conversation.aside, playout.interruptible),
        deadlines=options.deadlines,
        not_understood=talk.not_understood,
        max_seconds=options.turn.max_turn_seconds,
    )

    pipeline = Pipeline(
        [listening, Keypad(options.keypad), responding, Sentences(), synthesis, playout],
        [*observers, TurnLatency(port, on_frame)] if on_frame is not None else observers,
    )
    conversation = Conversation(
        port,
        pipeline,
        synthesis,
        context,
        caller_silent=lambda: listening.caller_silent,
        agent_silent=agent_idle,
        talk=talk if not context.messages() else replace(talk, greeting=""),
        silence=options.silence,
        task=options.task,
        on_frame=on_frame,
    )
    return conversation
