"""JSON for reading: names and values in columns, lists of objects as tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

WIDEST: Final = 160
INDENT: Final = "  "


def lines(value: Mapping[str, Any], indent: str = INDENT) -> Iterator[str]:
    """The object as lines of text; nothing is left out."""
    plain = {name: part for name, part in value.items() if not _is_table(part) and not _is_deep(part)}
    width = max((len(name) for name in plain), default=0)
    for name, part in plain.items():
        yield f"{indent}{name:{width}}  {cell(part)}"
    for name, part in value.items():
        if _is_table(part):
            yield f"{indent}{name}:"
            yield from _table(part, indent + INDENT)
        elif _is_deep(part):
            yield f"{indent}{name}:"
            yield from lines(part, indent + INDENT)


def cell(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(cell(part) for part in value)
    return str(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _is_deep(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(part, Mapping) or _is_table(part) for part in value.values())


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, part in row.items():
        if isinstance(part, Mapping) and part:
            flat |= _flat(part, f"{prefix}{name}.")
        else:
            flat[prefix + name] = cell(part) if part not in ("", {}, []) else "-"
    return flat


def _table(rows: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    widths = {name: max(len(name), *(len(row.get(name, "-")) for row in flat)) for name in columns}
    if sum(widths.values()) + 2 * len(columns) > WIDEST:  # too wide for a screen: a paragraph for each row
        for row in flat:
            yield indent + "  ".join(f"{name}={value}" for name, value in row.items() if value != "-")
        return
    yield indent + "  ".join(f"{name:>{widths[name]}}" for name in columns)
    for row in flat:
        yield indent + "  ".join(f"{row.get(name, '-'):>{widths[name]}}" for name in columns)
