"""Logging for every process of the service: structlog, to standard error, for people or as JSON lines.

An event is a constant name and fields: `log.info("call answered", codec="PCMA")`. Bind the call once, where its task
begins: `structlog.contextvars.bind_contextvars(call_id=…)`. The standard library's logging goes the same way. Whoever
logs never waits for whoever reads (`log_stream`).
"""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import Processor

from sipagent.service.config.tree import Log
from sipagent.service.log_stream import log_stream
from sipagent.service.redaction import Redaction

QUIET: Final = ("uvicorn", "httpx", "httpcore", "httpx2", "httpcore2", "asyncio", "sqlalchemy")
STDERR: Final = 2
NOWHERE: Final = -1  # no file: what is written is lost without a word


def configure(log: Log, secrets: Iterable[str] = (), stream: TextIO | None = None, plane: str = "") -> None:
    """Set logging up for this process; `plane` names it in every line, `secrets` are masked wherever they turn up."""
    stream = stream or _standard_error()
    console = log.format == "console" or (log.format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[log.level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
        *([_Process(plane)] if plane else []),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # before the redaction: a traceback can hold a secret as well
        Redaction(log.redact, secrets),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    )
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _standard_error() -> TextIO:
    """Standard error behind a queue; nothing behind it when the process was started without one."""
    if sys.stderr is None:
        return log_stream(NOWHERE, _tell_lost)
    return log_stream(STDERR, _tell_lost) if sys.stderr is sys.__stderr__ else sys.stderr


def _tell_lost(lines: int) -> None:
    structlog.get_logger(__name__).warning("log lines were lost, nobody had read them", lines=lines)


class _Process:
    """A processor that names the process in every line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("process", self._name)
        return event
