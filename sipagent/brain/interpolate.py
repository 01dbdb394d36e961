"""Variables in prompts: `{{name}}`, `{{order.items.0}}`, `{{name | fallback:there}}`, and the time of day.

current_time, current_date, current_weekday     of this machine, or with a zone: current_time_Europe/Berlin
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

PLACE: Final = re.compile(r"\{\{\s*([^{}|]+?)\s*(?:\|\s*(?:fallback\s*:)?\s*([^{}]*?)\s*)?\}\}")
CLOCK: Final = re.compile(r"current_(time|date|weekday)(?:_(.+))?")
FORMATS: Final = {"time": "%H:%M", "date": "%Y-%m-%d", "weekday": "%A"}


def interpolate(text: str, variables: Mapping[str, Any], now: datetime) -> str:
    """`text` with every place filled; one that has neither value nor fallback becomes empty. `now` has a time zone."""

    def fill(place: re.Match[str]) -> str:
        found = look_up(place[1], variables)
        if found is None:
            found = _clock(place[1], now)
        return (place[2] or "") if found is None else str(found)

    return PLACE.sub(fill, text.replace("\\n", "\n"))


def look_up(path: str, variables: Any) -> Any:
    """The value at a dotted path of names and indices; None when there is none."""
    for step in path.split("."):
        if isinstance(variables, Mapping):
            variables = variables.get(step)
        elif isinstance(variables, Sequence) and not isinstance(variables, str) and step.isdigit():
            variables = variables[int(step)] if int(step) < len(variables) else None
        else:
            return None
    return variables


def _clock(name: str, now: datetime) -> str | None:
    asked = CLOCK.fullmatch(name)
    if asked is None:
        return None
    if asked[2]:
        try:
            now = now.astimezone(ZoneInfo(asked[2]))
        except (ZoneInfoNotFoundError, ValueError):
            return None
    return now.strftime(FORMATS[asked[1]])
