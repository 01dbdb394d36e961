"""`@tool`: a method of a brain as a tool for a language model.

    @tool
    async def book(self, name: str, day: Literal["monday", "tuesday"], hour: int = 9) -> str:
        \"\"\"Book an appointment.

        Args:
            name: The caller's name.
            hour: Full hour, 9 to 17.
        \"\"\"

The JSON schema comes from the type hints, the descriptions from the docstring. Arguments that a model sends are
converted to the hinted types before the method is called.
"""

import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, overload

import msgspec

from sipagent.brain.contract import Tool
from sipagent.brain.schema import schema_of
from sipagent.errors import SipagentError

_ATTRIBUTE = "__sipagent_tool__"
Function = TypeVar("Function", bound=Callable[..., Any])


class ArgumentsError(SipagentError):
    """A model called a tool with arguments that do not fit; the text tells it what to mend."""


@dataclass(frozen=True, slots=True)
class ToolMethod:
    """A method that `@tool` marked: how it is announced, and the struct that checks its arguments."""

    tool: Tool
    arguments: type[msgspec.Struct]
    filler: str = ""  # said while the tool works, when it takes long
    timeout_s: float = 0.0  # 0 = as the conversation has it

    def convert(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments for the method; raises ArgumentsError."""
        if unknown := set(arguments) - set(self.arguments.__struct_fields__):
            raise ArgumentsError(f"{self.tool.name} has no argument {', '.join(sorted(unknown))}")
        try:
            values = msgspec.convert(dict(arguments), self.arguments, strict=False)
        except msgspec.ValidationError as problem:
            raise ArgumentsError(f"{self.tool.name}: {problem}") from problem
        return {name: getattr(values, name) for name in self.arguments.__struct_fields__}


@overload
def tool(function: Function) -> Function: ...
@overload
def tool(*, name: str = "", filler: str = "", timeout_s: float = 0.0) -> Callable[[Function], Function]: ...
def tool(
    function: Function | None = None, *, name: str = "", filler: str = "", timeout_s: float = 0.0
) -> Function | Callable[[Function], Function]:
    """Mark a method, sync or async, as a tool; raises TypeError when a parameter has no usable type hint."""

    def mark(method: Function) -> Function:
        setattr(method, _ATTRIBUTE, _describe(method, name or method.__name__, filler, timeout_s))
        return method

    return mark if function is None else mark(function)


def tool_methods(brain: object) -> dict[str, tuple[ToolMethod, Callable[..., Any]]]:
    """The marked methods of an object, bound, by tool name, in the order of their definition."""
    found: dict[str, tuple[ToolMethod, Callable[..., Any]]] = {}
    for kind in reversed(type(brain).__mro__):
        for attribute, value in vars(kind).items():
            described = getattr(value, _ATTRIBUTE, None)
            if isinstance(described, ToolMethod):
                found[described.tool.name] = (described, getattr(brain, attribute))
    return found


def _describe(method: Callable[..., Any], name: str, filler: str, timeout_s: float) -> ToolMethod:
    summary, notes = read_docstring(inspect.getdoc(method) or "")
    hints = get_type_hints(method, include_extras=True)
    properties: dict[str, Any] = {}
    required: list[str] = []
    fields: list[Any] = []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"tool {name}: *{parameter.name} cannot be described to a model")
        if parameter.name not in hints:
            raise TypeError(f"tool {name}: parameter {parameter.name} needs a type hint")
        hint = hints[parameter.name]
        shown = _without_none(hint) if parameter.default is None else hint  # to be left out rather than sent as null
        schema = schema_of(shown, where=f"tool {name}: parameter {parameter.name}")
        if note := notes.get(parameter.name):
            schema = {**schema, "description": note}
        if parameter.default is parameter.empty:
            required.append(parameter.name)
            fields.append((parameter.name, hint))
        else:
            if isinstance(parameter.default, str | int | float | bool):
                schema = {**schema, "default": parameter.default}
            fields.append((parameter.name, hint, _default(parameter.default)))
        properties[parameter.name] = schema
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    arguments = msgspec.defstruct(f"{name}_arguments", fields, kw_only=True)
    return ToolMethod(Tool(name, summary, parameters), arguments, filler, timeout_s)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    return Union[tuple(member for member in get_args(hint) if member is not type(None))]  # noqa: UP007  a computed one


def _default(value: Any) -> Any:
    """msgspec refuses mutable defaults; a factory that copies them is what a caller expects anyway."""
    if isinstance(value, list | dict | set):
        return msgspec.field(default_factory=lambda: type(value)(value))
    return value


_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?):\s*$")
_ARGUMENT = re.compile(r"^(\s*)\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the first section, as one paragraph each, and the notes of the Args section by name."""
    summary: list[str] = []
    notes: dict[str, str] = {}
    section, current, indent = "", "", 0
    for line in text.splitlines():
        if heading := _SECTION.match(line):
            section, current = heading.group(1), ""
        elif not section:
            summary.append(line.strip())
        elif section in ("Args", "Arguments", "Parameters") and line.strip():
            found = _ARGUMENT.match(line)
            if found and (not current or len(found.group(1)) <= indent):
                current, indent = found.group(2), len(found.group(1))
                notes[current] = found.group(3).strip()
            elif current:
                notes[current] = f"{notes[current]} {line.strip()}".strip()
    paragraphs = "\n".join(summary).strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs), notes
