"""What can only be seen on this machine: brains that import, models that are installed, ports that are free.

`sipagent check` shows all of it; a finding is a problem when the service would not start or not take calls with it.
"""

import importlib.util
import os
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from sipagent.brain.loader import add_paths, check_options, load_brain
from sipagent.errors import ConfigError
from sipagent.pipeline.services.model_files import ModelFiles
from sipagent.rtp.sockets import FILES_OF_A_ROW
from sipagent.service.config.check import http_address, listener
from sipagent.service.config.parts import media_options
from sipagent.service.config.tree import Config, Route
from sipagent.service.worker.options import read_options

SPARE_FILES: Final = 256  # descriptors besides the RTP sockets: pipes, logs, HTTP, the database
SHORT_TOKEN: Final = 16
ANOTHER_ADDRESS: Final = "name one of those that `ip address` shows, or 0.0.0.0"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the operator should know; `problem` False is a warning."""

    problem: bool
    field: str
    text: str
    fix: str


def findings(config: Config) -> Iterator[Finding]:
    """Everything that this machine has to say about a configuration whose values are right."""
    rules: tuple[Callable[[Config], Iterator[Finding]], ...] = (
        _trunks,
        _routes,
        _models,
        _sip_ports,
        _rtp_ports,
        _http,
        _records,
        _descriptors,
    )
    for rule in rules:
        yield from rule(config)


def _warning(field: str, text: str, fix: str) -> Finding:
    return Finding(False, field, text, fix)


def _trunks(config: Config) -> Iterator[Finding]:
    if not config.trunk:
        yield _warning("trunk", "none: no registration, no calls out", "add a [[trunk]]")
        if not config.sip.accept_unknown_sources:
            yield _warning(
                "sip.accept_unknown_sources", "false, and no trunk: every call is refused", "add a [[trunk]]"
            )
    if not config.sip.tls_verify:
        yield _warning("sip.tls_verify", "false: anybody can pose as the trunk", "set tls_ca instead")


def _routes(config: Config) -> Iterator[Finding]:
    if not config.route:
        yield _warning("route", "none: every call is refused", "add a [[route]] with a brain")
    add_paths(config.conversation.brain_paths)
    for index, route in enumerate(config.route):
        for rule in (_brain, _options):
            try:
                rule(route)
            except ConfigError as error:
                yield Finding(True, f"route[{index}].{error.field}", error.problem, error.fix)
        if any((first.to, first.trunk) in (("*", "*"), (route.to, route.trunk)) for first in config.route[:index]):
            yield _warning(f"route[{index}]", "is never reached: an earlier route takes its calls", "move it up")


def _brain(route: Route) -> None:
    check_options(load_brain(route.brain, "brain"), route.brain, route.brain_options, "brain_options")


def _options(route: Route) -> None:
    if route.pipeline == "cascaded":
        read_options(route.options)


def _models(config: Config) -> Iterator[Finding]:
    if not any(route.pipeline == "cascaded" for route in config.route):
        return
    for module in ("ctranslate2", "tokenizers", "hibari"):
        if importlib.util.find_spec(module) is None:
            yield Finding(True, "route.pipeline", f"the package {module} is missing", "pip install 'sipagent[offline]'")
            return
    for model in _speech_models():
        try:
            model.locate(config.conversation.model_path)
        except ConfigError as error:
            yield _warning(error.field, error.problem, error.fix)


def _speech_models() -> tuple[ModelFiles, ...]:
    from sipagent.pipeline.services import hibari, smart_turn, whisper  # onnxruntime takes 0.3 s to import

    return whisper.MODEL, hibari.MODEL, smart_turn.MODEL


def _sip_ports(config: Config) -> Iterator[Finding]:
    for index, text in enumerate(config.sip.listen):
        transport, host, port = listener(text)
        if not _is_ours(host):
            yield Finding(True, f"sip.listen[{index}]", f"{host} is no address of this machine", ANOTHER_ADDRESS)
            continue
        why = _in_the_way(host, port, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        if why:
            yield _warning(f"sip.listen[{index}]", f"{text}: {why}", "is the service running? else choose another port")


def _rtp_ports(config: Config) -> Iterator[Finding]:
    if not _is_ours(config.media.address):
        yield Finding(True, "media.address", f"{config.media.address} is no address of this machine", ANOTHER_ADDRESS)
        return
    taken = [
        port
        for options in media_options(config)
        for port in range(options.first_port, options.first_port + 2 * options.rows)
        if _in_the_way(options.address, port, socket.SOCK_DGRAM)
    ]
    if taken:
        text = f"{len(taken)} ports are not free, the first is {taken[0]}"
        yield _warning("media.ports", text, "is the service running? else move the range")


def _http(config: Config) -> Iterator[Finding]:
    listen = config.http.listen
    if not listen or listen.startswith("unix:"):
        return
    host, port = http_address(listen)
    if not _is_ours(host):
        yield Finding(True, "http.listen", f"{host} is no address of this machine", ANOTHER_ADDRESS)
        return
    why = _in_the_way(host, port, socket.SOCK_STREAM)
    if why:
        yield _warning("http.listen", f"{listen}: {why}", "is the service running? else choose another port")
    if not ip_address(host).is_loopback:
        yield _warning(
            "http.listen", f"{host} can be reached from outside, without TLS", "put a proxy with TLS before it"
        )
    if len(config.http.token) < SHORT_TOKEN:
        yield _warning("http.token", "is short: it can be guessed", "`sipagent init` writes one of 32 characters")


def _records(config: Config) -> Iterator[Finding]:
    directory = Path(config.records.directory)
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            True, "records.directory", f"{directory} cannot be written", "name a folder of the service's user"
        )


def _descriptors(config: Config) -> Iterator[Finding]:
    needed = FILES_OF_A_ROW * max(options.rows for options in media_options(config)) + SPARE_FILES
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield _warning(
            "limits.max_calls", f"needs {needed} open files, {hard} are allowed", "raise LimitNOFILE or ulimit -Hn"
        )


def _is_ours(host: str) -> bool:
    """Whether sockets can be bound to an address, on whatever port."""
    return not _in_the_way(host, 0, socket.SOCK_DGRAM)


def _in_the_way(host: str, port: int, kind: socket.SocketKind) -> str:
    """Why an address cannot be bound; "" when it can."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, kind | socket.SOCK_CLOEXEC) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""
