"""What an offer/answer exchange came to, and what we want from one: plain data for the media plane and the caller."""

from dataclasses import dataclass, field
from enum import Enum

from sipagent.errors import RemoteError

from .address import AddressPolicy
from .codec import KINDS
from .crypto import DEFAULT_SUITES, SUITES


class Direction(Enum):
    """Direction of a stream as one side says it (RFC 3264 §5.1)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @classmethod
    def of(cls, *, sending: bool, receiving: bool) -> "Direction":
        """The name for what the speaker does."""
        if sending:
            return cls.SENDRECV if receiving else cls.SENDONLY
        return cls.RECVONLY if receiving else cls.INACTIVE

    @property
    def sending(self) -> bool:
        """Whether the speaker sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receiving(self) -> bool:
        """Whether the speaker is willing to receive."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    def answer(self, wish: "Direction") -> "Direction":
        """The answer of one who wishes `wish` to an offer of self (RFC 3264 §6.1): never more than was offered."""
        return Direction.of(sending=wish.sending and self.receiving, receiving=wish.receiving and self.sending)


class Srtp(Enum):
    """Whether a stream is encrypted. REQUIRED means that a call without is refused, OPTIONAL never falls back later."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class MediaPolicy:
    """What we speak, in our order of preference.

    An answer names one codec (peers that get two ask again to lock one), and the offerer's order decides unless
    `prefer_own_order`. Comfort noise is accepted when offered; offering it invites gaps, so that is a choice.
    Raises ValueError for a codec or a suite that we do not have.
    """

    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    telephone_event: bool = True
    comfort_noise: bool = True
    offer_comfort_noise: bool = False
    ptime_ms: int = 20
    prefer_own_order: bool = False
    single_codec: bool = True
    rtcp_mux: bool = True
    srtp: Srtp = Srtp.OFF
    srtp_suites: tuple[str, ...] = DEFAULT_SUITES
    addresses: AddressPolicy = field(default_factory=AddressPolicy)

    def __post_init__(self) -> None:
        unknown = [name for name in self.codecs if name not in KINDS]
        unknown += [name for name in self.srtp_suites if name not in SUITES]
        if unknown or not self.codecs:
            raise ValueError(f"not a codec or SRTP suite of ours: {', '.join(unknown) or 'none given'}")


@dataclass(frozen=True, slots=True)
class NegotiatedCodec:
    """A payload type and its meaning, as the media plane's Codec."""

    payload_type: int
    name: str
    clock_rate_hz: int
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class NegotiatedKeys:
    """SDES keying: master key and salt concatenated, one for each direction."""

    profile: str
    local: bytes = field(repr=False)
    remote: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The agreed audio stream; fields as in the media plane's SetStream.

    `send` carries the payload type that the far end expects. `receive` lists first what was agreed, then what a peer
    that switches without asking may send at the same sample rate. `telephone_event` has the payload types to send
    with first, those for the codec's clock rate foremost. `rtcp_port` 0 means RTP's own port (rtcp-mux).
    `held`: the far end does not want to hear us.
    """

    media_index: int
    remote_address: str
    remote_port: int
    send: NegotiatedCodec
    receive: tuple[NegotiatedCodec, ...]
    ptime_ms: int = 20
    telephone_event: tuple[tuple[int, int], ...] = ()
    comfort_noise: int = -1
    sending: bool = True
    receiving: bool = True
    held: bool = False
    rtcp_address: str = ""
    rtcp_port: int = 0
    srtp: NegotiatedKeys | None = None


class NoCommonCodec(RemoteError):  # noqa: N818 - an outcome of negotiation, named as one
    """No stream of the description suits us; answer 488 Not Acceptable Here (RFC 3261 §13.3.1.3)."""

    def __init__(self, reason: str) -> None:
        super().__init__(488, reason)
