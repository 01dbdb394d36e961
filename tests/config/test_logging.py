import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sipagent.service.config.tree import Log
from sipagent.service.logging import configure


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_hold_the_event_and_its_fields() -> None:
    stream = io.StringIO()
    configure(Log(format="json"), stream=stream, plane="sipagent")
    structlog.contextvars.bind_contextvars(call_id="c1")
    structlog.get_logger("x").info("call answered", to="+4930123456")
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "call answered", "level": "info", "call_id": "c1", "process": "sipagent", "to": "***456"}


def test_the_console_is_for_people() -> None:
    stream = io.StringIO()
    configure(Log(format="console"), stream=stream)
    structlog.get_logger().warning("no media", silent_ms=2000)
    assert "no media" in stream.getvalue()
    assert "silent_ms=2000" in stream.getvalue()


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    configure(Log(level="warning", format="json"), stream=stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("any").info("quiet")
    assert stream.getvalue() == ""


def test_the_standard_library_takes_the_same_way() -> None:
    stream = io.StringIO()
    configure(Log(format="json"), secrets=["correct-horse"], stream=stream)
    logging.getLogger("any").error("refused by %s with correct-horse", "+4930123456")
    assert json.loads(stream.getvalue())["event"] == "refused by ***456 with ***"


def test_a_secret_in_a_traceback_is_masked() -> None:
    stream = io.StringIO()
    configure(Log(format="json"), secrets=["correct-horse"], stream=stream)
    try:
        raise ValueError("correct-horse")
    except ValueError:
        structlog.get_logger().exception("brain failed")
    assert "correct-horse" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
