"""Codecs and payload types: which formats of an m= line mean a codec that we speak (RFC 3551, 4733, 3389)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .description import Attribute, MediaDescription, values

TELEPHONE_EVENT: Final = "TELEPHONE-EVENT"
COMFORT_NOISE: Final = "CN"
EVENTS: Final = frozenset(range(17))  # 0-9 * # A-D flash: what we detect and send


@dataclass(frozen=True, slots=True)
class Format:
    """A payload type of an m= line with the upper-case encoding name and RTP clock rate that it stands for."""

    payload_type: int
    name: str
    clock_rate_hz: int


@dataclass(frozen=True, slots=True)
class CodecKind:
    """An audio codec that we speak. G.722 samples at 16 kHz but counts at 8 kHz (RFC 3551 §4.5.2)."""

    payload_type: int  # static
    clock_rate_hz: int
    sample_rate_hz: int


KINDS: Final = {
    "PCMU": CodecKind(0, 8000, 8000),
    "PCMA": CodecKind(8, 8000, 8000),
    "G722": CodecKind(9, 8000, 16000),
}

# RFC 3551 table 4: formats that mean something without an rtpmap line.
_STATIC: Final = {kind.payload_type: Format(kind.payload_type, name, 8000) for name, kind in KINDS.items()} | {
    13: Format(13, COMFORT_NOISE, 8000)
}


def formats(media: MediaDescription, offered: Mapping[int, Format] | None = None) -> Iterator[Format]:
    """The formats of an RTP m= line that have a meaning, each once, in the order of the line.

    `offered` gives the meaning of those that an answer names without an rtpmap line of its own.
    """
    maps = {**(offered or {}), **dict(_rtpmaps(media.attributes))}
    for text in dict.fromkeys(media.formats):
        payload_type = int(text) if text.isascii() and text.isdigit() else -1
        found = maps.get(payload_type, _STATIC.get(payload_type))
        if found is not None:
            yield found


def _rtpmaps(attributes: Iterable[Attribute]) -> Iterator[tuple[int, Format]]:
    """a=rtpmap:<payload type> <encoding name>/<clock rate>[/<channels>]; malformed ones are left out."""
    for value in values(attributes, "rtpmap"):
        payload_text, _, encoding = value.strip().partition(" ")
        name, _, rest = encoding.strip().partition("/")
        clock_text, _, channels = rest.partition("/")
        if not all(text.isascii() and text.isdigit() and len(text) < 8 for text in (payload_text, clock_text)):
            continue
        payload_type, name, clock_rate_hz = int(payload_text), name.strip().upper(), int(clock_text)
        if name == "G722" and clock_rate_hz == 16000:
            clock_rate_hz = 8000  # a common mistake of senders, who nevertheless count at 8 kHz
        # Two channels are another format, and one that we do not speak: it must not pass for the static one.
        yield payload_type, Format(payload_type, name if channels in ("", "1") else "", clock_rate_hz)


def events(media: MediaDescription, payload_type: int) -> frozenset[int]:
    """The telephone events that a=fmtp lists for `payload_type`; without a list 0-15 (RFC 4733 §2.4.1)."""
    for value in values(media.attributes, "fmtp"):
        payload_text, _, listed = value.strip().partition(" ")
        if payload_text == str(payload_type):
            return frozenset(_event_numbers(listed)) or frozenset(range(16))
    return frozenset(range(16))


def _event_numbers(listed: str) -> Iterator[int]:
    for part in listed.split(","):
        first, dash, last = (text.strip() for text in part.partition("-"))
        if first.isascii() and first.isdigit() and len(first) <= 3:
            end = last if dash else first
            if end.isascii() and end.isdigit() and len(end) <= 3:
                yield from range(int(first), min(int(end), 255) + 1)


def event_list(numbers: Iterable[int]) -> str:
    """Numbers as a=fmtp writes them: `0-15,16` is `0-16`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
