"""The command line: run the service, check its configuration, and steer a running one over HTTP."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sipagent.errors import ConfigError, SipagentError
from sipagent.service.config import load as config_load
from sipagent.service.config.text import init_file
from sipagent.service.config.tree import Config

# Modules of the service are imported by the commands that need them: `sipagent version` is not to load a model runtime.

app: Final = typer.Typer(
    help="A SIP user agent for voice agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out: Final = Console(highlight=False, soft_wrap=True)
err: Final = Console(highlight=False, soft_wrap=True, stderr=True)

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", envvar="SIPAGENT_CONFIG", help="Configuration file.", show_default=True)
]
Url = Annotated[
    str, typer.Option(help="Address of the service instead of the one in the configuration: host:port or unix:/path.")
]
Token = Annotated[str, typer.Option(envvar="SIPAGENT_TOKEN", help="Bearer token for --url.", show_default=False)]
DEFAULT_CONFIG: Final = Path("sipagent.toml")


def main() -> None:
    """Entry point: errors that we know are one line, not a traceback."""
    # onnxruntime from 1.31 on reports its use to Microsoft unless told not to before it is imported (its Privacy.md).
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        app()
    except SipagentError as error:
        err.print(f"[red]error[/] {escape(str(error))}")
        raise SystemExit(1) from None


@app.command()
def serve(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Run the service until SIGTERM; a second one does not wait for calls."""
    settings = _load(config)
    from sipagent.service import planes

    planes.prepare()  # before the modules of this process, which take as long
    from sipagent.service import logging, supervisor
    from sipagent.service.redaction import secrets_of

    logging.configure(settings.log, secrets_of(settings), plane="sipagent")
    try:
        asyncio.run(supervisor.serve(settings, config))
    except* ConfigError as group:
        _show_problems(err, _leaves(group))
        raise SystemExit(1) from None


@app.command()
def check(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Say what is wrong with a configuration, field by field, and what this machine lacks for it."""
    settings, problems = config_load.read(config, os.environ)
    _show_problems(out, problems)
    failed = bool(problems)
    if not problems:
        from sipagent.service.config.preflight import findings

        for finding in findings(settings):
            failed = failed or finding.problem
            word = "[red]error  [/]" if finding.problem else "[yellow]warning[/]"
            out.print(f"{word} [bold]{escape(finding.field)}[/]: {escape(finding.text)}")
            if finding.fix:
                out.print(f"        {escape(finding.fix)}", style="dim")
    if failed:
        raise typer.Exit(1)
    out.print(f"[green]ok[/] {escape(str(config))}: {len(settings.trunk)} trunks, {len(settings.route)} routes")


@app.command()
def init(
    output: Annotated[Path, typer.Argument(help="File to write.")] = DEFAULT_CONFIG,
    force: Annotated[bool, typer.Option(help="Overwrite it when it exists.")] = False,
) -> None:
    """Write a commented configuration with every setting, and a fresh token for the HTTP endpoint."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | (0 if force else os.O_EXCL)
    try:
        descriptor = os.open(output, flags, 0o600)  # it holds a token
    except FileExistsError:
        raise ConfigError(str(output), "exists", "use --force to overwrite it") from None
    except OSError as error:
        raise ConfigError(str(output), f"cannot be written: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - opened with its mode
        file.write(init_file())
    out.print(f"{output} is written; add a [[trunk]] and a [[route]], then: sipagent check -c {output}", markup=False)


@app.command()
def calls(
    config: ConfigFile = DEFAULT_CONFIG,
    url: Url = "",
    token: Token = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the calls of the running service."""
    with _endpoint(config, url, token) as endpoint:
        listed = endpoint.get("/v1/calls")["calls"]
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    table = Table("id", "direction", "from", "to", "state", "outcome", "seconds", box=None)
    for one in listed:
        began = one["answered_at"]
        seconds = f"{(one['ended_at'] or time.time()) - began:.0f}" if began else ""
        cells = (one["id"], one["direction"], one["from"], one["to"], one["state"], one["outcome"], seconds)
        table.add_row(*map(escape, cells))
    out.print(table)


@app.command()
def call(
    number: Annotated[str, typer.Argument(help="E.164 number, or SIP URI of an allowed host.")],
    config: ConfigFile = DEFAULT_CONFIG,
    url: Url = "",
    token: Token = "",
    caller_id: Annotated[str, typer.Option("--from", help="Caller id; left out: that of the trunk.")] = "",
    trunk: Annotated[str, typer.Option(help="Trunk; left out: the first one.")] = "",
    brain: Annotated[str, typer.Option(help="module:Class; left out: that of the route.")] = "",
    variable: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the brain; may be repeated.")] = None,
    follow: Annotated[bool, typer.Option(help="Print the events until the call ends.")] = True,
) -> None:
    """Place a call, and follow it."""
    body: dict[str, Any] = {"to": number, "variables": _variables(variable or ())}
    body |= {key: value for key, value in (("from", caller_id), ("trunk", trunk), ("brain", brain)) if value}
    with _endpoint(config, url, token) as endpoint:
        # A key of its own, so that a retry of ours never places a second call.
        accepted = endpoint.post("/v1/calls", body, {"Idempotency-Key": secrets.token_hex(16)})
        typer.echo(accepted["id"])
        if follow:
            for event in endpoint.events(accepted["id"]):
                _show_event(event)


@app.command()
def hangup(
    call_id: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigFile = DEFAULT_CONFIG,
    url: Url = "",
    token: Token = "",
) -> None:
    """End a call."""
    with _endpoint(config, url, token) as endpoint:
        typer.echo(endpoint.post(f"/v1/calls/{call_id}/hangup", {})["state"])


@app.command()
def ladder(
    call_id: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigFile = DEFAULT_CONFIG,
    url: Url = "",
    token: Token = "",
    svg: Annotated[Path | None, typer.Option(help="Write a drawing to this file instead.", dir_okay=False)] = None,
) -> None:
    """Show the SIP messages of a call, in progress or over, without its secrets."""
    with _endpoint(config, url, token) as endpoint:
        if svg is None:
            typer.echo(endpoint.text(f"/v1/calls/{call_id}/ladder"))
        else:
            _save(svg, [endpoint.text(f"/v1/calls/{call_id}/ladder?format=svg").encode()])


@app.command()
def capture(
    call_id: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigFile = DEFAULT_CONFIG,
    url: Url = "",
    token: Token = "",
    stop: Annotated[bool, typer.Option("--stop", help="End the capture.")] = False,
    output: Annotated[Path | None, typer.Option(help="Fetch what is captured into this file.", dir_okay=False)] = None,
) -> None:
    """Capture SIP and RTP of a call for Wireshark; with --output, fetch the capture of a call in progress or over."""
    with _endpoint(config, url, token) as endpoint:
        if stop:
            endpoint.delete(f"/v1/calls/{call_id}/capture")
        if output is not None:
            _save(output, endpoint.download(f"/v1/calls/{call_id}/pcap"))
        elif not stop:
            endpoint.post(f"/v1/calls/{call_id}/capture", {})


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    listen: Annotated[bool, typer.Option(help="Wait for a softphone instead of the scripted caller.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for what is left of the calls.")] = Path("demo-call"),
) -> None:
    """Play a whole call on this machine: a registrar, the service, and a caller that we did not write."""
    from sipagent.demo import main as demonstration

    demonstration.run(as_json, listen, output)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("sipagent"))


def _save(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that only its owner may read, since calls are private; nothing when the first piece is refused."""
    remaining = iter(pieces)
    first = next(remaining, b"")
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - opened with its mode
            file.write(first)
            file.writelines(remaining)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from None


def _load(path: Path) -> Config:
    settings, problems = config_load.read(path, os.environ)
    if problems:
        _show_problems(err, problems)
        raise typer.Exit(1)
    return settings


def _show_problems(console: Console, problems: Iterable[ConfigError]) -> None:
    for problem in problems:
        console.print(f"[red]error  [/] [bold]{escape(problem.field)}[/]: {escape(problem.problem)}")
        if problem.fix:
            console.print(f"        {escape(problem.fix)}", style="dim")


def _leaves(group: BaseExceptionGroup[ConfigError]) -> list[ConfigError]:
    found: list[ConfigError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _endpoint(config: Path, url: str, token: str) -> Any:
    from sipagent.http.client import Endpoint

    if url:
        return Endpoint(url.removeprefix("http://").rstrip("/"), token)
    settings, problems = config_load.read(config, os.environ)
    needed = [problem for problem in problems if problem.field.startswith("http") or problem.field == str(config)]
    if needed and not token:
        raise needed[0]
    if not settings.http.listen:
        raise ConfigError("http.listen", "is empty: the service has no endpoint", "set it")
    return Endpoint(settings.http.listen, token or settings.http.token)


def _variables(pairs: Iterable[str]) -> dict[str, str]:
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise ConfigError("--variable", f"{pair!r} is not NAME=VALUE")
        variables[name] = value
    return variables


def _show_event(event: Mapping[str, Any]) -> None:
    at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    rest = "  ".join(f"{key}={value}" for key, value in event.items() if key not in ("type", "at"))
    out.print(f"[dim]{at}[/] [bold]{escape(event['type'])}[/] {escape(rest)}")


if __name__ == "__main__":
    main()
