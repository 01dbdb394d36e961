"""Far ends for fuzzing: each sends what it should, and damaged copies of it by every way that a datagram can take."""

import os
import random
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pylibsrtp import Policy, Session

from sipagent.rtp import srtp
from sipagent.rtp.control import Codec, OpenRow, SetStream, SrtpKeys
from sipagent.rtp.packet import MAX_PACKET
from sipagent.rtp.sockets import Datagram
from tests.rtp.line import FAR_END, PCMA, PCMU, Line, rtp

G722 = Codec(9, "G722", 8000, 16000)
EVENT_PT: Final = 101
NOISE_PT: Final = 13
STRANGERS: Final = (("198.51.100.9", 4000), (FAR_END, 5000), (FAR_END, 6000), ("", 0))


class Way(Enum):
    """Where a datagram comes in."""

    CONNECTED = "connected"  # from the address of the SDP to the RTP port
    LISTENING = "listening"  # to the RTP port, not yet connected or from elsewhere
    CONTROL = "control"  # to the RTCP port


@dataclass(frozen=True, slots=True)
class Form:
    """What a row has negotiated."""

    name: str
    codec: Codec
    rate_hz: int = 8000
    profile: str = ""
    event_clock_hz: int = 8000
    rtcp_port: int = 4001


FORMS: Final = (
    Form("PCMU", PCMU),
    Form("PCMA, rtcp-mux", PCMA, rtcp_port=0),
    Form("G722", G722, 16000, event_clock_hz=16000),
    Form("PCMU in a wide row", PCMU, 16000),
    Form("SRTP AES 80", PCMU, profile="AES_CM_128_HMAC_SHA1_80"),
    Form("SRTP AES 32, rtcp-mux", PCMA, profile="AES_CM_128_HMAC_SHA1_32", rtcp_port=0),
    Form("SRTP GCM 256", G722, 16000, profile="AEAD_AES_256_GCM"),
    Form("no events", PCMU, event_clock_hz=0),
)


class FarEnd:
    """The far end of one row, from `open` to the end of the round."""

    def __init__(self, line: Line, row: int, generation: int, form: Form, rng: random.Random) -> None:
        self.line, self.row, self.generation, self.form, self.rng = line, row, generation, form, rng
        self.ssrc = rng.getrandbits(32)
        self.sequence, self.timestamp = rng.getrandbits(16), rng.getrandbits(32)
        self.digit_at: int | None = None  # timestamp at which the digit began that is held down
        self.authentic = 0  # packets sent with the row's key
        size = 44 if "256" in form.profile else 28 if "GCM" in form.profile else 30
        self.keys = SrtpKeys(form.profile, os.urandom(size), os.urandom(size)) if form.profile else None
        self._session: Session | None = None
        if self.keys is not None:
            policy = Policy(self.keys.remote, Policy.SSRC_ANY_OUTBOUND, srtp_profile=srtp.PROFILES[form.profile])
            policy.allow_repeat_tx = True
            self._session = Session(policy)

    def open(self) -> None:
        self.line.do(OpenRow(self.row, self.generation, 0, self.form.rate_hz))
        self.line.do(self._stream())

    def renegotiate(self) -> None:
        """Another offer: on hold, back, another port."""
        direction = {"sending": True, "receiving": self.rng.random() < 0.9}
        self.line.do(self._stream(remote_port=self.rng.choice((4000, 4000, 4002)), **direction))

    def _stream(self, **changes: Any) -> SetStream:
        events = ((EVENT_PT, self.form.event_clock_hz),) if self.form.event_clock_hz else ()
        given: dict[str, Any] = {
            "remote_address": FAR_END,
            "remote_port": 4000,
            "send": self.form.codec,
            "receive": (PCMU, PCMA, G722),
            "telephone_event": events,
            "comfort_noise": NOISE_PT,
            "rtcp_port": self.form.rtcp_port,
            "srtp": self.keys,
        }
        return SetStream(row=self.row, generation=self.generation, **(given | changes))

    # ---- what should come

    def genuine(self) -> bytes:
        """The packet that is due: sound, now and then a digit or comfort noise."""
        self.sequence, self.timestamp = self.sequence + 1, self.timestamp + 160
        if self.digit_at is not None or self.rng.random() < 0.01:
            data = self._event()
        elif self.rng.random() < 0.01:
            data = rtp(self.sequence, self.timestamp, b"\x40", ssrc=self.ssrc, payload_type=NOISE_PT)
        else:
            payload = self.rng.randbytes(160)
            data = rtp(
                self.sequence, self.timestamp, payload, ssrc=self.ssrc, payload_type=self.form.codec.payload_type
            )
        if self._session is None:
            return data
        self.authentic += 1
        return self._session.protect(data)

    def _event(self) -> bytes:
        marker = self.digit_at is None
        if self.digit_at is None:
            self.digit_at = self.timestamp
        at, held = self.digit_at, (self.timestamp - self.digit_at + 160) & 0xFFFF
        end = held > 800
        if held > 1200:
            self.digit_at = None
        payload = struct.pack(">BBH", self.rng.randrange(17), 0x80 * end | 10, held)
        return rtp(self.sequence, at, payload, ssrc=self.ssrc, payload_type=EVENT_PT, marker=marker)

    def report(self) -> bytes:
        """A compound of SR, SDES, XR and perhaps BYE, about our stream."""
        rng, ours = self.rng, int(self.line.plane.sender.ssrc[self.row])
        block = struct.pack(">IIIIII", ours, rng.getrandbits(32), rng.getrandbits(32), rng.getrandbits(20), 0, 0)
        sender = struct.pack(">QIII", rng.getrandbits(64), self.timestamp & 0xFFFFFFFF, rng.getrandbits(32), 1000)
        parts = [struct.pack(">BBHI", 0x81, 200, 12, self.ssrc) + sender + block]
        parts.append(struct.pack(">BBHIBB", 0x81, 202, 3, self.ssrc, 1, 4) + b"name\0\0")
        if rng.random() < 0.5:
            metrics = rng.randbytes(28)
            parts.append(struct.pack(">BBHIBBHI", 0x80, 207, 10, self.ssrc, 7, 0, 8, ours) + metrics)
        if rng.random() < 0.1:
            parts.append(struct.pack(">BBHI", 0x81, 203, 1, self.ssrc))
        data = b"".join(parts)
        return self._session.protect_rtcp(data) if self._session is not None else data

    # ---- what should not

    def damaged(self) -> tuple[bytes, Way]:
        """A datagram that is not as it should be, and the way by which it comes."""
        rng = self.rng
        control = rng.random() < 0.25
        data = self.report() if control else self._twisted()
        if not control or rng.random() < 0.8:
            data = damage(data, rng)
        draw = rng.random()
        if control:
            return data, Way.CONTROL if draw < 0.6 else Way.CONNECTED if draw < 0.9 else Way.LISTENING
        return data, Way.CONNECTED if draw < 0.85 else Way.LISTENING if draw < 0.97 else Way.CONTROL

    def _twisted(self) -> bytes:
        """A well-formed packet of a stream that does not go on as it should; not with the row's key."""
        rng = self.rng
        sequence = self.sequence + rng.choice((0, 1, 2, -1, -3, 10, 3100, rng.getrandbits(16)))
        timestamp = self.timestamp + rng.choice((0, 0, 0, 160, 320, -160, -160, -480, rng.getrandbits(32)))
        if rng.random() < 0.0005:
            timestamp = self.timestamp + 7000  # just not a new time line
        payload_type = rng.choice((0, 8, 9, EVENT_PT, NOISE_PT, self.form.codec.payload_type, rng.getrandbits(7)))
        size = 4 if payload_type == EVENT_PT else rng.choice((1, 80, 160, 160, 160, 240, 480, 481, 0))
        ssrc = self.ssrc if rng.random() < 0.8 else rng.getrandbits(32)
        marker = rng.random() < 0.1
        return rtp(sequence, timestamp, rng.randbytes(size), ssrc=ssrc, payload_type=payload_type, marker=marker)


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to three changes: bits, length, header fields, or none at all."""
    octets = bytearray(data)
    for _ in range(rng.randrange(4)):
        kind = rng.randrange(7)
        if kind == 0 and octets:
            octets[rng.randrange(len(octets))] = rng.getrandbits(8)
        elif kind == 1 and octets:
            octets[rng.randrange(min(len(octets), 12))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del octets[rng.randrange(len(octets) + 1) :]
        elif kind == 3:
            octets += rng.randbytes(rng.choice((1, 4, 100, 1400)))
        elif kind == 4 and octets:
            octets[0] = rng.getrandbits(8)  # version, padding, extension, CSRC count
        elif kind == 5 and octets:
            octets[-1] = rng.choice((0, 1, len(octets) & 255, 255))  # padding
        elif len(octets) > 16:
            octets[2:4] = rng.randbytes(2)  # number, or length of a report
    return bytes(octets[: MAX_PACKET - 4])


def deliver(line: Line, far_end: FarEnd, data: bytes, way: Way) -> int:
    """Let it arrive with the next tick; returns 1."""
    if way is Way.CONNECTED:
        line.arrive(data, row=far_end.row)
    else:
        source = (FAR_END, 4000) if far_end.rng.random() < 0.7 else far_end.rng.choice(STRANGERS)
        line.sockets.datagrams.append(Datagram(far_end.row, way is Way.CONTROL, data, source))
    return 1
