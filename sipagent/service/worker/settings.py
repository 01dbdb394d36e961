"""What a conversation worker is told at its start."""

import msgspec

from sipagent.service.config.tree import Config
from sipagent.service.messages import Talk
from sipagent.service.redaction import secrets_of


class WorkerSettings(msgspec.Struct, frozen=True):
    """All that a worker needs beside its sockets; the same for each worker."""

    talks: tuple[Talk, ...] = ()  # of the routes: their brains are imported and their models loaded before Ready
    model_path: str = ""  # folder that stands in for the packages of the extra [offline]
    brain_paths: tuple[str, ...] = ()  # folders in which brain modules are looked for, besides the working directory
    log_level: str = "info"
    log_format: str = "auto"  # auto | console | json
    log_redact: bool = True  # show numbers by their last digits only
    secrets: tuple[str, ...] = ()  # masked wherever they turn up in the log
    apology: str = ""  # WAV file for a caller whose conversation failed, "" = the packaged one


def worker_settings(config: Config, apology: str) -> WorkerSettings:
    """What the workers of this configuration are told; `apology` is the path of the clip."""
    return WorkerSettings(
        tuple(Talk(r.brain, r.brain_options, r.pipeline, r.options) for r in config.route),
        model_path=config.conversation.model_path,
        brain_paths=config.conversation.brain_paths,
        apology=apology,
        log_level=config.log.level,
        log_format=config.log.format,
        log_redact=config.log.redact,
        secrets=tuple(secrets_of(config)),
    )
