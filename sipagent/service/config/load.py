"""From a TOML file and the environment to a `Config`, with every problem told at once.

    file → tables ← SIPAGENT__TABLE__KEY overrides → credentials → frozen tree → paths made absolute → checked

`read` returns what it could make of the input beside the problems; `load` raises when there are any.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields, replace

from sipagent.errors import ConfigError
from sipagent.service.config import secrets
from sipagent.service.config.check import check
from sipagent.service.config.text import toml_value
from sipagent.service.config.tree import Config

PREFIX: Final = "SIPAGENT__"
PATHS: Final = (
    ("sip", "tls_certificate"),
    ("sip", "tls_key"),
    ("sip", "tls_ca"),
    ("sip", "tls_client_ca"),
    ("sip", "stir_trust_anchors"),
    ("sip", "stir_certificates"),
    ("conversation", "apology"),
    ("conversation", "hold_music"),
    ("conversation", "model_path"),
    ("conversation", "brain_paths"),
    ("records", "directory"),
)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of the file at `path` (None: defaults) with the overrides in `environ`.

    Raises an ExceptionGroup of ConfigError, one for each problem.
    """
    config, problems = read(path, environ)
    if problems:
        raise ExceptionGroup(f"the configuration {path or ''} cannot be used", problems)
    return config


def read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config, list[ConfigError]]:
    """Like `load`, but a field that is wrong keeps its default and its problem is returned."""
    problems: list[ConfigError] = []
    try:
        tables = _tables(path)
    except ConfigError as problem:
        return Config(), [problem]  # whatever else could be said would be about a file that nobody has read
    folder = (path.parent if path else Path()).absolute()
    _override(tables, environ, problems)
    _resolve_secrets(tables, environ, problems)
    config = _with_absolute_paths(_build(Config, tables, "", problems), folder)
    wrong = {problem.field for problem in problems}
    problems += (problem for problem in check(config, folder) if problem.field not in wrong)
    return config, problems


def _tables(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", "`sipagent init` writes one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is not TOML: {error}", "strings stand in quotes") from error


# ---- environment


def _override(tables: dict[str, Any], environ: Mapping[str, str], problems: list[ConfigError]) -> None:
    """Write SIPAGENT__SIP__ENGINE=… into tables["sip"]["engine"]; numbers count the tables of an array from 0."""
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        keys = variable.removeprefix(PREFIX).lower().split("__")
        try:
            _set(tables, keys, _parse(environ[variable], _type_at(keys)))
        except (LookupError, TypeError):
            problems.append(
                ConfigError(
                    ".".join(keys),
                    f"{variable} does not lead to a setting",
                    "write SIPAGENT__TABLE__KEY, or SIPAGENT__TRUNK__0__KEY for the first [[trunk]]",
                )
            )


def _set(tables: dict[str, Any], keys: list[str], value: object) -> None:
    *parents, last = keys
    node: Any = tables
    for key, after in zip(parents, keys[1:], strict=True):
        empty: Any = [] if after.isdecimal() else {}
        if isinstance(node, list):
            if int(key) == len(node):
                node.append(empty)
            node = node[int(key)]
        else:
            node = node.setdefault(key, empty)
    if isinstance(node, list):
        raise TypeError("a table of an array is not set as a whole")
    if not isinstance(node, dict):
        raise LookupError(last)
    node[last] = value


def _type_at(keys: list[str]) -> object:
    """Type of the field that the keys lead to; str when there is none or when the tree leaves it open."""
    kind: object = Config
    for key in keys:
        if key.isdecimal():
            kind = get_args(kind)[0] if get_args(kind) else str
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = next((field.type for field in fields(kind) if field.name == key), str)
        else:
            return Any
    return kind


def _parse(text: str, kind: object) -> object:
    """A string as it stands where the tree wants one; else a TOML or JSON value, or the text when it is neither."""
    if kind is str or (get_origin(kind) is Literal and all(isinstance(choice, str) for choice in get_args(kind))):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        try:
            return json.loads(text)
        except ValueError:
            return text


def _resolve_secrets(tables: dict[str, Any], environ: Mapping[str, str], problems: list[ConfigError]) -> None:
    """Replace what names a credential by its text, wherever the tree has a place for one."""

    def within(holder: dict[str, Any], key: str, path: str) -> None:
        if isinstance(holder.get(key), dict):
            holder[key] = secrets.resolve(holder[key], path, environ, problems)

    within(tables, "http", "http")
    within(tables, "hep", "hep")
    for name, parts in (("trunk", ()), ("route", ("options", "brain_options"))):
        array = tables.get(name)
        if not isinstance(array, list):
            continue
        for index, table in enumerate(array):
            path = f"{name}[{index}]"
            if isinstance(table, dict) and not parts:
                array[index] = secrets.resolve(table, path, environ, problems)
            for part in parts if isinstance(table, dict) else ():
                within(table, part, f"{path}.{part}")


# ---- tree


def _build(kind: type[Any], table: object, path: str, problems: list[ConfigError]) -> Any:
    """A struct of `kind` from a table; None when a field without a default is missing or wrong."""
    if not isinstance(table, dict):
        problems.append(ConfigError(path, "is not a table", f"write [{path}] on a line of its own, its keys below"))
        table = {}
    known = {field.name: field for field in fields(kind)}
    for key in table.keys() - known.keys():
        problems.append(_unknown(_join(path, key), key, known))
    values: dict[str, Any] = {}
    for name, field in known.items():
        where = _join(path, name)
        if name not in table:
            if field.required:
                problems.append(ConfigError(where, "is missing", "every table of this kind needs it"))
                return None
            continue
        try:
            values[name] = _value(field, table[name], where, problems)
        except ConfigError as problem:
            problems.append(problem)
            if field.required:
                return None
    return kind(**values)


def _value(field: FieldInfo, value: object, where: str, problems: list[ConfigError]) -> Any:
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
        return _build(field.type, value, where, problems)
    item = next(iter(get_args(field.type)), None)
    if isinstance(item, type) and issubclass(item, msgspec.Struct):
        if not isinstance(value, list):
            raise ConfigError(where, "is not an array of tables", f"write [[{where}]] with two brackets")
        built = (_build(item, table, f"{where}[{index}]", problems) for index, table in enumerate(value))
        return tuple(struct for struct in built if struct is not None)
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        raise _wrong(field, value, where, str(error)) from error


def _wrong(field: FieldInfo, value: object, where: str, error: str) -> ConfigError:
    choices = [str(choice) for choice in _choices(field.type)]
    if choices:
        shown = ", ".join(choices)
        near = difflib.get_close_matches(str(value), choices, 1)
        fix = f"did you mean {near[0]}?" if near else f"write one of: {shown}"
        # The value of a field with choices is no secret.
        return ConfigError(where, f"{value!r} is not one of {shown}", fix)
    problem = error.split(" - at")[0].replace("`", "")
    for ours, theirs in (("array", "list"), ("str", "string"), ("bool", "true or false"), ("object", "table")):
        problem = problem.replace(f" {ours}", f" {theirs}")
    example = "" if field.required or field.default is msgspec.NODEFAULT else f"such as {toml_value(field.default)}"
    return ConfigError(where, problem[:1].lower() + problem[1:], example)


def _choices(kind: object) -> Iterable[object]:
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    elif get_origin(kind) is tuple:
        for item in get_args(kind):
            yield from _choices(item)


def _unknown(where: str, key: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, 1, 0.5)
    fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return ConfigError(where, "is not a setting", fix)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    """Relative paths start at the configuration file, so that it means the same wherever the service is started."""
    for table, key in PATHS:
        part = getattr(config, table)
        value = getattr(part, key)
        absolute = tuple(str(folder / item) for item in value) if isinstance(value, tuple) else str(folder / value)
        if value:
            config = replace(config, **{table: replace(part, **{key: absolute})})
    trunks = (replace(one, stir_key=str(folder / one.stir_key)) if one.stir_key else one for one in config.trunk)
    return replace(config, trunk=tuple(trunks))
