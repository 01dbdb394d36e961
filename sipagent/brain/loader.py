"""From "module:Class" in a route to a brain."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sipagent.brain.base import Brain, ContractBrain
from sipagent.errors import ConfigError

CONTRACT: Final = ("system_prompt", "tools", "on_tool_call", "is_finished", "collected_vars", "current_node_id")


def add_paths(paths: tuple[str, ...] = ()) -> None:
    """Let brain modules be found in the working directory and in `paths`, before everything else."""
    for path in (str(Path.cwd()), *(str(Path(path).resolve()) for path in reversed(paths))):
        if path not in sys.path:
            sys.path.insert(0, path)


def load_brain(reference: str, field: str = "route.brain") -> type[Any]:
    """The class that `reference` names; raises ConfigError, naming `field`, when it cannot be had or is no brain."""
    module_name, colon, class_name = reference.partition(":")
    if not (module_name and colon and class_name):
        raise ConfigError(field, f"{reference!r} does not name a brain", 'write "module:Class"')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        if problem.name is not None and (module_name == problem.name or module_name.startswith(problem.name + ".")):
            file = f"{module_name.replace('.', '/')}.py"
            fix = f"put {file} into a folder of conversation.brain_paths, or install its package"
            raise ConfigError(field, f"there is no module {module_name!r}", fix) from problem
        raise ConfigError(field, f"module {module_name!r} needs {problem.name!r}", "install it") from problem
    except Exception as problem:  # the user's code runs here: whatever it raises is a fault in what the field names
        raise ConfigError(field, f"module {module_name!r} cannot be imported: {_where(problem)}") from problem
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        classes = [value for value in vars(module).values() if isinstance(value, type) and value is not Brain]
        known = [value.__name__ for value in classes if not _missing(value)]
        raise ConfigError(
            field, f"module {module_name!r} has no class {class_name!r}", f"it has {', '.join(known) or 'none'}"
        )
    if missing := _missing(kind):
        raise ConfigError(
            field, f"{reference} is no brain: it lacks {', '.join(missing)}", "derive it from sipagent.brain.Brain"
        )
    return kind


def check_options(kind: type[Any], reference: str, options: Mapping[str, Any], field: str) -> None:
    """Raise ConfigError, naming `field`, when a brain cannot be made with these keywords."""
    try:
        signature = inspect.signature(kind)
    except ValueError:  # not written in Python: the call itself will tell
        return
    try:
        signature.bind(**options)
    except TypeError as problem:
        taken = [one.name for one in signature.parameters.values() if one.kind is not one.VAR_POSITIONAL]
        fix = f"it takes {', '.join(taken) or 'none'}"
        raise ConfigError(field, f"{reference} does not take them: {problem}", fix) from problem


def build_brain(reference: str, options: Mapping[str, Any], field: str = "route") -> Brain:
    """A new brain for one call, made with `options` as keywords; raises ConfigError when it does not take them."""
    kind = load_brain(reference, f"{field}.brain")
    try:
        made = kind(**options)
    except TypeError as problem:
        raise ConfigError(f"{field}.brain_options", f"{reference} does not take them: {problem}") from problem
    return made if isinstance(made, Brain) else ContractBrain(made)


def _missing(kind: type[Any]) -> list[str]:
    return [name for name in CONTRACT if not callable(getattr(kind, name, None))]


def _where(problem: Exception) -> str:
    trace, line = problem.__traceback__, ""
    while trace is not None:
        line = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    if isinstance(problem, SyntaxError):
        line = f" ({Path(problem.filename or '').name}, line {problem.lineno})"
        return f"SyntaxError: {problem.msg}{line}"
    return f"{type(problem).__name__}: {problem}{line}"
