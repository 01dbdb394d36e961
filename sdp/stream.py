"""The far end's audio stream: its m= lines read against our policy, and what follows for us from the one that suits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .address import LOWEST_PORT, refusal, unspecified
from .codec import COMFORT_NOISE, KINDS, TELEPHONE_EVENT, Format, formats
from .crypto import Crypto, usable
from .description import MediaDescription, SessionDescription, connection_of, inherited, values
from .negotiated import Direction, MediaPolicy, Srtp

PLAIN_PROFILES: Final = ("RTP/AVP", "RTP/AVPF")
SECURE_PROFILES: Final = ("RTP/SAVP", "RTP/SAVPF")

PTIME_RANGE_MS: Final = (10, 60)
_PTIME_STEP_MS: Final = 10
_DIRECTIONS: Final = {direction.value: direction for direction in Direction}


@dataclass(frozen=True, slots=True)
class Stream:
    """An m= line that suits us. `direction` is the far end's word, with the old hold by 0.0.0.0 made explicit."""

    index: int
    address: str
    direction: Direction
    codecs: tuple[Format, ...]  # common ones in the order of preference, never empty
    comfort_noise: tuple[Format, ...]
    events: tuple[Format, ...]
    crypto: tuple[Crypto, ...]  # usable keys in the far end's order, () for a plain stream


def choose(offer: SessionDescription, policy: MediaPolicy, local_address: str) -> Stream | str:
    """The first m= line that suits, encrypted ones first; or why none does."""
    problem = "no audio stream"
    found = []
    for index, media in enumerate(offer.media):
        if media.media == "audio" and media.port:
            stream = read(offer, index, policy, local_address)
            if isinstance(stream, Stream):
                found.append(stream)
            else:
                problem = stream
    return min(found, key=lambda stream: not stream.crypto) if found else problem


def read(
    description: SessionDescription,
    index: int,
    policy: MediaPolicy,
    local_address: str,
    offered: Mapping[int, Format] | None = None,
) -> Stream | str:
    """One m= line as a stream, or why it does not suit; `offered` as in `codec.formats`."""
    media = description.media[index]
    secure = media.protocol.upper() in SECURE_PROFILES
    crypto: tuple[Crypto, ...] = ()
    if policy.srtp is not Srtp.OFF:
        crypto = tuple(key for key in usable(media.attributes) if key.suite in policy.srtp_suites)
    if not secure and media.protocol.upper() not in PLAIN_PROFILES:
        return f"profile {media.protocol} is not supported"
    if secure and not crypto:
        return "SRTP is switched off" if policy.srtp is Srtp.OFF else "no usable SRTP key"
    if policy.srtp is Srtp.REQUIRED and not crypto:
        return "SRTP is required"
    connection = connection_of(description, media)
    if connection is None:
        return "no connection address"
    if media.port < LOWEST_PORT:  # also while on hold: it is where media will go afterwards
        return f"port below {LOWEST_PORT}"
    if not unspecified(connection.address):
        refused = refusal(connection.address, media.port, local_address, policy.addresses)
        if refused:
            return refused
    listed = list(formats(media, offered))
    codecs = [i for i in listed if i.name in policy.codecs and i.clock_rate_hz == KINDS[i.name].clock_rate_hz]
    if not codecs:
        return "no common codec"
    if policy.prefer_own_order:
        codecs.sort(key=lambda item: policy.codecs.index(item.name))
    noise = [item for item in listed if item.name == COMFORT_NOISE and item.clock_rate_hz == 8000]
    events = [item for item in listed if item.name == TELEPHONE_EVENT and item.clock_rate_hz]
    return Stream(
        index=index,
        address=connection.address,
        direction=direction_of(description, media),
        codecs=tuple(codecs),
        comfort_noise=tuple(noise[:1]) if policy.comfort_noise else (),
        events=tuple(events) if policy.telephone_event else (),
        crypto=crypto,
    )


def direction_of(description: SessionDescription, media: MediaDescription) -> Direction:
    """What the describer does: its attribute, the session's, else sendrecv; 0.0.0.0 takes back the receiving."""
    attributes = (*media.attributes, *description.attributes)
    said = next((_DIRECTIONS[a.name] for a in attributes if a.name in _DIRECTIONS), Direction.SENDRECV)
    connection = connection_of(description, media)
    if connection is not None and unspecified(connection.address):  # RFC 3264 §8.4: hold as RFC 2543 had it
        return Direction.of(sending=said.sending, receiving=False)
    return said


def ptime_ms(description: SessionDescription, media: MediaDescription, default_ms: int) -> int:
    """The packet time to send with: what the far end asks for, within 10-60 ms, its maxptime, and whole steps."""
    lowest, highest = PTIME_RANGE_MS
    longest = _milliseconds(inherited(description, media, "maxptime")) or highest
    asked = _milliseconds(inherited(description, media, "ptime")) or default_ms
    fitting = min(asked, longest, highest)
    return max(lowest, fitting - fitting % _PTIME_STEP_MS)


def _milliseconds(text: str | None) -> int:
    # Some devices write a fraction, though RFC 8866 §6.4 wants a whole number. 0: absent or malformed.
    whole = (text or "").strip().partition(".")[0]
    return int(whole) if whole.isascii() and whole.isdigit() and len(whole) <= 5 else 0


def has_mux(media: MediaDescription) -> bool:
    """Whether the line carries a=rtcp-mux (RFC 5761)."""
    return any(True for _ in values(media.attributes, "rtcp-mux"))


def rtcp_target(media: MediaDescription, address: str, local_address: str, policy: MediaPolicy) -> tuple[str, int]:
    """Where RTCP goes without rtcp-mux: a=rtcp (RFC 3605) when we may send there, else the port after RTP's."""
    for value in values(media.attributes, "rtcp"):
        fields = value.split()
        if fields and fields[0].isascii() and fields[0].isdigit() and len(fields[0]) <= 5 and int(fields[0]) < 65536:
            target = fields[3] if len(fields) == 4 else address
            if not refusal(target, int(fields[0]), local_address, policy.addresses):
                return target, int(fields[0])
    return address, min(media.port + 1, 65535)
