"""The media session of one call: offers and answers on one side, commands for the media plane on the other."""

import os
import secrets

from sipagent.errors import ParseError, RemoteError
from sipagent.rtp.control import Codec, SetStream, SrtpKeys
from sipagent.sdp import crypto, description, offer_answer
from sipagent.sdp.negotiated import Direction, MediaPolicy, Negotiated, NegotiatedCodec, NoCommonCodec, Srtp
from sipagent.service.config.tree import Trunk


def media_policy(trunk: Trunk | None) -> MediaPolicy:
    """What a trunk's configuration wants of an audio stream."""
    if trunk is None:
        return MediaPolicy()
    return MediaPolicy(codecs=trunk.codecs, srtp=Srtp(trunk.srtp))


class MediaSession:
    """State of a call's offer/answer: what we said last and what was agreed. Raises ParseError and NoCommonCodec."""

    def __init__(self, trunk: Trunk | None, address: str, port: int, allowed: tuple[str, ...] = ()) -> None:
        self.policy = media_policy(trunk)
        self.address = address
        self.port = port
        self.allowed = allowed  # signalling sources, from which media may come as well
        self.negotiated: Negotiated | None = None
        self.offering = False  # an offer of ours awaits its answer
        self._session_id = secrets.randbits(62)
        self._local: description.SessionDescription | None = None
        self._agreed: description.SessionDescription | None = None
        self._wish = self._agreed_wish = Direction.SENDRECV
        self._row_rate_hz = 0

    def successor(self) -> "MediaSession":
        """A session with another far end, on the same row and by the same policy; nothing is agreed yet."""
        fresh = MediaSession(None, self.address, self.port, self.allowed)
        fresh.policy, fresh._row_rate_hz = self.policy, self.row_rate_hz
        return fresh

    @property
    def held(self) -> bool:
        """True while the far end does not want to hear us."""
        return self.negotiated is not None and self.negotiated.held

    @property
    def holding(self) -> bool:
        """True once the far end has agreed to be on hold."""
        return self._agreed_wish is Direction.SENDONLY

    @property
    def row_rate_hz(self) -> int:
        """Rate of the call's row, settled when it is opened: wideband when that was agreed, or may still be."""
        if self._row_rate_hz == 0:
            wideband = "G722" in self.policy.codecs if self.negotiated is None else self.negotiated.send.name == "G722"
            self._row_rate_hz = 16000 if wideband else 8000
        return self._row_rate_hz

    def answer(self, offer: bytes) -> bytes:
        """Answer an offer; nothing changes when it raises. While our own offer is pending it is 491."""
        if self.offering and self._agreed is not None:
            raise RemoteError(491, "Request Pending")
        result = offer_answer.answer(
            description.parse(offer),
            self.policy,
            self.address,
            self.port,
            session_id=self._session_id,
            previous=self._agreed,
            direction=self._wish,
            srtp_secret=self._secret(),
            encrypted=self._encrypted,
            their_key=self._their_key,
        )
        self.offering = False
        self._local = self._agreed = result.description
        self.negotiated = result.negotiated or self.negotiated
        return description.serialize(result.description)

    def offer(self) -> bytes:
        """Our offer, the same as before while nothing changed."""
        self._local = offer_answer.make_offer(
            self.policy,
            self.address,
            self.port,
            session_id=self._session_id,
            previous=self._agreed,
            direction=self._wish,
            srtp_secret=b"" if self._agreed else self._secret(),
        )
        self.offering = True
        return description.serialize(self._local)

    def hold(self, held: bool) -> bytes:
        """An offer that puts the far end on hold, or takes it back."""
        self._wish = Direction.SENDONLY if held else Direction.SENDRECV
        return self.offer()

    def preview(self, answer: bytes) -> None:
        """An early answer (183): what it says holds until `accept`, which must still come."""
        self._settle(answer)

    def accept(self, answer: bytes) -> None:
        """The answer to our offer."""
        self._settle(answer)
        self._agreed_wish = self._wish
        self.offering = False
        self._agreed = self._local

    def withdraw(self) -> None:
        """Our offer was refused: the session stays as it was."""
        self.offering = False
        self._local, self._wish = self._agreed, self._agreed_wish

    def warning(self) -> tuple[tuple[str, str], ...]:
        """The Warning header that goes with a 488 (RFC 3261 §20.43)."""
        return (
            ("Warning", f'305 {self.address} "Incompatible media format: we speak {", ".join(self.policy.codecs)}"'),
        )

    def stream(self, row: int, generation: int) -> SetStream:
        """What the media plane is to do now."""
        agreed = self.negotiated
        if agreed is None:
            raise ParseError("a negotiated session")
        keys = SrtpKeys(agreed.srtp.profile, agreed.srtp.local, agreed.srtp.remote) if agreed.srtp else None
        return SetStream(
            row,
            generation,
            agreed.remote_address,
            agreed.remote_port,
            send=_codec(agreed.send),
            receive=tuple(_codec(codec) for codec in agreed.receive),
            ptime_ms=agreed.ptime_ms,
            telephone_event=agreed.telephone_event,
            comfort_noise=agreed.comfort_noise,
            sending=agreed.sending,
            receiving=agreed.receiving,
            allowed=tuple(dict.fromkeys((agreed.remote_address, *self.allowed))),
            rtcp_address=agreed.rtcp_address,
            rtcp_port=agreed.rtcp_port,
            srtp=keys,
        )

    def _settle(self, answer: bytes) -> None:
        if self._local is None:
            raise NoCommonCodec("an answer without an offer")
        agreed = offer_answer.accept_answer(
            self._local, description.parse(answer), self.policy, encrypted=self._encrypted
        )
        if agreed is None and self.negotiated is None:
            raise NoCommonCodec("the far end refused the audio stream")
        self.negotiated = agreed or self.negotiated

    @property
    def _encrypted(self) -> bool:
        return self.negotiated is not None and self.negotiated.srtp is not None

    @property
    def _their_key(self) -> bytes:
        return self.negotiated.srtp.remote if self.negotiated and self.negotiated.srtp else b""

    def _secret(self) -> bytes:
        return b"" if self.policy.srtp is Srtp.OFF else os.urandom(crypto.secret_size(self.policy.srtp_suites))


def _codec(codec: NegotiatedCodec) -> Codec:
    return Codec(codec.payload_type, codec.name, codec.clock_rate_hz, codec.sample_rate_hz)
