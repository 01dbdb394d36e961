"""What a configuration must be beyond its types: addresses that are addresses, ports that suffice, names that match.

One function for each table, each yielding its problems; `check` is all of them.
"""

import fnmatch
import math
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

from sipagent.errors import ConfigError
from sipagent.service.config.tree import Config, Sip, Trunk
from sipagent.sip.public_address import PREFIX, parse_server

Problems = Iterator[ConfigError]

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
BRAIN: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])"
SERVER: Final = re.compile(
    rf"(?:(?P<scheme>sips?):)?(?P<host>{HOST})(?::(?P<port>\d{{1,5}}))?(?P<parameters>(?:;[\w.=-]+)*)"
)
LISTEN: Final = re.compile(r"(?P<transport>[a-z]+):(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9.]+):(?P<port>\d{1,5})")
USER: Final = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,;?/%#]+")  # RFC 3261 §25.1 user, and "#" as dialled


def check(config: Config, folder: Path) -> list[ConfigError]:
    """All problems of a tree whose types are right; `folder` is that of the file."""
    rules: tuple[Callable[[Config], Problems], ...] = (
        _finite, _sip, _trunks, _media, _conversation, _routes, _http, _limits, _hep,
    )  # fmt: skip
    return [problem for rule in rules for problem in rule(config)]


def listener(text: str) -> tuple[str, str, int]:
    """("udp", "127.0.0.1", 5060) from "udp:127.0.0.1:5060"; raises ValueError that says what is wrong."""
    match = LISTEN.fullmatch(text)
    if match is None:
        raise ValueError("is not transport:address:port")
    transport, host, port = match["transport"], match["host"].strip("[]"), int(match["port"])
    if transport not in ("udp", "tcp", "tls"):
        raise ValueError(f"{transport} is not udp, tcp or tls")
    ip_address(host)
    if port > 65535:
        raise ValueError(f"{port} is not a port")
    return transport, host, port


def rtp_rows(config: Config) -> int:
    """Pairs of ports in the range: rows of the call table, all media planes together."""
    first, last = config.media.ports
    return max(0, (last - first) // 2 + 1)


def server_address(server: str) -> tuple[str, int]:
    """Host and port of a trunk's server; 0 for the usual port."""
    match = SERVER.fullmatch(server)
    return server_host(server), int(match["port"] or 0) if match else 0


def server_host(server: str) -> str:
    """Host of a trunk's server, without brackets; "" when it cannot be told."""
    match = SERVER.fullmatch(server)
    return match["host"].strip("[]").rstrip(".").lower() if match else ""


def _finite(config: Config) -> Problems:
    for table in config.__struct_fields__:
        values = getattr(config, table)
        for key in getattr(values, "__struct_fields__", ()):
            value = getattr(values, key)
            if isinstance(value, float) and not math.isfinite(value):
                yield ConfigError(f"{table}.{key}", f"{value} is no number to count with", "write a finite number")


def _sip(config: Config) -> Problems:
    sip = config.sip
    if not sip.listen:
        yield ConfigError("sip.listen", "is empty", 'such as ["udp:0.0.0.0:5060"]')
    for index, text in enumerate(sip.listen):
        field = f"sip.listen[{index}]"
        try:
            transport, _, _ = listener(text)
        except ValueError as error:
            yield ConfigError(field, f"{text!r}: {error}", 'such as "udp:127.0.0.1:5060" or "tcp:[::1]:5060"')
            continue
        if transport == "tls" and not (sip.tls_certificate and sip.tls_key):
            yield ConfigError(field, "TLS needs a certificate", "set sip.tls_certificate and sip.tls_key")
        if text in sip.listen[:index]:
            yield ConfigError(field, f"{text!r} is listed twice", "remove one")
    yield from _public_address(sip.public_address.strip())
    if not sip.user_agent.isprintable():
        yield ConfigError("sip.user_agent", "has control characters", "use plain text on one line")
    if sip.tls_client_ca and not any(text.startswith("tls:") for text in sip.listen):
        yield ConfigError("sip.tls_client_ca", "no listener asks for certificates", 'add "tls:…" to sip.listen')
    for key in ("tls_certificate", "tls_key", "tls_ca", "tls_client_ca"):
        path = getattr(sip, key)
        if path and not Path(path).is_file():
            yield ConfigError(f"sip.{key}", f"{path} is not a file", "paths start at the configuration file's folder")
    yield from _stir(sip)


def _hep(config: Config) -> Problems:
    match = re.fullmatch(rf"udp:{HOST}:(\d{{1,5}})", config.hep.server)
    if config.hep.server and (match is None or not 0 < int(match[1]) <= 65535):
        yield ConfigError("hep.server", f"{config.hep.server!r} is no server", 'such as "udp:homer.example:9060"')


def _stir(sip: Sip) -> Problems:
    if sip.stir_trust_anchors:
        from sipagent.stir.certificate import load_anchors  # when it is configured only: it takes time to load

        try:
            load_anchors(sip.stir_trust_anchors)
        except ConfigError as problem:
            yield problem
        if not sip.stir_certificates and not sip.stir_hosts:
            fix = "name hosts to fetch them from, or set stir_certificates"
            yield ConfigError("sip.stir_hosts", "no certificate can be had", fix)
    elif sip.stir == "require":
        yield ConfigError("sip.stir", "needs trust anchors to require anything", "set sip.stir_trust_anchors")
    if sip.stir_certificates and not Path(sip.stir_certificates).is_dir():
        yield ConfigError("sip.stir_certificates", f"{sip.stir_certificates} is not a folder", "name a folder")
    for index, host in enumerate(sip.stir_hosts):
        if not re.fullmatch(rf"{HOST}(:\d{{1,5}})?", host):
            yield ConfigError(f"sip.stir_hosts[{index}]", f"{host!r} is not a host", "such as cert.example, no https:")


def _public_address(text: str) -> Problems:
    if text.startswith(PREFIX):
        try:
            parse_server(text)
        except ConfigError as error:
            yield error
    elif text and not re.fullmatch(HOST, text):
        fix = 'such as 203.0.113.7, or "stun:stun.example:3478"'
        yield ConfigError("sip.public_address", f"{text!r} is not an address", fix)


def _trunks(config: Config) -> Problems:
    names: set[str] = set()
    for index, trunk in enumerate(config.trunk):
        field = f"trunk[{index}]"
        if not NAME.fullmatch(trunk.name):
            yield ConfigError(f"{field}.name", f"{trunk.name!r} is not a name", "letters, digits, - _ and .")
        if trunk.name in names:
            yield ConfigError(f"{field}.name", f"{trunk.name!r} is taken by another trunk", "give each its own")
        names.add(trunk.name)
        yield from _trunk(field, trunk)


def _trunk(field: str, trunk: Trunk) -> Problems:
    example = 'such as "sip:trunk.example;transport=tcp"'
    for key in ("server", "outbound_proxy"):
        text = getattr(trunk, key)
        match = SERVER.fullmatch(text)
        if not text and key == "outbound_proxy":
            continue
        if match is None or int(match["port"] or 0) > 65535:
            yield ConfigError(f"{field}.{key}", f"{text!r} is not a SIP server", example)
            continue
        transport = re.search(r"transport=([^;]*)", match["parameters"])
        if transport and transport[1].lower() not in ("udp", "tcp", "tls"):
            yield ConfigError(f"{field}.{key}", f"transport {transport[1]!r} is not known", "udp, tcp or tls")
    if trunk.register and not (trunk.username or trunk.caller_id):
        yield ConfigError(f"{field}.username", "is needed to register", "set it, or register = false")
    for key in ("username", "caller_id"):
        text = getattr(trunk, key)
        if text and not USER.fullmatch(text):
            yield ConfigError(f"{field}.{key}", f"{text!r} cannot stand in a SIP URI", "a number or name, no host")
    for key in ("auth_username", "password"):
        if not getattr(trunk, key).isprintable():
            yield ConfigError(f"{field}.{key}", "has control characters", "check for a line break at its end")
    if trunk.inbound_digest and not (trunk.password and (trunk.auth_username or trunk.username)):
        yield ConfigError(
            f"{field}.inbound_digest", "needs username and password", "set both, or inbound_digest = false"
        )
    if trunk.domain and not re.fullmatch(HOST, trunk.domain):
        yield ConfigError(f"{field}.domain", f"{trunk.domain!r} is not a host name", "such as trunk.example")
    for position, network in enumerate(trunk.allow):
        try:
            ip_network(network)
        except ValueError as error:
            yield ConfigError(f"{field}.allow[{position}]", str(error), 'such as "203.0.113.0/24"')
    if bool(trunk.stir_key) != bool(trunk.stir_x5u):
        missing = "stir_x5u" if trunk.stir_key else "stir_key"
        yield ConfigError(f"{field}.{missing}", "is needed to sign calls", "set stir_key and stir_x5u, or neither")
    elif trunk.stir_key:
        from sipagent.stir.sign import load_key

        try:
            load_key(trunk.stir_key, f"{field}.stir_key")
        except ConfigError as problem:
            yield problem
        if not re.fullmatch(r"https://[!-;=?-~]+", trunk.stir_x5u):
            fix = "such as https://cert.example/a.pem"
            yield ConfigError(f"{field}.stir_x5u", f"{trunk.stir_x5u!r} is not a URL", fix)
    if not trunk.codecs or len(set(trunk.codecs)) != len(trunk.codecs):
        yield ConfigError(f"{field}.codecs", "is empty or names one twice", 'such as ["G722", "PCMU", "PCMA"]')


def _media(config: Config) -> Problems:
    media = config.media
    try:
        ip_address(media.address)
    except ValueError:
        yield ConfigError("media.address", f"{media.address!r} is not an address", "such as 0.0.0.0 or ::")
    first, last = media.ports
    if first % 2:
        yield ConfigError(
            "media.ports", f"{first} is odd, RTP takes even ports (RFC 3550 §11)", f"start at {first + 1}"
        )
    elif last < first + 1:
        yield ConfigError("media.ports", f"{last} does not lie behind {first}", "write [first, last]")
    elif rtp_rows(config) < config.limits.max_calls:
        needed = first + 2 * config.limits.max_calls - 1
        fix = f"end at {needed} or later" if needed <= 65535 else "lower limits.max_calls"
        yield ConfigError(
            "media.ports", f"room for {rtp_rows(config)} calls, limits.max_calls is {config.limits.max_calls}", fix
        )
    elif min(rtp_rows(config), config.limits.max_calls) < media.planes:
        yield ConfigError("media.planes", "more planes than calls", "one is enough for 2,000 calls")
    for index, text in enumerate(config.sip.listen):
        match = LISTEN.fullmatch(text)
        if match and match["transport"] == "udp" and first <= int(match["port"]) <= last + 1:
            yield ConfigError(
                f"sip.listen[{index}]", f"port {match['port']} lies within media.ports", "move one of them"
            )
    low, high = media.gap_deadline_ms
    if low > high or high > 1000:
        yield ConfigError("media.gap_deadline_ms", f"[{low}, {high}] is not a range below 1000", "such as [20, 170]")


def _conversation(config: Config) -> Problems:
    talk = config.conversation
    if talk.apology and not Path(talk.apology).is_file():
        yield ConfigError("conversation.apology", f"{talk.apology} is not a file", "name a WAV file")
    if talk.hold_music and not Path(talk.hold_music).is_file():
        yield ConfigError("conversation.hold_music", f"{talk.hold_music} is not a file", "name a WAV file")
    if talk.model_path and not Path(talk.model_path).is_dir():
        yield ConfigError("conversation.model_path", f"{talk.model_path} is not a folder", "name the models' folder")
    for index, folder in enumerate(talk.brain_paths):
        if not Path(folder).is_dir():
            yield ConfigError(f"conversation.brain_paths[{index}]", f"{folder} is not a folder", "name a folder")


def _routes(config: Config) -> Problems:
    names = [trunk.name for trunk in config.trunk]
    for index, route in enumerate(config.route):
        field = f"route[{index}]"
        if not BRAIN.fullmatch(route.brain):
            yield ConfigError(
                f"{field}.brain", f"{route.brain!r} is not module:Class", 'such as "receptionist:Receptionist"'
            )
        if not route.to or not route.to.isprintable() or " " in route.to:
            yield ConfigError(
                f"{field}.to", f"{route.to!r} matches no number", 'a shell pattern such as "+4930*" or "*"'
            )
        if route.trunk != "*" and not fnmatch.filter(names, route.trunk):
            known = ", ".join(names) or "none"
            yield ConfigError(f"{field}.trunk", f"no trunk is named {route.trunk!r}", f"trunks: {known}")


def _http(config: Config) -> Problems:
    listen = config.http.listen
    if listen.startswith("unix:"):
        path = listen.removeprefix("unix:")
        if not path.startswith("/"):
            yield ConfigError(
                "http.listen", f"{path!r} is not an absolute path", 'such as "unix:/run/sipagent/http.sock"'
            )
        elif len(path.encode()) > 107:
            yield ConfigError(
                "http.listen", "the path is longer than 107 bytes", "the kernel takes no more; shorten it"
            )
        return
    if not listen:
        return
    try:
        http_address(listen)
    except ValueError as error:
        yield ConfigError("http.listen", f"{listen!r}: {error}", 'such as "127.0.0.1:8080"')
    if not config.http.token:
        yield ConfigError(
            "http.token",
            "is needed, because http.listen is not a Unix socket",
            'set it, or token_credential, or SIPAGENT__HTTP__TOKEN; or listen = "unix:/run/sipagent/http.sock"',
        )
    elif not (config.http.token.isascii() and config.http.token.isprintable()) or " " in config.http.token:
        yield ConfigError("http.token", "cannot stand in an HTTP header", "letters, digits and punctuation, no space")


def http_address(listen: str) -> tuple[str, int]:
    """("127.0.0.1", 8080) from "127.0.0.1:8080" or "[::1]:8080"; raises ValueError that says what is wrong."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("is not address:port")
    ip_address(host.strip("[]"))
    if int(port) > 65535:
        raise ValueError(f"{port} is not a port")
    return host.strip("[]"), int(port)


def _limits(config: Config) -> Problems:
    for index, host in enumerate(config.limits.allow_hosts):
        if not re.fullmatch(rf"{HOST}(:\d{{1,5}})?", host):
            yield ConfigError(f"limits.allow_hosts[{index}]", f"{host!r} is not a host", "such as pbx.example, no sip:")
    for key in ("allow_numbers", "deny_numbers"):
        for index, pattern in enumerate(getattr(config.limits, key)):
            if not re.fullmatch(r"[+*?\d\[\]!-]+", pattern):
                yield ConfigError(f"limits.{key}[{index}]", f"{pattern!r} matches no number", 'such as "+49*"')
