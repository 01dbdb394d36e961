"""Bodies of requests and responses, checked at the edge; OpenAPI is made from them."""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from sipagent.errors import ParseError
from sipagent.http.control import CallRequest, CallView, TransferWish
from sipagent.service import destinations

MAX_VARIABLES_BYTES: Final = 16 * 1024


def _destination(text: str) -> str:
    try:
        return destinations.parse(text).text
    except ParseError as error:
        raise ValueError(f"write {error.expected}") from error


def _variables(variables: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(variables, allow_nan=False)) > MAX_VARIABLES_BYTES:
        raise ValueError(f"at most {MAX_VARIABLES_BYTES} bytes of JSON")
    return variables


Target = Annotated[
    str,
    AfterValidator(_destination),
    Field(max_length=destinations.MAX_LENGTH, description="E.164 number, or SIP URI of an allowed host"),
]
# A user part without escapes: nothing in it can end a header or a URI.
CallerId = Annotated[str, Field(pattern=r"^\+?[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
Text = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
BrainSpec = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class PlaceCallBody(_Body):
    """A call to place."""

    to: Target
    from_: CallerId | None = Field(default=None, alias="from", description="caller id; left out: that of the trunk")
    trunk: Name | None = Field(default=None, description="left out: the first trunk")
    brain: BrainSpec | None = Field(default=None, description='"module:Class"; left out: that of the route')
    variables: Annotated[dict[str, JsonValue], AfterValidator(_variables)] = Field(
        default_factory=dict, description="for the brain"
    )

    def request(self) -> CallRequest:
        """As call control takes it."""
        return CallRequest(self.to, self.from_ or "", self.trunk or "", self.brain or "", self.variables)


class HangupBody(_Body):
    """Why a call is ended."""

    reason: str = Field(default="", max_length=100, pattern=r"^[ -~]*$", description="for the record")


class RejectBody(_Body):
    """How a caller is refused."""

    status: int = Field(default=603, ge=300, le=699, description="SIP status")
    reason: str = Field(default="", max_length=100, pattern=r"^[ -~]*$", description="left out: that of the status")
    contact: Target | None = Field(default=None, description="whom to call instead, with a 3xx")
    retry_after_seconds: int = Field(default=0, ge=0, le=86_400, description="when to call again; 0: not said")


class DigitsBody(_Body):
    """Keys to press."""

    digits: str = Field(pattern=r"^[0-9A-D*#,w]{1,64}$", description="w pauses for half a second, a comma for one")


class RecordBody(_Body):
    """How both sides are to be recorded."""

    format: Literal["", "wav", "flac", "opus"] = Field(default="", description='"" = as the route says, or wav')


class TransferBody(_Body):
    """Where the far end is to be transferred."""

    to: Target
    mode: Literal["blind", "attended", "bridged"] = "blind"
    ring_seconds: float = Field(default=25.0, gt=0, le=300, description="then the caller is the agent's again")
    whisper: Text = Field(default="", description="bridged: said to the target alone, before the two are joined")
    listen: bool = Field(default=False, description="bridged: the agent stays, and both are transcribed")
    back: bool = Field(default=False, description="bridged: the caller comes back when the target hangs up")
    back_key: str = Field(default="", pattern=r"^[0-9A-D*#]?$", description="bridged: … or presses this key")

    def wish(self) -> TransferWish:
        """As call control takes it."""
        return TransferWish(**self.model_dump())


class WhisperBody(_Body):
    """What one of two who are joined is to hear."""

    text: Text = Field(min_length=1)
    to: Literal["colleague", "caller"] = "colleague"


class Accepted(BaseModel):
    """A call that has begun."""

    id: str
    state: str


class CallBody(BaseModel):
    """A call."""

    id: str
    direction: str
    state: str
    from_: str = Field(serialization_alias="from")
    to: str
    trunk: str
    stir: dict[str, Any] = Field(description="who vouches for the caller's number: result, attestation and more")
    brain: str
    created_at: float = Field(description="Unix seconds, as all times")
    answered_at: float | None
    ended_at: float | None
    outcome: str = Field(description="empty while the call lasts")
    status: int = Field(description="final SIP status of a call that was not answered, else 0")
    reason: str
    quality: dict[str, float]

    @classmethod
    def of(cls, view: CallView) -> Self:
        """From call control's view."""
        return cls(**cls.values(view))

    @staticmethod
    def values(view: CallView) -> dict[str, Any]:
        """The fields of a view."""
        return {
            "id": view.id,
            "direction": view.direction,
            "state": view.state,
            "from_": view.from_number,
            "to": view.to_number,
            "trunk": view.trunk,
            "stir": dict(view.stir),
            "brain": view.brain,
            "created_at": view.created_at,
            "answered_at": view.answered_at,
            "ended_at": view.ended_at,
            "outcome": view.outcome,
            "status": view.status,
            "reason": view.reason,
            "quality": dict(view.quality),
        }


class CallDetail(CallBody):
    """A call with what was said in it."""

    disposition: str = Field(description="what the brain made of the call")
    transcript: list[dict[str, Any]] = Field(description="lines so far: role, text and more")
    collected_vars: dict[str, Any]
    usage: dict[str, float]
    recording: str
    redirects: list[dict[str, Any]] = Field(description="addresses that 3xx responses named: to, status, problem")

    @staticmethod
    def values(view: CallView) -> dict[str, Any]:
        """The fields of a view, with those that a list leaves out."""
        return CallBody.values(view) | {
            "disposition": view.disposition,
            "transcript": [dict(line) for line in view.transcript],
            "collected_vars": dict(view.collected_vars),
            "usage": dict(view.usage),
            "recording": view.recording,
            "redirects": [dict(hop) for hop in view.redirects],
        }


class CallList(BaseModel):
    """Calls in progress and those that ended a short while ago."""

    calls: list[CallBody]


class ProblemBody(BaseModel):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None
