"""Texts for everybody beyond SIP.

Octets that are no UTF-8 travel through the stack as lone surrogates, so that an answer repeats a request's headers as
they came. Nobody can write such a text down, neither JSON nor a database nor a message between processes.
"""

from dataclasses import fields, replace
from typing import Any

from sipagent.sip.engine import EngineEvent


def readable(event: EngineEvent) -> EngineEvent:
    """The event with U+FFFD in place of each octet that is no UTF-8."""
    changes = {}
    for field in fields(event):
        value = getattr(event, field.name)
        mended = _mend(value)
        if mended is not value:
            changes[field.name] = mended
    return replace(event, **changes) if changes else event


def readable_text(text: str) -> str:
    """A text with U+FFFD in place of each octet that is no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _mend(value: Any) -> Any:
    if isinstance(value, str):
        return readable_text(value)
    if isinstance(value, tuple):
        mended = tuple(map(_mend, value))
        return value if mended == value else mended
    return value
