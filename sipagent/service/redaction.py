"""What must not be read in a log: numbers but for their last three digits, secrets, pressed keys.

`Redaction` is a structlog processor; `mask` serves everybody else who shows foreign text.
"""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final

from sipagent.service.config.tree import Config, is_secret

MASK: Final = "***"

# Not within a longer word, an identifier or an IP address: "call-0049301234", "1.2.3.4567890" stay as they are.
_NUMBER: Final = re.compile(r"(?<![\w.\-])\+?\d{4,12}(?=\d{3}(?![\w\-]|\.\d))")
_SECRETS: Final = (
    (re.compile(r"(?im)^((?:proxy-)?authorization\s*:\s*)[^\r\n]*"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(inline:)[\w+/=|:]+"), rf"\1{MASK}"),  # a=crypto of RFC 4568
    (re.compile(r"(?i)\b(k=(?:clear|base64):)\S+"), rf"\1{MASK}"),  # RFC 8866 §5.12
    (
        re.compile(r'(?i)\b((?:password|token|secret|api_?key|response|cnonce)["\']?\s*[=:]\s*"?)[^\s",;&]+'),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)(\bSignal\s*=\s*)\S"), rf"\1{MASK}"),  # application/dtmf-relay
)
# Structure, not speech: identifiers and measures may look like numbers.
_PLAIN: Final = frozenset(
    ("level", "timestamp", "logger", "call_id", "id", "handle", "generation", "row", "port", "pid")
)
_KEYS: Final = frozenset(("digit", "digits"))


class Redaction:
    """Masks the values of an event; `secrets` are masked wherever they appear, `numbers` False leaves numbers alone."""

    def __init__(self, numbers: bool = True, secrets: Iterable[str] = ()) -> None:
        self._numbers = numbers
        # Short ones would tear words apart; longest first, as one may contain another.
        self._secrets = sorted((secret for secret in set(secrets) if len(secret) >= 6), key=len, reverse=True)

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The structlog processor."""
        for key, value in event.items():
            event[key] = self.value(key, value)
        return event

    def value(self, key: str, value: Any) -> Any:
        """What may be shown of a field."""
        if isinstance(value, str):
            if value and (is_secret(key) or (key in _KEYS and self._numbers)):
                return MASK
            return self.text(value, numbers=self._numbers and key not in _PLAIN)
        if isinstance(value, Mapping):
            return {name: self.value(str(name), item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(key, item) for item in value]
        if isinstance(value, BaseException):
            return self.text(repr(value), numbers=self._numbers)
        return value

    def text(self, text: str, *, numbers: bool = True) -> str:
        """A text without its secrets, and without its numbers unless `numbers` is False."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        text = mask(text)
        return redact_numbers(text) if numbers else text


def mask(text: str) -> str:
    """A text (a SIP message, an exception) without credentials, keys and tokens."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def redact_numbers(text: str) -> str:
    """Telephone numbers shown as "***" and their last three digits."""
    return _NUMBER.sub(MASK, text)


def secrets_of(config: Config) -> list[str]:
    """Every secret of a configuration, to be masked wherever it turns up."""
    found = [config.http.token, config.hep.password, *(trunk.password for trunk in config.trunk)]
    for route in config.route:
        found += _secret_values(route.options)
        found += _secret_values(route.brain_options)
    return [secret for secret in found if secret]


def _secret_values(options: Mapping[str, Any]) -> list[str]:
    values: list[str] = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            values += _secret_values(value)
        elif isinstance(value, str) and is_secret(key):
            values.append(value)
    return values
