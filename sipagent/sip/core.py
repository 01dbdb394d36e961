"""The user agent's core (RFC 3261 §8, §11, §13): who a request belongs to, what is refused, what our user may do.

No input or output: bytes and the time go in by `receive` and `on_deadline`, actions and events come out by `drain`.
"""

import random
from collections.abc import Callable, Mapping

from sipmessage import Request, Response

from sipagent.errors import LocalError, ParseError, RemoteError
from sipagent.sip import header, message
from sipagent.sip.agenda import Agenda
from sipagent.sip.bindings import Bindings, server_uri
from sipagent.sip.body import SDP, accepts_sdp, session_description
from sipagent.sip.call import ALLOW, SUPPORTED, Call
from sipagent.sip.call_state import CallState
from sipagent.sip.dialog import Dialog, dialog_from_request
from sipagent.sip.digest import Authentication
from sipagent.sip.engine import EngineEvent, EngineSettings, HeaderList, IncomingCall, PlaceCall
from sipagent.sip.exchange import Exchange, Incoming
from sipagent.sip.flow import Flow
from sipagent.sip.inbound import InboundInvite
from sipagent.sip.inbound_digest import InboundDigest
from sipagent.sip.ladder import Ladders
from sipagent.sip.layer import TransactionLayer
from sipagent.sip.origin import may_come_from
from sipagent.sip.outbound import OutboundInvite
from sipagent.sip.placing import bare, invite, number_at
from sipagent.sip.readable import readable
from sipagent.sip.reoffer import add_timer
from sipagent.sip.replaces import replaced_call, replaces_value
from sipagent.sip.timing import TimerSettings, earliest
from sipagent.sip.transaction_user import Network
from sipagent.sip.trunks import Trunks
from sipagent.sip.wire import Action

_OPTIONS_WE_HAVE = frozenset({"100rel", "timer", "replaces", "norefersub"})
_METHODS = frozenset(ALLOW.replace(" ", "").split(","))
_UNSOLICITED = ("message-summary", "keep-alive")  # NOTIFYs that exchanges send to whoever registers
_IDENTITIES = frozenset({"p-asserted-identity", "p-preferred-identity", "remote-party-id", "diversion", "history-info"})
_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})


class UserAgent:
    """All calls of an engine, on one transaction layer."""

    def __init__(
        self,
        settings: EngineSettings,
        network: Network,
        identify: Callable[[str], str | None],
        timers: TimerSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`identify` gives the trunk of a source address: "" = none, None = not even to be answered."""
        self.settings = settings
        self.session_expires_s = settings.session_expires_s
        self.ladders = Ladders()
        self.layer = TransactionLayer(
            self,
            timers or TimerSettings(),
            network,
            rng or random.SystemRandom(),
            settings.user_agent,
            self.ladders.note,
        )
        self._calls: dict[str, Call] = {}  # by handle
        self._dialogs: dict[tuple[str, str, str], tuple[Call, Dialog]] = {}
        self._invites: dict[tuple[str, ...], Call] = {}  # by the INVITE's transaction
        self._agenda = Agenda()
        self._events: list[EngineEvent] = []
        self._count = 0
        self._digest = InboundDigest()
        self.bindings = Bindings(self.layer, self.emit, settings)
        self.trunks = Trunks(settings.trunks, identify, self.layer, self.bindings)

    # ---- input and output

    def receive(self, data: bytes, flow: Flow, now: float, fault: RemoteError | None = None) -> None:
        """The bytes of one message; `fault` refuses a request unseen."""
        self.layer.receive(data, flow, now, fault)

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return earliest(self.layer.deadline, self._agenda.deadline, self.bindings.deadline)

    def on_deadline(self, now: float) -> None:
        """Run what is due."""
        self.layer.on_deadline(now)
        self.bindings.on_deadline(now)
        for machine in self._agenda.due(now):
            if isinstance(machine, Call):
                machine.on_deadline(now)
                self.watch(machine)

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A connection broke."""
        self.layer.clients.flow_lost(flow, now)
        self.bindings.flow_lost(flow, now)

    def drain(self) -> tuple[list[Action], list[EngineEvent]]:
        """What is to be sent and located, and what our user should know; once."""
        events, self._events = self._events, []
        return self.layer.drain(), events

    # ---- what our user asks for

    def call(self, handle: str) -> Call | None:
        """A call that is alive."""
        return self._calls.get(handle)

    def calls(self) -> tuple[Call, ...]:
        """All of them."""
        return tuple(self._calls.values())

    def provisional(self, handle: str, status: int, body: bytes, headers: HeaderList, now: float) -> None:
        """180 or 183."""
        setup = self._inbound(handle)
        if setup is not None:
            setup.provisional(status, body, headers, now)

    def answer(self, handle: str, body: bytes, headers: HeaderList, now: float) -> None:
        """200 OK; a call that this one replaces is ended (RFC 3891 §3)."""
        call, setup = self._calls.get(handle), self._inbound(handle)
        if call is None or setup is None:
            return
        setup.answer(body, headers, now)
        replaced = self._calls.get(call.replaces)
        if replaced is not None and call.state is not CallState.INCOMING:
            replaced.hangup((), now)

    def reject(self, handle: str, status: int, reason: str, headers: HeaderList, now: float) -> None:
        """A final status from 300 to 699."""
        if not 300 <= status <= 699:
            raise LocalError(f"{status} does not refuse a call")
        setup = self._inbound(handle)
        if setup is not None:
            setup.reject(status, message.clean(reason), headers, now)

    def place(self, wanted: PlaceCall, now: float) -> str:
        """Send INVITE; gives the handle. LocalError for an address that is none."""
        account = self.trunks.accounts.get(wanted.trunk)
        routes = self.bindings.service_route(wanted.trunk)
        sequence = self.layer.rng.randrange(1, 2**16)
        call_id = self.ladders.call_id(wanted.redirected) or self.layer.token(24)
        request, hop = invite(wanted, account, routes, self.layer.token(), call_id, sequence)
        request.headers.add("Allow", ALLOW)
        request.headers.add("Supported", SUPPORTED)
        handle = self._new_handle()
        call = Call(self, handle, wanted.trunk, CallState.CALLING)
        call.contact_user = header.parse_uri(header.parse_address(request.headers["From"]).uri).user or ""
        call.local_body = wanted.offer
        add_timer(request, call.session_timer.request_headers())
        exchange = Exchange(request, hop, _ignore, _ignore_failure, contact_user=call.contact_user, failover=True)
        if account is not None and account.password:
            call.authentication = exchange.authentication = self.trunks.authentication(account)
            exchange.trunk = account.name
        setup = OutboundInvite(call, exchange)
        exchange.on_response, exchange.on_failure = setup.on_response, setup.on_failure
        exchange.on_late = setup.on_late
        call.setup = setup
        self._calls[handle] = call
        self.ladders.open(handle, message.call_id(request))
        self.layer.clients.send(exchange, now)
        return handle

    def refer(self, handle: str, refer_to: str, replaces: str | None, now: float) -> None:
        """Transfer a call to an address; attended when `replaces` names another call."""
        call = self._calls.get(handle)
        if call is None:
            return
        account, target = self.trunks.accounts.get(call.trunk), refer_to.strip()
        if not target.lower().startswith(("sip:", "sips:", "tel:")):
            server = server_uri(account) if account else call.dialog.target if call.dialog else ""
            target = number_at(bare(server), target)
        if replaces is not None and not self.replaces(replaces):
            raise LocalError("the call to be replaced is gone")
        call.transfers.refer(target, self.replaces(replaces) if replaces is not None else "", now)

    # ---- requests from the network (TransactionUser)

    def answers(self, flow: Flow) -> bool:
        """Strangers get no answers when we do not take calls from them."""
        return self.trunks.identify(flow.remote[0]) is not None

    def request(self, incoming: Incoming, now: float) -> None:
        """A new request that is sound."""
        request = incoming.request
        try:
            if message.address(request, "To").tag:
                self._within_dialog(incoming, now)
            else:
                self._outside_dialog(incoming, now)
        except RemoteError as error:
            headers = (("Unsupported", error.options),) if isinstance(error, _UnsupportedError) else ()
            self._refuse(incoming, error.status, now, error.reason, headers)
        except ParseError as error:
            self._refuse(incoming, 400, now, f"Bad Request ({error.expected} expected)")

    def ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx."""
        found = self._dialogs.get(_dialog_key(request))
        if found is not None and not self._foreign(found, flow):
            found[0].on_ack(request, now)

    def tag_of(self, invite: Incoming) -> str:
        """The To tag of an INVITE's responses."""
        call = self._invites.get(invite.key)
        return call.dialog.local_tag if call is not None and call.dialog is not None else self.layer.token()

    def cancel(self, invite: Incoming, request: Request, now: float) -> None:
        """CANCEL; of an initial INVITE it ends the call, of a re-INVITE only that."""
        call = self._invites.get(invite.key)
        if call is not None and isinstance(call.setup, InboundInvite):
            call.setup.on_cancel(request, now)
            return
        found = self._dialogs.get(_dialog_key(invite.request))
        if found is not None:
            found[0].on_cancel(invite, request, now)

    def challenge(self, exchange: Exchange, response: Response, now: float) -> bool:
        """401 or 407: whether the exchange was sent again with credentials."""
        return self.trunks.challenge(exchange, response, now)

    def transport_failed(self, incoming: Incoming, now: float) -> None:
        """Nothing more can be said in this transaction; the dialog, if there is one, has its own timers."""
        self.layer.stats["unacknowledged"] += 1

    # ---- what calls need (CallHost)

    def emit(self, event: EngineEvent) -> None:
        """Report to the engine's user."""
        self._events.append(readable(event))

    def index(self, call: Call, dialog: Dialog) -> None:
        """Requests within this dialog belong to the call."""
        self._dialogs[dialog.key] = (call, dialog)
        call.dialog_keys.add(dialog.key)

    def forget(self, call: Call, dialog: Dialog | None = None) -> None:
        """The call (or one of its dialogs) is over."""
        if dialog is not None:
            self._dialogs.pop(dialog.key, None)
            return
        self._calls.pop(call.handle, None)
        self.ladders.close(call.handle)
        for key in call.dialog_keys:
            self._dialogs.pop(key, None)
        self._invites.pop(call.invite_key, None)

    def watch(self, call: Call) -> None:
        """The call's deadline may have moved."""
        self._agenda.watch(call)

    def credentials(self, call: Call, flow: Flow | None) -> Authentication | None:
        """What may answer a challenge from this flow's far end; None for a stranger."""
        return self.trunks.credentials(call, flow)

    def replaces(self, handle: str) -> str:
        """The Replaces value that names a call of ours, "" when there is no such call."""
        call = self._calls.get(handle)
        return replaces_value(call.dialog) if call is not None and call.dialog is not None else ""

    # ---- inside

    def _within_dialog(self, incoming: Incoming, now: float) -> None:
        request = incoming.request
        found = self._dialogs.get(_dialog_key(request))
        if found is None:
            if self.answers(incoming.flow):
                self._refuse(incoming, 481, now)
            else:
                self.layer.servers.discard(incoming)
            return
        if self._foreign(found, incoming.flow):
            self.layer.servers.discard(incoming)  # no answer: the honest request must find its branch unused
            return
        call, dialog = found
        self._check_require(request)
        if request.method not in _METHODS:
            self._refuse(incoming, 405, now, headers=(("Allow", ALLOW),))
        elif not dialog.in_order(request):
            self._refuse(incoming, 500, now, "Out of Order")  # RFC 3261 §12.2.2
        elif request.method == "OPTIONS":
            self._answer_options(incoming, now)
        else:
            call.on_request(incoming, now)

    def _foreign(self, found: tuple[Call, Dialog], flow: Flow) -> bool:
        """Whether a request that knows a dialog's tags comes by UDP from where neither its far end nor its trunk is."""
        call, dialog = found
        if flow.reliable or may_come_from(dialog, flow.remote[0]) or self.trunks.is_far_end(call.trunk, flow):
            return False
        self.layer.stats["foreign_requests"] += 1
        return True

    def _outside_dialog(self, incoming: Incoming, now: float) -> None:
        request = incoming.request
        if not self.answers(incoming.flow):
            self.layer.stats["strangers"] += 1
            self.layer.servers.discard(incoming)
            return
        if request.method not in _METHODS:
            self._refuse(incoming, 405, now, headers=(("Allow", ALLOW),))
            return
        self._check_require(request)
        if self.layer.servers.merged(incoming):
            self._refuse(incoming, 482, now)
        elif request.method == "OPTIONS":
            self._answer_options(incoming, now)
        elif request.method == "INVITE":
            self._on_invite(incoming, now)
        elif request.method == "NOTIFY" and _event_package(request) in _UNSOLICITED:
            self._refuse(incoming, 200, now)
        elif request.method in ("REFER", "MESSAGE"):
            self._refuse(incoming, 403, now, "Within calls only")
        else:
            self._refuse(incoming, 481, now)

    def _on_invite(self, incoming: Incoming, now: float) -> None:
        request = incoming.request
        trunk = self.trunks.identify(incoming.flow.remote[0]) or ""
        refusal = self._digest.refusal(self.trunks.accounts.get(trunk), request, now)
        if refusal is not None:
            self.layer.stats["callers_challenged"] += 1
            self._refuse(incoming, refusal[0], now, headers=refusal[1])
            return
        if not accepts_sdp(request):
            self._refuse(incoming, 406, now)
            return
        try:
            offer = session_description(request)
        except RemoteError as error:
            self._refuse(incoming, error.status, now, headers=(("Accept", SDP), ("Accept-Encoding", "identity")))
            return
        dialog = dialog_from_request(request, self.layer.token(), incoming.flow)
        replaced = replaced_call(request, self._dialogs)
        call = Call(self, self._new_handle(), trunk, CallState.INCOMING)
        call.dialog, call.replaces = dialog, replaced.handle if replaced else ""
        call.contact_user = request.uri.user or ""
        call.learn(request)
        judgement = call.session_timer.judge(message.header_list(request))
        if judgement.status != 200:
            self._refuse(incoming, judgement.status, now, headers=judgement.headers)
            return
        setup = InboundInvite(call, incoming, offer, judgement.headers, now)
        call.setup = setup
        self._calls[call.handle] = call
        self._invites[incoming.key] = call
        call.invite_key = incoming.key
        self.index(call, dialog)
        self.watch(call)
        self.ladders.open(call.handle, dialog.call_id)
        self.layer.servers.respond(incoming, message.make_response(request, 100), now)
        caller = message.address(request, "From")
        self.emit(
            IncomingCall(
                handle=call.handle,
                trunk=trunk,
                request_uri=str(request.uri),
                from_uri=caller.uri,
                from_name=caller.name,
                to_uri=message.address(request, "To").uri,
                offer=offer,
                headers=_believed(request, trunk),
                source=incoming.flow.remote,
                supports=setup.supports,
                replaces=replaced.handle if replaced else None,
            )
        )

    def _answer_options(self, incoming: Incoming, now: float) -> None:
        """RFC 3261 §11.2."""
        headers = (
            ("Allow", ALLOW),
            ("Supported", SUPPORTED),
            ("Accept", SDP),
            ("Accept-Encoding", "identity"),
            ("Accept-Language", "en"),
        )
        self._refuse(incoming, 200, now, headers=headers)

    def _check_require(self, request: Request) -> None:
        """RFC 3261 §8.2.2.3."""
        if request.method in ("ACK", "CANCEL"):
            return
        unknown = [tag for tag in message.tokens(request, "Require") if tag.lower() not in _OPTIONS_WE_HAVE]
        if unknown:
            raise _UnsupportedError(unknown)

    def _refuse(self, incoming: Incoming, status: int, now: float, reason: str = "", headers: HeaderList = ()) -> None:
        response = message.make_response(incoming.request, status, reason, self.layer.token())
        message.add_headers(response, headers)
        self.layer.servers.respond(incoming, response, now)

    def _inbound(self, handle: str) -> InboundInvite | None:
        call = self._calls.get(handle)
        return call.setup if call is not None and isinstance(call.setup, InboundInvite) else None

    def _new_handle(self) -> str:
        self._count += 1
        return f"{self._count}-{self.layer.token(8)}"

    def stats(self) -> Mapping[str, int]:
        """Counters by name."""
        return {
            **self.layer.stats,
            "calls": len(self._calls),
            "dialogs": len(self._dialogs),
            "transactions": self.layer.transactions,
        }


class _UnsupportedError(RemoteError):
    """420 with the names of the extensions that we lack."""

    def __init__(self, options: list[str]) -> None:
        super().__init__(420, "Bad Extension")
        self.options = ", ".join(option for option in options if message.is_token(option)) or "unknown"


def _dialog_key(request: Request) -> tuple[str, str, str]:
    """Call-ID, our tag, their tag of a request to us."""
    return message.call_id(request), message.address(request, "To").tag, message.address(request, "From").tag


def _believed(request: Request, trunk: str) -> HeaderList:
    """The headers that our user sees: asserted identities only from a trunk (RFC 3325 §5), credentials never."""
    hidden = _CREDENTIALS if trunk else _CREDENTIALS | _IDENTITIES
    return tuple((name, value) for name, value in message.header_list(request) if name.lower() not in hidden)


def _event_package(request: Request) -> str:
    return (request.headers.get("Event") or "").partition(";")[0].strip().lower()


def _ignore(response: Response, now: float) -> None:
    pass


def _ignore_failure(status: int, now: float) -> None:
    pass
