"""The configuration in words: what its tables hold, and the commented file of `sipagent init`.

Made from the source of `config`: a docstring for each table, a comment beside each field. `manual` makes the
documentation from the same.
"""

import ast
import dataclasses
import inspect
import json
import secrets
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final, get_args

import msgspec
from msgspec.structs import fields

from sipagent.service.config.tree import Config

EXAMPLES: Final[Mapping[tuple[str, str], object]] = {
    ("trunk", "name"): "office",
    ("trunk", "server"): "sip:trunk.example;transport=udp",
    ("trunk", "username"): "agent",
    ("trunk", "password_credential"): "sip-password",
    ("trunk", "caller_id"): "+4930123456",
    ("route", "brain"): "receptionist:Receptionist",
}
WIDTH: Final = 116
WORDS: Final = {
    "string": "string",
    "boolean": "true or false",
    "integer": "integer",
    "number": "number",
    "object": "table",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field: its default as TOML (None: it has none), its values in words, and the comment beside it."""

    owner: str  # name of the struct
    name: str
    default: str | None
    values: str
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file; `many` for an array of tables."""

    name: str
    many: bool
    docstring: str
    settings: tuple[Setting, ...]


def tables() -> Iterator[Table]:
    """Every table in the order of the tree."""
    for field in fields(Config):
        many = not (isinstance(field.type, type) and issubclass(field.type, msgspec.Struct))
        kind: type[Any] = get_args(field.type)[0] if many else field.type
        words = inspect.getdoc(kind) or ""
        yield Table(field.name, many, words.partition(": ")[2] or words, tuple(settings_of(kind)))


def settings_of(kind: type[Any]) -> Iterator[Setting]:
    """The fields of a struct or dataclass, with the comments of its source."""
    notes = _comments(inspect.getsource(inspect.getmodule(kind) or kind))
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    for name, described in schema["properties"].items():
        default = None if name in schema.get("required", ()) else toml_value(_default(kind, name))
        yield Setting(kind.__name__, name, default, _described(described), notes.get((kind.__name__, name), ""))


def init_file(token: str = "") -> str:
    """A commented file with every setting; all but the token is commented out, so that the defaults hold."""
    token = token or secrets.token_urlsafe(24)
    lines = [
        "# Configuration of sipagent. Every setting is listed with its default: remove the # before a line to change",
        "# it. `sipagent check --config FILE` says what is wrong; SIPAGENT__SIP__ENGINE in the environment overrides.",
        "# Relative paths start at the folder of this file.",
    ]
    for table in tables():
        lines += ["", f"# {table.docstring}"]
        lines.append(f"#[[{table.name}]]" if table.many else f"[{table.name}]")
        for setting in table.settings:
            example = EXAMPLES.get((table.name, setting.name))
            value = toml_value(example) if example is not None else setting.default
            line = f"#{setting.name} = {value}"
            if (table.name, setting.name) == ("http", "token"):
                line = f"token = {toml_value(token)}"
            comment = " ".join(part for part in (setting.comment, _choices_note(setting)) if part)
            whole = f"{line}  # {comment}" if comment else line
            lines += [f"# {comment}", line] if len(whole) > WIDTH else [whole]
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """A value of the tree as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # JSON's escapes are TOML's
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if value is None:
        return ""  # TOML has no null: what is left out
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return repr(value)


def _default(kind: type[Any], name: str) -> object:
    if dataclasses.is_dataclass(kind):
        (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
        return field.default
    (entry,) = (entry for entry in fields(kind) if entry.name == name)
    return entry.default if entry.default is not msgspec.NODEFAULT else entry.default_factory()


def _choices_note(setting: Setting) -> str:
    return f"({setting.values})" if '"' in setting.values and setting.values not in setting.comment else ""


def _described(schema: Mapping[str, Any]) -> str:
    """What may stand there, read from the type: choices, range, or kind of value."""
    if "anyOf" in schema:
        return " or ".join(_described(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        return "table"
    if "enum" in schema:
        return ", ".join(json.dumps(choice) for choice in schema["enum"])
    if schema["type"] == "array":
        items = schema.get("items") or schema["prefixItems"][0]
        return f"list of {_described(items)}"
    bounds = (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    )
    return " ".join([WORDS[schema["type"]]] + [f"{word} {schema[key]:g}" for key, word in bounds if key in schema])


def _comments(source: str) -> dict[tuple[str, str], str]:
    """The trailing comment of every field, by class and field name."""
    by_line = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return {
        (node.name, statement.target.id): by_line.get(statement.end_lineno or 0, "")
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
