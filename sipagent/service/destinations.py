"""Whom this service may call: what is a destination at all, and which are allowed (toll fraud, header injection).

Everything that a program or a brain names as the target of a call or a transfer passes here before SIP sees it.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import unquote

from sipagent.errors import ParseError
from sipagent.service.config.check import HOST, server_host
from sipagent.service.config.tree import Config

E164: Final = re.compile(r"\+[1-9]\d{1,14}")  # ITU-T E.164: at most 15 digits
# RFC 3261 §19.1.1 without what could lead elsewhere: no password, no headers, no maddr, no parameters within the user.
SIP_URI: Final = re.compile(
    rf"sips?:(?P<user>(?:[A-Za-z0-9\-_.!~*'()&=+$,/]|%[0-9A-Fa-f]{{2}}){{1,128}})@(?P<host>{HOST})(?::(?P<port>\d{{1,5}}))?"
    r"(?:;(?:transport=(?:udp|tcp|tls)|user=phone))*",
    re.IGNORECASE,
)
MAX_LENGTH: Final = 256


@dataclass(frozen=True, slots=True)
class Destination:
    """A target that can be written into a message: an E.164 number (`host` is "") or a SIP URI."""

    text: str
    user: str  # number, or the URI's user with escapes resolved
    host: str = ""
    port: int = 0


def parse(text: str) -> Destination:
    """Read a destination; raises ParseError for all that is neither "+4930123456" nor "sip:user@host"."""
    if len(text) > MAX_LENGTH:
        raise ParseError(f"at most {MAX_LENGTH} characters", MAX_LENGTH)
    if E164.fullmatch(text):
        return Destination(text, text)
    match = SIP_URI.fullmatch(text)
    if match is None:
        raise ParseError('an E.164 number such as "+4930123456" or a SIP URI such as "sip:user@host"')
    user, port = unquote(match["user"]), int(match["port"] or 0)
    if not user.isprintable() or port > 65535:
        raise ParseError("a user without control characters and a port below 65536")
    host = match["host"].strip("[]").rstrip(".").lower()
    if match["host"].startswith("["):
        try:
            IPv6Address(host)
        except ValueError:
            raise ParseError("an IPv6 address between the brackets") from None
    return Destination(text, user, host, port)


class DestinationPolicy:
    """The allow and deny lists of `[limits]`; hosts of the trunks are allowed."""

    def __init__(self, hosts: Iterable[str], allow_numbers: Iterable[str], deny_numbers: Iterable[str]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts if host)
        self._allow, self._deny = tuple(allow_numbers), tuple(deny_numbers)

    def adopt(self, config: Config) -> None:
        """Judge by another configuration from now on."""
        other = self.of(config)
        self._hosts, self._allow, self._deny = other._hosts, other._allow, other._deny

    @classmethod
    def of(cls, config: Config) -> "DestinationPolicy":
        """The policy of a configuration."""
        trunks = (name for trunk in config.trunk for name in (server_host(trunk.server), trunk.domain))
        limits = config.limits
        return cls((*trunks, *limits.allow_hosts), limits.allow_numbers, limits.deny_numbers)

    def objection(self, destination: Destination) -> str:
        """Why it may not be called; "" when it may."""
        if destination.host and not self._host_allowed(destination):
            return f"calls to the host {destination.host} are not allowed ([limits] allow_hosts)"
        number = _number(destination.user)
        if not number:
            return ""
        if any(fnmatch.fnmatchcase(number, pattern) for pattern in self._deny):
            return "calls to this number are denied ([limits] deny_numbers)"
        if number.startswith("+") and not any(fnmatch.fnmatchcase(number, pattern) for pattern in self._allow):
            return "calls to this number are not allowed ([limits] allow_numbers)"
        return ""

    def _host_allowed(self, destination: Destination) -> bool:
        return destination.host in self._hosts or f"{destination.host}:{destination.port}" in self._hosts


def _number(user: str) -> str:
    """The user as a number without its visual separators, 00 written as +; "" when it is a name (RFC 3966 §5.1.1)."""
    digits = re.sub(r"[-.()]", "", user)
    if not re.fullmatch(r"\+?[0-9*#]+", digits):
        return ""
    return "+" + digits[2:] if digits.startswith("00") else digits
