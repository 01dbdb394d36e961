"""docs/configuration.md, made from the configuration's source and from that of a conversation's options.

python -m sipagent.service.config.manual > docs/configuration.md
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sipagent.brain.answering import ResponderOptions
from sipagent.pipeline.cascaded import GROUPS
from sipagent.service.config.text import Setting, settings_of, tables
from sipagent.service.worker.options import ChatEndpoint, WorkerOptions

HEAD: Final = """# Configuration

<!-- Made from sipagent/service/config/tree.py by `python -m sipagent.service.config.manual`; a test compares. -->

One TOML file, read once at the start: `sipagent serve --config sipagent.toml`. `sipagent init` writes a commented one,
`sipagent check --config FILE` names every problem with its field and its fix. Unknown keys are errors. Relative paths
start at the folder of the file.

**Environment.** `SIPAGENT__TABLE__KEY` overrides a key, `SIPAGENT__TRUNK__0__PASSWORD` one of the first `[[trunk]]`;
the number after the last makes a new table. Strings are taken as they stand, everything else is written as in TOML or
JSON: `SIPAGENT__SIP__LISTEN='["udp:127.0.0.1:5060"]'`.

**Secrets.** `password_credential`, `token_credential`, and any `…_credential` within `options` or `brain_options`, name
a file in `$CREDENTIALS_DIRECTORY`, which systemd fills by `LoadCredential=`. Secrets are shown as `***` wherever a
configuration is printed or logged.
"""
OPTIONS: Final = """
## `options` of a route

Of `pipeline = "cascaded"`, all in one flat table: `options = { voice_speed = 1.1, max_silence_seconds = 1.2 }`.
"""


def manual() -> str:
    """The whole document."""
    lines = [HEAD.rstrip()]
    for table in tables():
        title = f"[[{table.name}]]" if table.many else f"[{table.name}]"
        lines += [
            "",
            f"## `{title}`",
            "",
            table.docstring[:1].upper() + table.docstring[1:],
            "",
            *_rows(table.settings),
        ]
    lines.append(OPTIONS.rstrip())
    for kind in (WorkerOptions, ChatEndpoint, ResponderOptions, *GROUPS.values()):
        lines += ["", f"**{_first_line(kind)}**", "", *_rows(settings_of(kind))]
    return "\n".join(lines) + "\n"


def _rows(settings: Iterable[Setting]) -> Iterator[str]:
    yield "| key | default | values | |"
    yield "|---|---|---|---|"
    for setting in settings:
        default = "*needed*" if setting.default is None else f"`{setting.default}`" if setting.default else ""
        cells = (f"`{setting.name}`", default, setting.values, setting.comment)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _first_line(kind: type[Any]) -> str:
    return (inspect.getdoc(kind) or kind.__name__).splitlines()[0]


if __name__ == "__main__":
    print(manual(), end="")
