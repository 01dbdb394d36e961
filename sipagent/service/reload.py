"""SIGHUP: the configuration is read again and put in force, while calls go on.

Trunks, routes, limits, the log and what the workers are told change at once; the workers themselves are replaced one by
one, so that new code of a brain is loaded. What is bound or opened once waits for a restart, and the log says so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from sipagent.errors import ConfigError
from sipagent.service.config import load as config_load
from sipagent.service.config.tree import Config

log = structlog.get_logger(__name__)

ONLY_AT_START: Final = ("sip", "media", "http", "records", "hep")  # tables whose sockets, rows and files are had once


class Reloadable(Protocol):
    """What can take a new configuration."""

    config: Config

    def adopt(self, config: Config) -> None:
        """Put it in force."""


def reload(service: Reloadable, path: Path | None, environ: Mapping[str, str]) -> bool:
    """Read the file again and put it in force; False when it has problems: they are logged, and nothing changes."""
    read, problems = config_load.read(path, environ)
    if problems:
        for problem in problems:
            log.error("configuration is refused, the old one goes on", field=problem.field, problem=str(problem))
        return False
    config, waiting = merge(service.config, read)
    for field in waiting:
        log.warning("setting is changed by a restart only", field=field)
    try:
        service.adopt(config)
    except ConfigError as problem:
        log.error("configuration is refused, the old one goes on", field=problem.field, problem=str(problem))
        return False
    log.info("configuration is in force", trunks=len(config.trunk), routes=len(config.route), waiting=len(waiting))
    return True


def merge(old: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """What of `new` can be put in force while `old` runs, and the settings that differ but wait for a restart."""
    waiting = [
        f"{table}.{field}"
        for table in ONLY_AT_START
        for field in getattr(old, table).__struct_fields__
        if getattr(getattr(old, table), field) != getattr(getattr(new, table), field)
    ]
    if old.conversation.workers != new.conversation.workers:
        waiting.append("conversation.workers")
    merged = replace(
        new,
        conversation=replace(new.conversation, workers=old.conversation.workers),
        **{table: getattr(old, table) for table in ONLY_AT_START},
    )
    return merged, tuple(waiting)
