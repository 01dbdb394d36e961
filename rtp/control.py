"""What the signalling plane tells the media plane, and what it hears back.

One message per SEQPACKET datagram, msgpack by msgspec, tagged with the struct's name. Audio never travels here.
Rows are handed out by the signalling plane; `generation` is a number that it raises with every call, so that a
command or an event for a call that is over is recognised and dropped.
"""

import msgspec


class Codec(msgspec.Struct, frozen=True, array_like=True):
    """A payload type: `name` is PCMU, PCMA or G722; `clock_rate_hz` counts timestamps, `sample_rate_hz` sound."""

    payload_type: int
    name: str
    clock_rate_hz: int
    sample_rate_hz: int


class SrtpKeys(msgspec.Struct, frozen=True, array_like=True):
    """SDES keying (RFC 4568): `profile` as in a=crypto; key and salt concatenated, one pair per direction."""

    profile: str
    local: bytes
    remote: bytes

    def __repr__(self) -> str:
        return f"SrtpKeys({self.profile}, ***)"


# ---- signalling → media


class OpenRow(msgspec.Struct, frozen=True, tag=True):
    """Take the row into use: its port listens from now on, nothing is sent before SetStream.

    With `resumed_ms` from 0 the call is the one that had the row before the plane was started anew: its clocks go on,
    so much later.
    """

    row: int
    generation: int
    worker: int = -1
    rate_hz: int = 8000
    reflex: bool = True
    resumed_ms: int = -1
    listened: bool = True  # by the ears: a conversation without turns does without them


class SetStream(msgspec.Struct, frozen=True, tag=True):
    """The outcome of an offer/answer exchange; sent again after each later one.

    `receive` lists every codec that may arrive, `send` is the one that we send with. `sending` and `receiving` follow
    the direction attribute. `allowed` are the addresses from which a symmetric source may be latched: the SDP's
    connection address and the signalling source. `rtcp_port` 0 means rtcp-mux.
    """

    row: int
    generation: int
    remote_address: str
    remote_port: int
    send: Codec
    receive: tuple[Codec, ...]
    ptime_ms: int = 20
    telephone_event: tuple[tuple[int, int], ...] = ()  # (payload type, clock rate in Hz)
    comfort_noise: int = -1  # payload type of CN (RFC 3389), -1 = not negotiated
    sending: bool = True
    receiving: bool = True
    allowed: tuple[str, ...] = ()
    rtcp_address: str = ""
    rtcp_port: int = 0
    srtp: SrtpKeys | None = None


class AssignWorker(msgspec.Struct, frozen=True, tag=True):
    """Wake another worker for this row from now on; -1 = nobody. What the old one had queued is flushed."""

    row: int
    generation: int
    worker: int


class SendDigits(msgspec.Struct, frozen=True, tag=True):
    """Send RFC 4733 events (in-band tones when none were negotiated), one after the other."""

    row: int
    generation: int
    digits: str
    duration_ms: int = 120
    gap_ms: int = 80


class InjectDigit(msgspec.Struct, frozen=True, tag=True):
    """A digit that came by SIP INFO; the media plane deduplicates it against RTP and in-band and reports it once."""

    row: int
    generation: int
    digit: str
    duration_ms: int = 0


class Play(msgspec.Struct, frozen=True, tag=True):
    """Mix a prompt (WAV file, `tone:ringback`, `tone:busy`) into what is sent; `exclusive` flushes and holds speech."""

    row: int
    generation: int
    source: str
    loop: bool = False
    gain: float = 1.0
    exclusive: bool = False


class StopPlay(msgspec.Struct, frozen=True, tag=True):
    """End the prompt of the row, faded out within one packet."""

    row: int
    generation: int


class Record(msgspec.Struct, frozen=True, tag=True):
    """Record both legs, left = far end, right = us, on one time line, as the suffix of `path` says: wav, flac, opus."""

    row: int
    generation: int
    path: str


class ControlRecording(msgspec.Struct, frozen=True, tag=True):
    """`action` is pause, resume or stop. While paused both legs are written as silence, so that time stays true."""

    row: int
    generation: int
    action: str


class StartCapture(msgspec.Struct, frozen=True, tag=True):
    """Write the row's packets to a pcapng file of at most `limit_octets`; `address` is ours, as the far end sees it."""

    row: int
    generation: int
    path: str
    address: str
    limit_octets: int


class CaptureMessage(msgspec.Struct, frozen=True, tag=True):
    """A SIP message for the row's capture, its secrets masked; `at_ns` is CLOCK_MONOTONIC. Also for a closed row."""

    row: int
    generation: int
    at_ns: int
    source: tuple[str, int]
    target: tuple[str, int]
    data: bytes


class StopCapture(msgspec.Struct, frozen=True, tag=True):
    """Close the capture's file; a CaptureEnded event follows. Also for a closed row, whose file is still open."""

    row: int
    generation: int


class Bridge(msgspec.Struct, frozen=True, tag=True):
    """Join two rows, or change how they are joined; a Bridged event follows.

    With `agent` the agent of `row` is heard by whom its `tx_audience` names, else by nobody. While they are `apart` the
    two do not hear each other: the agent talks with one of them.
    """

    row: int
    generation: int
    other_row: int
    other_generation: int
    agent: bool = False
    apart: bool = False


class Unbridge(msgspec.Struct, frozen=True, tag=True):
    """Part two joined rows again."""

    row: int
    generation: int


class CloseRow(msgspec.Struct, frozen=True, tag=True):
    """Stop the stream: RTCP BYE, recording closed, sockets deaf; a RowClosed event follows."""

    row: int
    generation: int


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Close every row and exit."""


Command = (
    OpenRow
    | SetStream
    | AssignWorker
    | SendDigits
    | InjectDigit
    | Play
    | StopPlay
    | Record
    | ControlRecording
    | StartCapture
    | CaptureMessage
    | StopCapture
    | Bridge
    | Unbridge
    | CloseRow
    | Shutdown
)

# ---- media → signalling


class MediaReady(msgspec.Struct, frozen=True, tag=True):
    """Sockets are bound: `ports[row]` is the RTP port of a row (RTCP on the next one), 0 = could not be had."""

    ports: tuple[int, ...]
    io: str  # "epoll" or "io_uring"
    refusal: int = 0  # errno of the first port that could not be had


class FirstPacket(msgspec.Struct, frozen=True, tag=True):
    """The first valid RTP packet of the row arrived."""

    row: int
    generation: int
    address: str
    port: int


class Latched(msgspec.Struct, frozen=True, tag=True):
    """Media is sent to another source than the SDP named (NAT)."""

    row: int
    generation: int
    address: str
    port: int


class Digit(msgspec.Struct, frozen=True, tag=True):
    """One digit pressed, reported once; `by` is rtp, inband or info; `position` is in samples of rx_head's clock."""

    row: int
    generation: int
    digit: str
    duration_ms: int
    position: int
    by: str


class PlayEnded(msgspec.Struct, frozen=True, tag=True):
    """The prompt has left the socket."""

    row: int
    generation: int
    source: str


class DigitsSent(msgspec.Struct, frozen=True, tag=True):
    """All digits of one SendDigits have left the socket."""

    row: int
    generation: int
    digits: str


class RecordingEnded(msgspec.Struct, frozen=True, tag=True):
    """The file is closed; `problem` is empty or says why it is shorter than the call."""

    row: int
    generation: int
    path: str
    duration_ms: int
    problem: str = ""


class Bridged(msgspec.Struct, frozen=True, tag=True):
    """The row is joined as the last Bridge said."""

    row: int
    generation: int


class CaptureEnded(msgspec.Struct, frozen=True, tag=True):
    """The file is closed; `problem` is empty or says why packets are missing, `left_out` of them."""

    row: int
    generation: int
    path: str
    packets: int
    left_out: int
    problem: str = ""


class NoMedia(msgspec.Struct, frozen=True, tag=True):
    """Nothing valid came for `silent_ms`; repeated each further second. `dropped_source` tells of refused strangers."""

    row: int
    generation: int
    silent_ms: int
    dropped_source: int


class RowClosed(msgspec.Struct, frozen=True, tag=True):
    """The row is at rest; `counters` and `gauges` are its last values, by name."""

    row: int
    generation: int
    counters: dict[str, int]
    gauges: dict[str, float]


class MediaProblem(msgspec.Struct, frozen=True, tag=True):
    """Something the operator should know: a command that could not be carried out, a prompt that cannot be read."""

    problem: str
    row: int = -1
    generation: int = 0


Event = (
    MediaReady
    | FirstPacket
    | Latched
    | Digit
    | PlayEnded
    | DigitsSent
    | RecordingEnded
    | CaptureEnded
    | Bridged
    | NoMedia
    | RowClosed
    | MediaProblem
)
