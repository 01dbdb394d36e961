"""Offer and answer (RFC 3264) as pure functions over descriptions.

    we call:            make_offer → … → accept_answer(offer, answer)
    we are called:      answer(offer)                       → Answer
    delayed offer:      make_offer in the 2xx, accept_answer on the ACK
    later exchanges:    the same, with `previous`, the description that we sent last

`previous` keeps m= lines, payload types, SRTP keys and the o= line: its version grows by one when anything in the
description changed, and an unchanged description is returned as it was (RFC 3264 §8).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from .address import numeric
from .codec import COMFORT_NOISE, EVENTS, KINDS, TELEPHONE_EVENT, Format, event_list, events, formats
from .crypto import Crypto, crypto_attribute, own_lines, usable
from .description import Attribute, Connection, MediaDescription, Origin, SessionDescription
from .negotiated import Direction, MediaPolicy, Negotiated, NegotiatedCodec, NegotiatedKeys, NoCommonCodec, Srtp
from .stream import PTIME_RANGE_MS, SECURE_PROFILES, Stream, choose, direction_of, has_mux, ptime_ms, read, rtcp_target

_FIRST_DYNAMIC: Final = 96
_TELEPHONE_EVENT_TYPE: Final = 101  # what nearly every trunk uses; some expect no other
_NO_TIME: Final = (("t", "0 0"),)
_LONGEST_PACKETS: Final = Attribute("maxptime", str(PTIME_RANGE_MS[1]))  # else one who likes 100 ms is not heard


@dataclass(frozen=True, slots=True)
class Answer:
    """Our answer; `negotiated` is None when the offer ended the stream (port 0) and we agreed to that."""

    description: SessionDescription
    negotiated: Negotiated | None


# ---- offering


def make_offer(
    policy: MediaPolicy,
    address: str,
    port: int,
    *,
    session_id: int,
    previous: SessionDescription | None = None,
    direction: Direction = Direction.SENDRECV,
    srtp_secret: bytes = b"",
) -> SessionDescription:
    """An offer of one audio stream at `address`:`port`.

    `srtp_secret` holds `crypto.secret_size(policy.srtp_suites)` random bytes when SRTP is not off; with none the keys
    of `previous` are kept. Raises ValueError when there are none to keep, or too few bytes.
    """
    index, old = _active(previous)
    listed = _offered_formats(policy, old)
    keys = tuple(usable(old.attributes)) if old else ()
    if srtp_secret or (policy.srtp is not Srtp.OFF and not old):
        keys = own_lines(policy.srtp_suites, srtp_secret)
    if policy.srtp is Srtp.REQUIRED and not keys:
        raise ValueError("SRTP is required and there are no keys")
    # Optional encryption is offered as phones do it: the plain profile, with keys.
    protocol = old.protocol if old else "RTP/SAVP" if policy.srtp is Srtp.REQUIRED else "RTP/AVP"
    media = MediaDescription(
        media="audio",
        port=port,
        protocol=protocol,
        formats=tuple(str(item.payload_type) for item in listed),
        attributes=(
            *_format_attributes(listed, None),
            *(crypto_attribute(key) for key in keys),
            Attribute("ptime", str(policy.ptime_ms)),
            _LONGEST_PACKETS,
            *((Attribute("rtcp-mux"),) if policy.rtcp_mux else ()),
            Attribute(direction.value),
        ),
    )
    lines = [_refused(line) for line in previous.media] if previous else []
    lines[index : index + 1] = [media]
    return _describe(lines, address, session_id, previous, _NO_TIME)


def _active(description: SessionDescription | None) -> tuple[int, MediaDescription | None]:
    """Index of the m= line that carries our audio, and the line unless it is refused."""
    for index, media in enumerate(description.media if description else ()):
        if media.media == "audio" and media.port:
            return index, media
    return 0, None


def _offered_formats(policy: MediaPolicy, old: MediaDescription | None) -> list[Format]:
    """Codecs in use, then the others in our order, with the payload types that they have had in this session.

    RFC 3264 §8.3.2: a payload type must not come to mean another format within a session.
    """
    wanted = [Format(KINDS[name].payload_type, name, KINDS[name].clock_rate_hz) for name in policy.codecs]
    if policy.offer_comfort_noise:
        wanted.append(Format(13, COMFORT_NOISE, 8000))
    if policy.telephone_event:
        wanted.append(Format(_TELEPHONE_EVENT_TYPE, TELEPHONE_EVENT, 8000))
    in_use = list(formats(old)) if old else []
    taken = {item.payload_type for item in in_use}
    kinds = {(item.name, item.clock_rate_hz) for item in wanted}
    listed = [item for item in in_use if (item.name, item.clock_rate_hz) in kinds]
    known = {(item.name, item.clock_rate_hz) for item in listed}
    for item in wanted:
        if (item.name, item.clock_rate_hz) not in known:
            if item.payload_type in taken:
                free = next(number for number in range(_FIRST_DYNAMIC, 128) if number not in taken)
                item = replace(item, payload_type=free)
            taken.add(item.payload_type)
            listed.append(item)
    return sorted(listed, key=lambda item: item.name not in KINDS)  # stable: sound first


# ---- answering


def answer(
    offer: SessionDescription,
    policy: MediaPolicy,
    address: str,
    port: int,
    *,
    session_id: int,
    previous: SessionDescription | None = None,
    direction: Direction = Direction.SENDRECV,
    srtp_secret: bytes = b"",
    encrypted: bool = False,
    their_key: bytes = b"",
) -> Answer:
    """Answer `offer` with one audio stream; every other m= line is refused by port 0.

    `direction` is what we wish; the answer never has more than was offered. `srtp_secret` needs 46 random bytes when
    SRTP is not off. `encrypted` says that the session has been encrypted so far: a plain offer is then refused,
    whatever the policy; `their_key` is the far end's SRTP key so far, b"" = none. Raises NoCommonCodec when nothing
    suits: answer 488, and a running session goes on as it was.
    """
    _, old = _active(previous)
    if encrypted or (old is not None and old.protocol.upper() in SECURE_PROFILES):
        policy = replace(policy, srtp=Srtp.REQUIRED)  # no downgrade
    times = tuple(line for line in offer.lines if line[0] == "t") or _NO_TIME  # RFC 3264 §6: as in the offer
    stream = choose(offer, policy, address)
    if isinstance(stream, str):
        if previous is None or any(media.port for media in offer.media if media.media == "audio"):
            raise NoCommonCodec(stream)
        refused = [_refused(media) for media in offer.media]
        return Answer(_describe(refused, address, session_id, previous, times), None)
    media = offer.media[stream.index]
    _refuse_loop(stream, media.port, address, port)
    agreed = stream.codecs[:1] if policy.single_codec else stream.codecs
    listed = (*agreed, *stream.comfort_noise, *stream.events)
    crypto, keys = _answer_keys(stream.crypto, old, srtp_secret, their_key)
    ours = stream.direction.answer(direction)
    packet_ms = ptime_ms(offer, media, policy.ptime_ms)
    mux = policy.rtcp_mux and has_mux(media)
    line = MediaDescription(
        media=media.media,
        port=port,
        protocol=media.protocol,
        formats=tuple(str(item.payload_type) for item in listed),
        attributes=(
            *_format_attributes(listed, media),
            *((crypto_attribute(crypto),) if crypto else ()),
            Attribute("ptime", str(packet_ms)),
            _LONGEST_PACKETS,
            *((Attribute("rtcp-mux"),) if mux else ()),
            Attribute(ours.value),
        ),
    )
    lines = [line if index == stream.index else _refused(other) for index, other in enumerate(offer.media)]
    rtcp_address, rtcp_port = (stream.address, 0) if mux else rtcp_target(media, stream.address, address, policy)
    send = _codec(stream.codecs[0])
    negotiated = Negotiated(
        media_index=stream.index,
        remote_address=stream.address,
        remote_port=media.port,
        send=send,
        receive=_receivable(agreed, stream.codecs),
        ptime_ms=packet_ms,
        telephone_event=_event_types(stream.events, send),
        comfort_noise=stream.comfort_noise[0].payload_type if stream.comfort_noise else -1,
        sending=ours.sending,
        receiving=ours.receiving,
        held=not stream.direction.receiving,
        rtcp_address=rtcp_address,
        rtcp_port=rtcp_port,
        srtp=keys,
    )
    return Answer(_describe(lines, address, session_id, previous, times), negotiated)


def _answer_keys(
    offered: tuple[Crypto, ...], old: MediaDescription | None, secret: bytes, their_key: bytes
) -> tuple[Crypto | None, NegotiatedKeys | None]:
    """Our line for the first usable offered key (RFC 4568 §5.1.2); our key stays while suite and their key do.

    Keeping it keeps the roll-over counter of the stream that we are sending (§7.1.4). Who comes with another key may be
    another far end, behind a proxy that transferred the call, and counts from zero: with a new key we do so too.
    """
    if not offered:
        return None, None
    theirs = offered[0]
    mine = usable(old.attributes) if old and their_key in (b"", theirs.key) else ()
    kept = next((key for key in mine if key.suite == theirs.suite), None)
    ours = kept or own_lines((theirs.suite,), secret)[0]
    return replace(ours, tag=theirs.tag), NegotiatedKeys(theirs.suite, ours.key, theirs.key)


# ---- the answer to our offer


def accept_answer(
    offer: SessionDescription, answer: SessionDescription, policy: MediaPolicy, *, encrypted: bool = False
) -> Negotiated | None:
    """What `answer` to our `offer` comes to; None when the far end refused the stream by port 0.

    `encrypted` says that the session has been encrypted so far: a plain answer is then refused, whatever the policy.
    Raises NoCommonCodec when the answer is of no use: end the call.
    """
    index, ours = _active(offer)
    if ours is None:
        return None
    if index >= len(answer.media) or answer.media[index].media != ours.media:
        raise NoCommonCodec("the answer lacks our stream")
    media = answer.media[index]
    if not media.port:
        return None
    own_keys = {(key.tag, key.suite): key for key in usable(ours.attributes)}
    must = encrypted or ours.protocol.upper() in SECURE_PROFILES
    policy = replace(
        policy,
        srtp=Srtp.REQUIRED if must else Srtp.OPTIONAL if own_keys else Srtp.OFF,
        srtp_suites=tuple(suite for _, suite in own_keys),
        prefer_own_order=False,
    )
    own = list(formats(ours))
    local_address = offer.connection.address if offer.connection else ""
    stream = read(answer, index, policy, local_address, {item.payload_type: item for item in own})
    if isinstance(stream, str):
        raise NoCommonCodec(stream)
    _refuse_loop(stream, media.port, local_address, ours.port)
    theirs = next((key for key in stream.crypto if (key.tag, key.suite) in own_keys), None)
    if stream.crypto and theirs is None:
        raise NoCommonCodec("the answer takes an SRTP key that was not offered")
    keys = NegotiatedKeys(theirs.suite, own_keys[theirs.tag, theirs.suite].key, theirs.key) if theirs else None
    # What we send carries the far end's payload types, what we receive carries ours (RFC 3264 §5.1).
    ours_by_name = {item.name: item for item in own}
    agreed = [item for item in stream.codecs if item.name in ours_by_name]
    if not agreed:
        raise NoCommonCodec("the answer names no codec of our offer")
    send = _codec(agreed[0])
    receive = _receivable([ours_by_name[item.name] for item in agreed], [i for i in own if i.name in KINDS])
    mux = has_mux(ours) and has_mux(media)
    rtcp_address, rtcp_port = (stream.address, 0) if mux else rtcp_target(media, stream.address, local_address, policy)
    wish = direction_of(offer, ours)
    return Negotiated(
        media_index=index,
        remote_address=stream.address,
        remote_port=media.port,
        send=send,
        receive=receive,
        ptime_ms=ptime_ms(answer, media, policy.ptime_ms),
        telephone_event=_both_ways(_event_types(stream.events, send), own, receive),
        comfort_noise=stream.comfort_noise[0].payload_type if stream.comfort_noise else -1,
        sending=wish.sending and stream.direction.receiving,
        receiving=wish.receiving and stream.direction.sending,
        held=wish.sending and not stream.direction.receiving,
        rtcp_address=rtcp_address,
        rtcp_port=rtcp_port,
        srtp=keys,
    )


def _both_ways(
    theirs: tuple[tuple[int, int], ...], own: list[Format], receive: tuple[NegotiatedCodec, ...]
) -> tuple[tuple[int, int], ...]:
    """Event types to send with, then those that we offered and shall receive, if they are other numbers."""
    sound = {codec.payload_type for codec in receive}
    mine = ((i.payload_type, i.clock_rate_hz) for i in own if i.name == TELEPHONE_EVENT and i.payload_type not in sound)
    return tuple(dict.fromkeys((*theirs, *mine))) if theirs else ()


# ---- shared


def _refuse_loop(stream: Stream, stream_port: int, address: str, port: int) -> None:
    """Our own port is no far end: the agent would talk with itself, and the call would never be silent."""
    if stream_port == port and numeric(stream.address) == numeric(address):
        raise NoCommonCodec("the stream leads back to our own port")


def _codec(item: Format) -> NegotiatedCodec:
    return NegotiatedCodec(item.payload_type, item.name, item.clock_rate_hz, KINDS[item.name].sample_rate_hz)


def _receivable(agreed: Iterable[Format], common: Iterable[Format]) -> tuple[NegotiatedCodec, ...]:
    """Agreed codecs, then common ones of the first one's sample rate: some peers switch between A-law and µ-law."""
    first, *rest = dict.fromkeys(map(_codec, agreed))
    siblings = (codec for codec in map(_codec, common) if codec.sample_rate_hz == first.sample_rate_hz)
    return tuple(dict.fromkeys((first, *rest, *siblings)))


def _event_types(listed: tuple[Format, ...], codec: NegotiatedCodec) -> tuple[tuple[int, int], ...]:
    pairs = ((item.payload_type, item.clock_rate_hz) for item in listed)
    return tuple(sorted(pairs, key=lambda pair: pair[1] != codec.clock_rate_hz))  # RFC 4733 §2.1: the stream's clock


def _format_attributes(listed: Iterable[Format], theirs: MediaDescription | None) -> Iterator[Attribute]:
    """a=rtpmap for every format and the events that we handle, no more of them than `theirs` offers."""
    for item in listed:
        event = item.name == TELEPHONE_EVENT
        name = item.name.lower() if event else item.name
        yield Attribute("rtpmap", f"{item.payload_type} {name}/{item.clock_rate_hz}")
        if event:
            common = EVENTS & events(theirs, item.payload_type) if theirs else EVENTS
            yield Attribute("fmtp", f"{item.payload_type} {event_list(common or EVENTS)}")


def _refused(media: MediaDescription) -> MediaDescription:
    """The line with port 0; what is kept is what the grammar wants (RFC 3264 §6)."""
    return MediaDescription(media.media, 0, media.protocol, media.formats)


def _describe(
    lines: list[MediaDescription],
    address: str,
    session_id: int,
    previous: SessionDescription | None,
    times: tuple[tuple[str, str], ...],
) -> SessionDescription:
    parsed = numeric(address)
    connection = Connection(address, "IP6" if parsed is not None and parsed.version == 6 else "IP4")
    if previous is None:
        return SessionDescription(Origin(session_id, 1, connection), tuple(lines), connection, lines=times)
    origin = replace(previous.origin, address=connection)
    same = SessionDescription(origin, tuple(lines), connection, lines=times)
    return same if same == previous else replace(same, origin=replace(origin, version=origin.version + 1))
