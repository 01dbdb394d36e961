"""JSON schema of a type hint, written inline: language models and their providers handle references badly."""

import dataclasses
import enum
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

_PLAIN: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(hint: Any, where: str) -> dict[str, Any]:
    """The schema of `hint`: str, int, float, bool, None, Literal, Enum, list, tuple, dict, Optional, unions, Annotated
    (its first string is the description), dataclasses and TypedDicts. Raises TypeError, which names `where`.
    """
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint is Any:
        return {}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        texts = [note for note in arguments[1:] if isinstance(note, str)]
        return {**schema_of(arguments[0], where), **({"description": texts[0]} if texts else {})}
    if origin is Literal:
        return _choices(arguments, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choices([member.value for member in hint], where)
    if origin in (Union, types.UnionType):
        return _union(arguments, where)
    if origin in (list, set, frozenset, Sequence) or hint in (list, set):
        return {"type": "array", **({"items": schema_of(arguments[0], where)} if arguments else {})}
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": schema_of(arguments[0], where)}
    if origin in (dict, Mapping) or hint is dict:
        return {"type": "object", **({"additionalProperties": schema_of(arguments[1], where)} if arguments else {})}
    if is_typeddict(hint):
        return _object(get_type_hints(hint, include_extras=True), hint.__required_keys__, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        missing = dataclasses.MISSING
        needed = [f.name for f in dataclasses.fields(hint) if f.default is missing and f.default_factory is missing]
        return _object(get_type_hints(hint, include_extras=True), needed, where)
    raise TypeError(f"{where}: no JSON schema for {hint!r}")


def _choices(values: Sequence[Any], where: str) -> dict[str, Any]:
    kinds = {_PLAIN.get(type(value)) for value in values}
    if None in kinds or len(kinds) != 1:
        raise TypeError(f"{where}: choices must be of one plain type, not {list(values)!r}")
    return {"type": kinds.pop(), "enum": list(values)}


def _union(members: Sequence[Any], where: str) -> dict[str, Any]:
    schemas = [schema_of(member, where) for member in members]
    if all(set(schema) == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}


def _object(hints: Mapping[str, Any], required: Any, where: str) -> dict[str, Any]:
    properties = {name: schema_of(hint, f"{where}.{name}") for name, hint in hints.items()}
    return {"type": "object", "properties": properties, "required": [name for name in hints if name in set(required)]}
