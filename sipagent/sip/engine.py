"""The seam between call control and SIP: what an engine can do, and what it reports.

An engine owns transports, transactions, dialogs and registrations. It never looks into a session description: bodies
are bytes, offer/answer is the caller's business. Calls are named by the engine's own opaque `handle`.

    inbound:   IncomingCall → ring / progress / answer / reject        (or Cancelled);  progress → EarlySession
    outbound:  place → Progress* → Answered | Ended
    later:     Reoffer → accept_reoffer / reject_reoffer;  reoffer → ReofferAnswered | ReofferRefused;  hangup | Ended
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from sipagent.sip.ladder import Message, Observer

HeaderList = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """An INVITE outside of a dialog; 100 has been sent. `offer` is None for a delayed offer."""

    handle: str
    trunk: str  # name of the trunk it came by, "" = none matched
    request_uri: str
    from_uri: str
    from_name: str
    to_uri: str
    offer: bytes | None
    headers: HeaderList
    source: tuple[str, int]
    supports: frozenset[str] = frozenset()  # option tags of Supported and Require, lower case
    replaces: str | None = None  # handle of the call that a Replaces header names (RFC 3891)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller gave up before the answer (CANCEL, or its INVITE expired)."""

    handle: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EarlySession:
    """The caller has the session description of our 183, as far as we can know: its PRACK has come, or there is none.

    `answer` is the PRACK's body when the offer was in the 183.
    """

    handle: str
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The ACK of our 2xx has come; `answer` is its body when the offer was in the 2xx."""

    handle: str
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A provisional response to a call that we placed; `body` is early media's session description."""

    handle: str
    status: int
    reason: str
    body: bytes | None
    headers: HeaderList = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """The 2xx to a call that we placed; its ACK has been sent. `body` is the answer to our offer."""

    handle: str
    body: bytes | None
    headers: HeaderList = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over, whoever ended it. `status` is the final response of a call that was never answered."""

    handle: str
    by: str  # "remote", "local", "timeout" (no ACK, session timer), "transport", "refused"
    status: int = 0
    reason: str = ""
    headers: HeaderList = ()


@dataclass(frozen=True, slots=True)
class Reoffer:
    """A re-INVITE or UPDATE with an offer (None: a re-INVITE without one, answer it with our own offer)."""

    handle: str
    offer: bytes | None


@dataclass(frozen=True, slots=True)
class ReofferAnswered:
    """The far end accepted our re-INVITE or UPDATE."""

    handle: str
    body: bytes | None


@dataclass(frozen=True, slots=True)
class ReofferRefused:
    """The far end refused it; the session stays as it was (RFC 3261 §14.1)."""

    handle: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class InDialogMessage:
    """INFO or MESSAGE within a call; it has been answered with 200."""

    handle: str
    method: str
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """The far end sent REFER; answer with `accept_refer` or `reject_refer`."""

    handle: str
    refer_to: str
    referred_by: str


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """NOTIFY of our own REFER: status of the far end's new call; `done` with the last one."""

    handle: str
    status: int
    reason: str
    done: bool


class RegistrationState(Enum):
    """Where a registration stands."""

    DISABLED = "disabled"
    REGISTERING = "registering"
    REGISTERED = "registered"
    REFUSED = "refused"  # 4xx that a retry will not mend soon: slow retry
    UNREACHABLE = "unreachable"
    UNREGISTERED = "unregistered"


@dataclass(frozen=True, slots=True)
class RegistrationChanged:
    """A trunk's registration moved; `retry_in_s` when it is not registered, `expires_s` when it is."""

    trunk: str
    state: RegistrationState
    status: int = 0
    reason: str = ""
    expires_s: float = 0.0
    retry_in_s: float = 0.0


EngineEvent = (
    IncomingCall
    | Cancelled
    | EarlySession
    | Confirmed
    | Progress
    | Answered
    | Ended
    | Reoffer
    | ReofferAnswered
    | ReofferRefused
    | InDialogMessage
    | TransferRequested
    | TransferProgress
    | RegistrationChanged
)


@dataclass(frozen=True, slots=True)
class TrunkAccount:
    """What an engine needs to know of a trunk. `server` is a SIP URI; its transport parameter picks UDP, TCP or TLS."""

    name: str
    server: str
    username: str = ""
    auth_username: str = ""  # "" = username
    password: str = field(default="", repr=False)
    domain: str = ""  # host of our address of record; "" = the server's
    caller_id: str = ""
    display_name: str = ""
    register: bool = True
    expires_s: int = 300
    outbound_proxy: str = ""
    allow: tuple[str, ...] = ()  # networks that may send us calls for this trunk; () = the server's addresses
    headers: HeaderList = ()
    inbound_digest: bool = False  # its calls to us must know the password too
    sip_outbound: bool = True  # REGISTER names our instance and the flow (RFC 5626), when there is an instance


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """An engine's own settings."""

    listen: tuple[str, ...]  # "udp:127.0.0.1:5060", "tcp:[::1]:5060", "tls:0.0.0.0:5061"
    public_address: str = ""  # in Via, Contact and SDP when behind NAT; "stun:host:port" = ask there at the start
    user_agent: str = "sipagent"
    trunks: tuple[TrunkAccount, ...] = ()
    accept_unknown_sources: bool = True  # INVITEs from addresses of no trunk
    tls_certificate: str = ""
    tls_key: str = field(default="", repr=False)
    tls_ca: str = ""
    tls_verify: bool = True
    tls_client_ca: str = ""  # authority of the certificates that clients must show to our listeners; "" = none needed
    session_expires_s: int = 1800
    keepalive_s: float = 0.0  # to each trunk; 0 = off
    keepalive: str = "options"  # or "stun" or "crlf" on the flow
    instance_id: str = ""  # a UUID that is ours for all time (RFC 5626 §4.1); "" = without SIP Outbound


@dataclass(frozen=True, slots=True)
class PlaceCall:
    """A call to place. `to` is a SIP URI or a number, which becomes a user at the trunk's server."""

    to: str
    trunk: str
    offer: bytes
    from_user: str = ""  # "" = the trunk's caller_id, then its username
    from_name: str = ""
    headers: HeaderList = ()
    addressed_to: str = ""  # who was called at first, for To, when `to` is where a 3xx has sent us; "" = `to`
    redirected: str = ""  # handle of the call that the 3xx has ended: this one goes on in its Call-ID


class SipEngine(Protocol):
    """A SIP user agent; every method but start and stop returns at once, outcomes come as events.

    Methods for a handle that is gone do nothing: the far end may hang up at any moment.
    """

    async def start(self, on_event: Callable[[EngineEvent], None]) -> None:
        """Bind the listeners and begin to register; raises ConfigError when an address cannot be bound."""

    async def stop(self) -> None:
        """Un-register (waiting a little for the answers), BYE or CANCEL what is left, close the transports."""

    async def unregister(self) -> None:
        """Give up the registrations, so that no new call comes; calls go on."""

    def update_trunks(self, trunks: tuple[TrunkAccount, ...]) -> None:
        """Have these trunks from now on: register at new ones, leave those that are gone, begin anew with changed ones.

        Calls go on, also those of trunks that are gone.
        """

    def handles(self) -> tuple[str, ...]:
        """The calls that neither side has ended yet."""

    def listening(self) -> tuple[str, ...]:
        """The bound addresses, as in `EngineSettings.listen` with real ports."""

    def local_address(self, handle: str, trunk: str = "") -> str:
        """The address that the far end should send media to when nothing else is configured: of the call `handle`, or
        with "" of a call that is about to be placed by `trunk`.
        """

    def registrations(self) -> Mapping[str, RegistrationChanged]:
        """Present state by trunk name."""

    def ring(self, handle: str, headers: HeaderList = ()) -> None:
        """180 Ringing."""

    def progress(self, handle: str, body: bytes, headers: HeaderList = ()) -> None:
        """183 Session Progress with a session description: early media. EarlySession follows."""

    def answer(self, handle: str, body: bytes, headers: HeaderList = ()) -> None:
        """200 OK; the engine repeats it until the ACK comes."""

    def reject(self, handle: str, status: int, reason: str = "", headers: HeaderList = ()) -> None:
        """Any final status from 300 to 699."""

    def place(self, call: PlaceCall) -> str:
        """Send INVITE; returns the handle. Challenges are answered once by the engine."""

    def hangup(self, handle: str, headers: HeaderList = ()) -> None:
        """BYE, CANCEL or 487, whatever the state of the call wants."""

    def reoffer(self, handle: str, offer: bytes) -> None:
        """Send re-INVITE with an offer (queued behind one that is pending; glare is waited out)."""

    def accept_reoffer(self, handle: str, body: bytes) -> None:
        """200 OK to the pending Reoffer."""

    def reject_reoffer(self, handle: str, status: int, reason: str = "") -> None:
        """Refuse the pending Reoffer, mostly with 488; the session goes on as it was."""

    def send_in_dialog(self, handle: str, method: str, content_type: str, body: bytes) -> None:
        """INFO or MESSAGE."""

    def refer(self, handle: str, refer_to: str, replaces: str | None = None) -> None:
        """Blind transfer, or attended when `replaces` names another call of ours."""

    def accept_refer(self, handle: str) -> None:
        """202 Accepted to the pending TransferRequested."""

    def reject_refer(self, handle: str, status: int) -> None:
        """Refuse it (603)."""

    def notify_refer(self, handle: str, status: int, reason: str, done: bool) -> None:
        """NOTIFY the far end of how its transfer goes (message/sipfrag)."""

    def stats(self) -> Mapping[str, int]:
        """Counters by name, for /metrics."""

    def ladder(self, handle: str) -> tuple[Message, ...]:
        """The call's messages so far, oldest first."""

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every message from now on, whether it belongs to a call or not."""
