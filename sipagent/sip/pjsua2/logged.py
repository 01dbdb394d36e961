"""SIP messages out of PJSIP's log: the one place where pjsua2 shows all of them, with their sources."""

import re
from dataclasses import dataclass
from typing import Final

# pjsua_core.c, logging_on_rx_msg and logging_on_tx_msg; long messages are cut by the log (PJ_LOG_MAX_SIZE, 4000).
_LINE: Final = re.compile(
    r"\s*(?P<direction>[RT]X) \d+ bytes (?P<what>.+?) (?:from|to) (?P<protocol>\S+) "
    r"(?P<host>\[[^\]]+\]|[^\s:]+):(?P<port>\d+):\r?\n",
)
_END: Final = "\n--end msg--"
_FIELD: Final = r"^(?:{0})[ \t]*:[ \t]*(.*?)[ \t]*\r?$"
_COMPACT: Final = {"call-id": "call-id|i", "from": "from|f", "to": "to|t"}
_TAG: Final = re.compile(r";\s*tag\s*=\s*([^;\s>]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message as it was received ("in") or sent ("out"); `text` may lack its end when `complete` is false."""

    direction: str
    text: str
    peer: tuple[str, int]
    protocol: str
    complete: bool

    @property
    def is_request(self) -> bool:
        """Whether it is no response."""
        return not self.text.startswith("SIP/")

    @property
    def method(self) -> str:
        """Of a request."""
        return self.text.partition(" ")[0] if self.is_request else ""

    @property
    def status(self) -> int:
        """Of a response, 0 for a request."""
        words = self.text.split(" ", 2)
        return int(words[1]) if not self.is_request and len(words) > 1 and words[1].isdigit() else 0

    def value(self, name: str) -> str:
        """The first value of a header field, "" when it is not there."""
        head = self.text.partition("\r\n\r\n")[0]
        pattern = _FIELD.format(_COMPACT.get(name.lower(), re.escape(name)))
        found = re.search(pattern, head, re.IGNORECASE | re.MULTILINE)
        return found[1] if found else ""

    @property
    def call_id(self) -> str:
        """Its Call-ID."""
        return self.value("call-id")

    @property
    def tags(self) -> tuple[str, str]:
        """The tags of From and To, "" where there is none."""
        found = (_TAG.search(self.value("from")), _TAG.search(self.value("to")))
        return (found[0][1] if found[0] else "", found[1][1] if found[1] else "")


def read(entry: str) -> LoggedMessage | None:
    """The message of a log entry, None when it is about something else."""
    match = _LINE.match(entry)
    if match is None:
        return None
    text, end, _ = entry[match.end() :].partition(_END)
    return LoggedMessage(
        "in" if match["direction"] == "RX" else "out",
        text,
        (match["host"].strip("[]"), int(match["port"])),
        match["protocol"],
        bool(end),
    )
