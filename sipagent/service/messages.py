"""What the signalling plane and a conversation worker say to each other (msgpack over AF_UNIX SEQPACKET).

inbound:   Offer → Accept | Reject;  Accept → (answered by SIP) → Connected;  … → Ended
           Accept(early_media) → (183) → Connected(answered=False) → Answer → Connected, or Reject
outbound:  Offer → Accept (the brain is ready) → Connected when the far end answers
after a worker died: Offer(resumed=True) → Accept → Connected at once
"""

from typing import Any, Final

import msgspec

from sipagent.stir.verdict import Verdict

CASCADED: Final = "cascaded"  # values of Talk.pipeline
ECHO: Final = "echo"


class Party(msgspec.Struct, frozen=True):
    """Who calls and who is called, as signalling knows it."""

    direction: str  # "inbound" or "outbound"
    from_number: str
    from_name: str
    to_number: str
    trunk: str
    headers: tuple[tuple[str, str], ...] = ()  # P-Asserted-Identity, Diversion, History-Info, X-…
    stir: Verdict = Verdict()  # who vouches for from_number
    early_media: bool = True  # audio can flow before the answer


class Talk(msgspec.Struct, frozen=True):
    """How the conversation is to be led: the route's choice."""

    brain: str  # "module:Class"
    brain_options: dict[str, Any]
    pipeline: str  # CASCADED or ECHO
    pipeline_options: dict[str, Any]


# ---- signalling → worker


class Offer(msgspec.Struct, frozen=True, tag=True):
    """A call is yours; the brain decides with Accept or Reject. Audio is in the row of that generation."""

    call_id: str
    plane: int
    row: int
    generation: int
    party: Party
    talk: Talk
    variables: dict[str, Any]
    resumed: bool = False
    history: tuple[dict[str, Any], ...] = ()  # the conversation so far, of a call that is taken over


class Connected(msgspec.Struct, frozen=True, tag=True):
    """Both sides can talk: answered, ACKed, and the first RTP has come or been waited for.

    With `answered` False it is early media; a second Connected follows when the call is answered.
    """

    call_id: str
    rate_hz: int
    answered: bool = True


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The far end is gone; finish with Finished."""

    call_id: str
    reason: str


class DigitPressed(msgspec.Struct, frozen=True, tag=True):
    """The caller pressed a key."""

    call_id: str
    digit: str
    duration_ms: int


class TextMessage(msgspec.Struct, frozen=True, tag=True):
    """SIP INFO or MESSAGE from the far end."""

    call_id: str
    content_type: str
    body: str


class TransferResult(msgspec.Struct, frozen=True, tag=True):
    """How a transfer ended: `outcome` is transferred, or says why the call is yours again."""

    call_id: str
    outcome: str


class Colleague(msgspec.Struct, frozen=True, tag=True):
    """Somebody to whom you transferred the caller is on the line, and you are with them.

    Until they are `joined` the colleague hears you alone: say `whisper`, then send Join. Their audio is in that row of
    the call's plane; with `listen` it is to be transcribed, and the caller's as before, without it neither.
    """

    call_id: str
    row: int
    generation: int
    listen: bool
    joined: bool
    whisper: str = ""


class ColleagueLeft(msgspec.Struct, frozen=True, tag=True):
    """The caller is yours again."""

    call_id: str
    reason: str


class Whisper(msgspec.Struct, frozen=True, tag=True):
    """Say something to one of the two: `to` is colleague or caller."""

    call_id: str
    text: str
    to: str = "colleague"


class StepIn(msgspec.Struct, frozen=True, tag=True):
    """Let both hear you and answer the caller; not `heard`: listen only, as before."""

    call_id: str
    heard: bool


class HoldChanged(msgspec.Struct, frozen=True, tag=True):
    """The far end put us on hold, or came back."""

    call_id: str
    held: bool


class Stop(msgspec.Struct, frozen=True, tag=True):
    """No more calls; exit when the last one is over."""


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Answer with Pong: is the loop alive?"""

    number: int


# ---- worker → signalling


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Models are loaded; `warnings` tell of what is missing."""

    pid: int
    warnings: tuple[str, ...] = ()


class Accept(msgspec.Struct, frozen=True, tag=True):
    """The brain takes the call; with `early_media` it wants to talk, or listen, before the answer."""

    call_id: str
    early_media: bool = False


class Answer(msgspec.Struct, frozen=True, tag=True):
    """Answer a call that was accepted with early media."""

    call_id: str


class Reject(msgspec.Struct, frozen=True, tag=True):
    """The brain does not take it; `contact` is whom to call instead, with a 3xx, the last one when to call again."""

    call_id: str
    status: int
    reason: str
    contact: str = ""
    retry_after_seconds: int = 0


class Hangup(msgspec.Struct, frozen=True, tag=True):
    """End the call now (the worker has waited until the goodbye was played)."""

    call_id: str
    reason: str


class PressDigits(msgspec.Struct, frozen=True, tag=True):
    """Send DTMF."""

    call_id: str
    digits: str


class Transfer(msgspec.Struct, frozen=True, tag=True):
    """Transfer the caller; `mode` is blind, attended or bridged."""

    call_id: str
    to: str
    mode: str = "blind"
    ring_seconds: float = 25.0
    whisper: str = ""  # bridged: for the colleague alone, before the two are joined
    listen: bool = False  # bridged: the agent stays, and both are transcribed
    back: bool = False  # bridged: when the colleague hangs up the caller is the agent's again
    back_key: str = ""  # bridged: with this key the colleague hands the caller back


class Join(msgspec.Struct, frozen=True, tag=True):
    """What was to be told to the colleague has been heard: let the two talk."""

    call_id: str


class TakeBack(msgspec.Struct, frozen=True, tag=True):
    """Let the colleague go; ColleagueLeft follows."""

    call_id: str


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Put the far end on hold, or take it back."""

    call_id: str
    held: bool


class ControlRecording(msgspec.Struct, frozen=True, tag=True):
    """`action` is start, pause, resume or stop; `suffix` is wav, flac or opus, "" = as the route says."""

    call_id: str
    action: str
    suffix: str = ""


class SendText(msgspec.Struct, frozen=True, tag=True):
    """SIP INFO or MESSAGE to the far end."""

    call_id: str
    method: str
    content_type: str
    body: str


class CallEvent(msgspec.Struct, frozen=True, tag=True):
    """For the event stream and the record: type is transcript, barge_in, turn, tool, state, warning, …"""

    call_id: str
    type: str = msgspec.field(name="event")  # "type" is the tag of the message itself
    data: dict[str, Any]


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The last word of a conversation, for the record."""

    call_id: str
    transcript: tuple[dict[str, Any], ...]
    collected_vars: dict[str, Any]
    usage: dict[str, float]
    disposition: str = ""


class Pong(msgspec.Struct, frozen=True, tag=True):
    """The loop is alive; `lag_ms` is the longest stall since the last Pong, `calls` are the ids of those it leads."""

    number: int
    lag_ms: float
    calls: tuple[str, ...] = ()


ToWorker = (
    Offer
    | Connected
    | Ended
    | DigitPressed
    | TextMessage
    | TransferResult
    | Colleague
    | ColleagueLeft
    | Whisper
    | StepIn
    | HoldChanged
    | Stop
    | Ping
)
FromWorker = (
    Ready
    | Accept
    | Answer
    | Reject
    | Hangup
    | PressDigits
    | Transfer
    | Join
    | TakeBack
    | Hold
    | ControlRecording
    | SendText
    | CallEvent
    | Finished
    | Pong
)
