"""Secrets from systemd credentials: files that only this service can read (systemd.exec(5), LoadCredential=)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sipagent.errors import ConfigError

SUFFIX: Final = "_credential"


def credential(name: str, field: str, environ: Mapping[str, str]) -> str:
    """The text of the credential `name`, without the newline at its end; raises ConfigError that names `field`."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        raise ConfigError(
            field,
            "there is no $CREDENTIALS_DIRECTORY",
            f"run under systemd with LoadCredential={name}:/path, or point the variable at a folder with a file {name}",
        )
    if name in ("", ".", "..") or "/" in name:
        raise ConfigError(field, f"{name!r} is not the name of a credential", "write a plain file name")
    try:
        return (Path(directory) / name).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(
            field, f"the credential {name} cannot be read: {error.strerror}", f"add LoadCredential={name}:/path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(field, f"the credential {name} is not UTF-8 text", "store text") from error


def resolve(
    table: Mapping[str, Any], path: str, environ: Mapping[str, str], problems: list[ConfigError]
) -> dict[str, Any]:
    """Replace `password_credential` by a `password` with the text of that credential, and so for every such key.

    Tables within the table are treated in the same way. Problems are appended, and the value is left out then.
    """
    resolved = dict(table)
    for key, name in table.items():
        if isinstance(name, Mapping):
            resolved[key] = resolve(name, f"{path}.{key}", environ, problems)
        if not key.endswith(SUFFIX) or not name:
            continue
        del resolved[key]
        target = key.removesuffix(SUFFIX)
        field = f"{path}.{key}"
        if table.get(target):
            problems.append(ConfigError(field, f"{target} is set as well", "keep one of the two"))
        elif not isinstance(name, str):
            problems.append(ConfigError(field, "is not the name of a credential", "write a plain file name"))
        else:
            try:
                resolved[target] = credential(name, field, environ)
            except ConfigError as problem:
                problems.append(problem)
    return resolved
