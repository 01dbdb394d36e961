"""The user agent on PJSIP: accounts and calls by name, commands in, reports out."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pjsua2 as pj
from sipmessage import Request, Response

from sipagent.errors import LocalError, ParseError
from sipagent.sip import message
from sipagent.sip.body import session_description
from sipagent.sip.engine import Ended, EngineEvent, EngineSettings, IncomingCall, PlaceCall, TrunkAccount
from sipagent.sip.pjsua2 import messages
from sipagent.sip.pjsua2.account import Account
from sipagent.sip.pjsua2.call import Call
from sipagent.sip.pjsua2.gate import DROP, PASS, Gate
from sipagent.sip.pjsua2.in_dialog import InDialogRequests
from sipagent.sip.pjsua2.library import Hooks, Library
from sipagent.sip.pjsua2.logged import LoggedMessage
from sipagent.sip.pjsua2.messages import AcceptReoffer, Command, RejectReoffer, Report
from sipagent.sip.pjsua2.module import BEFORE_APPLICATION, BEFORE_TRANSACTIONS
from sipagent.sip.pjsua2.options import parse
from sipagent.sip.placing import invite

ASK_S: Final = 0.4  # how long an UPDATE with an offer may hold up everything else
LEAVE_S: Final = 2.0  # for the answers to the un-REGISTER of a trunk that is given up
_NOT_COPIED: Final = frozenset({"max-forwards", "from", "to", "call-id", "cseq", "content-type", "route", "via"})


class Pjsua2UserAgent:
    """Everything in PJSIP's process but its loop.

    `receive` waits so many seconds at most for a command.
    """

    def __init__(
        self,
        settings: EngineSettings,
        addresses: dict[str, tuple[str, ...]],
        generation: int,
        send: Callable[[Report], None],
        receive: Callable[[float], Command | None],
    ) -> None:
        self._settings, self._generation, self._send, self._receive = settings, generation, send, receive
        self._calls: dict[str, Call] = {}
        self._finished: list[Any] = []  # what pjsua2 still holds while one of its callbacks runs
        self._backlog: list[Command] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._count = 0
        self._last: LoggedMessage | None = None  # the message that PJSIP is about to deal with
        self.counters: Counter[str] = Counter()
        self._library = Library(settings, Hooks(self._logged, self._complain, self._choose_account))
        stack = self._library.stack
        self._gate = Gate(settings, stack.max_calls, lambda: stack.calls)
        self._in_dialog = InDialogRequests(stack, self.emit)
        stack.insert("mod-sipagent-front", BEFORE_TRANSACTIONS, self._on_request, self._on_response)
        stack.insert("mod-sipagent-gate", BEFORE_APPLICATION, self._on_new_request, None)
        self._strangers = self._make_account(None)
        self._accounts: dict[str, Account] = {}
        self._allow: dict[str, tuple[str, ...]] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}  # of the trunks' servers
        self.update_trunks(settings.trunks, addresses)
        send(messages.Ready(self._library.version, stack.max_calls, self._library.listening()))

    # ---- the loop's business

    def turn(self, wait_ms: int) -> None:
        """Let PJSIP work, then do what its callbacks left to be done."""
        self._library.turn(wait_ms)
        self._finished.clear()
        now = time.monotonic()
        due = [work for at, work in self._timers if at <= now]
        if due:
            self._timers = [timer for timer in self._timers if timer[0] > now]
            for work in due:
                self._attempt(work)
        backlog, self._backlog = self._backlog, []
        for command in backlog:
            self.obey(command)

    def statistics(self) -> dict[str, int]:
        """All counters."""
        return {**self.counters, **self._gate.counters, "calls": self._library.stack.calls}

    @property
    def busy(self) -> bool:
        """Whether PJSIP still holds a call or a registration."""
        return bool(self._library.stack.calls) or any(
            account.trunk is not None and account.trunk.register and account.getInfo().regIsActive
            for account in self._accounts.values()
        )

    def leave(self) -> None:
        """Un-register and hang up everything."""
        self.unregister()
        for call in list(self._calls.values()):
            self._attempt(lambda call=call: call.leave(()))  # type: ignore[misc]

    def unregister(self) -> None:
        """Give up the registrations."""
        for account in self._accounts.values():
            self._attempt(account.leave)

    def update_trunks(self, trunks: tuple[TrunkAccount, ...], addresses: dict[str, tuple[str, ...]]) -> None:
        """Make, change and give up accounts; calls go on."""
        allow = {trunk.name: trunk.allow for trunk in trunks}
        gone = set(self._accounts) - set(allow)
        # who is left is still asked for a password when we un-register
        self._gate.set_trunks(allow, {**self._addresses, **addresses} if gone else addresses)
        self._allow, self._addresses = allow, addresses
        for account in [self._accounts.pop(name) for name in gone]:
            self._attempt(account.leave)
            self.later(LEAVE_S, account.shutdown)
        if gone:
            self.later(LEAVE_S, lambda: self._gate.set_trunks(self._allow, self._addresses))
        for trunk in trunks:
            known = self._accounts.get(trunk.name)
            if known is None:
                self._accounts[trunk.name] = self._make_account(trunk)
            else:
                self._attempt(lambda known=known, trunk=trunk: known.change(trunk))  # type: ignore[misc]

    def obey(self, command: Command) -> None:
        """Carry out a command; one for a call that is gone does nothing."""
        self._attempt(lambda: self._obey(command))

    def _obey(self, command: Command) -> None:
        if isinstance(command, messages.UpdateTrunks):
            return self.update_trunks(command.trunks, command.addresses)
        if isinstance(command, messages.Unregister):
            return self.unregister()
        if isinstance(command, messages.Place):
            return self._place(command.handle, command.call)
        call = self._calls.get(command.handle) if isinstance(command, messages.Do) else None
        if call is None:
            return None
        match command:
            case messages.Ring():
                call.provisional(180, b"", command.headers)
            case messages.SendProgress():
                call.provisional(183, command.body, command.headers)
            case messages.Answer():
                call.accept(command.body, command.headers)
            case messages.Reject():
                call.refuse(command.status, command.reason, command.headers)
            case messages.Hangup():
                call.leave(command.headers)
            case messages.SendReoffer():
                call.offer(command.body)
            case messages.AcceptReoffer():
                call.answer_reoffer(200, "", command.body)
            case messages.RejectReoffer():
                call.answer_reoffer(command.status, command.reason, b"")
            case messages.SendInDialog():
                call.send(command.method, command.content_type, command.body)
            case messages.Refer():
                call.transfer(command.refer_to, self._calls.get(command.replaces))
            case messages.AnswerRefer():
                self._in_dialog.answer_refer(command.handle, command.status)
                if command.status < 300:
                    self._notify(call, messages.NotifyRefer(call.handle, 100, "Trying", False))  # RFC 3515 §2.4.4
            case messages.NotifyRefer():
                self._notify(call, command)
        return None

    # ---- what a call asks (Host)

    def emit(self, event: EngineEvent) -> None:
        """To the engine."""
        if isinstance(event, Ended):
            self._in_dialog.close(event.handle)
        self._send(messages.reported(event))

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Outside of every callback."""
        self._timers.append((time.monotonic() + delay_s, work))

    def ask(self, handle: str) -> AcceptReoffer | RejectReoffer | None:
        """Wait for the engine's word on a Reoffer; other commands wait until PJSIP's callback is over."""
        until = time.monotonic() + ASK_S
        while (left := until - time.monotonic()) > 0:
            command = self._receive(left)
            if isinstance(command, AcceptReoffer | RejectReoffer) and command.handle == handle:
                return command
            if command is not None:
                self._backlog.append(command)
        return None

    def ended(self, call: Call) -> None:
        """Forget a call, when no callback runs."""
        if self._calls.get(call.handle) is call:
            del self._calls[call.handle]
        self._finished.append(call)

    def challenged(self, call: Call, response: Response | None) -> bool:
        """Place a refused call anew, once the password is bound to the trunk's realm."""
        account, wanted = self._accounts.get(call.trunk), call.placed
        if account is None or wanted is None or not account.learn(response):
            return False
        self.later(0.01, lambda: self._place(call.handle, wanted))
        return True

    # ---- calls

    def _place(self, handle: str, wanted: PlaceCall) -> None:
        trunk = next((one.trunk for name, one in self._accounts.items() if name == wanted.trunk), None)
        try:
            request, _ = invite(wanted, trunk, (), "t", "c", 1)
        except LocalError as error:
            return self.emit(Ended(handle, "local", 400, str(error)))
        if self._library.stack.calls >= self._library.stack.max_calls:
            self.counters["over_limit"] += 1
            return self.emit(Ended(handle, "local", 503, "no free call slot in this build of PJSIP"))
        extra = tuple(pair for pair in message.header_list(request) if pair[0].lower() not in _NOT_COPIED)
        caller = (request.headers.get("From") or "").rpartition(";tag=")[0]
        account = self._accounts.get(wanted.trunk, self._strangers)
        call = Call(self, account, handle, wanted.trunk)
        self._calls[handle] = call
        try:
            call.place(wanted, str(request.uri), caller, extra)
        except pj.Error as error:
            self.ended(call)
            return self.emit(Ended(handle, "transport", 503, str(error.reason)))
        self._begin(handle, call.getInfo().callIdString)
        return None

    def _incoming(self, account: Account, prm: Any) -> None:
        request = parse(prm.rdata.wholeMsg)
        self._count += 1
        call = Call(self, account, f"in-{self._generation}-{self._count}", account.name, prm.callId)
        self._calls[call.handle] = call
        offer = session_description(request) if isinstance(request, Request) else None
        if not isinstance(request, Request) or offer is None:
            # PJSIP has made up an offer of its own by now, which cannot be replaced when the engine has one
            self.counters["delayed_offers_refused"] += 1
            return self.later(0, lambda: call.refuse(488, "Offer Required", ()))
        self._begin(call.handle, message.call_id(request))
        host, _, port = prm.rdata.srcAddress.rpartition(":")
        options = {tag.lower() for name in ("Supported", "Require") for tag in message.tokens(request, name)}
        call.reliable = "100rel" in options
        caller = message.address(request, "From")
        self.emit(
            IncomingCall(
                handle=call.handle,
                trunk=account.name,
                request_uri=str(request.uri),
                from_uri=caller.uri,
                from_name=caller.name,
                to_uri=message.address(request, "To").uri,
                offer=offer,
                headers=message.header_list(request),
                source=(host.strip("[]"), int(port)),
                supports=frozenset(options),
            )
        )
        return None

    def _begin(self, handle: str, call_id: str) -> None:
        self._in_dialog.open(handle, call_id)
        self._send(messages.Began(handle, call_id))

    def _notify(self, call: Call, command: messages.NotifyRefer) -> None:
        state = "terminated;reason=noresource" if command.done else "active;expires=60"
        body = f"SIP/2.0 {command.status} {command.reason}\r\n".encode()
        headers = (("Event", "refer"), ("Subscription-State", state))
        call.send("NOTIFY", "message/sipfrag", body, headers)

    def _make_account(self, trunk: TrunkAccount | None) -> Account:
        protocol, _, rest = self._settings.listen[0].partition(":")
        local = f"sip:{rest}" if protocol == "udp" else f"sip:{rest};transport={protocol}"
        return Account(self._settings, trunk, local, self._incoming, self.emit, self.later)

    # ---- messages on their way through PJSIP's stack

    def _logged(self, logged: LoggedMessage) -> None:
        if logged.direction == "in":
            self._last = logged
        else:
            self._in_dialog.sent(logged)
        text = logged.text.encode("utf-8", "surrogateescape")
        seen = (logged.direction, text, logged.protocol, logged.peer)
        self._send(messages.Logged(logged.call_id, time.monotonic(), *seen))

    def _complain(self, problem: str) -> None:
        self._send(messages.Complaint(problem))

    def _choose_account(self, source: str) -> int:
        account = self._accounts.get(self._gate.trunk_of(source), self._strangers)
        return int(account.getId())

    def _on_request(self, pointer: int) -> bool:
        if self._last is None:
            return True  # PJSIP no longer logs what it receives: nobody can be judged
        verdict = self._gate.screen(self._last, time.monotonic())
        if verdict == PASS:
            return self._in_dialog.take(self._last, pointer)
        if verdict != DROP and self._last.method != "ACK":
            self._library.stack.respond(pointer, verdict)
        return True

    def _on_response(self, pointer: int) -> bool:
        return self._last is None or self._gate.screen_response(self._last) != PASS

    def _on_new_request(self, pointer: int) -> bool:
        if self._last is None:
            return True
        verdict = self._gate.admit(self._last, time.monotonic())
        if verdict != PASS:
            self._library.stack.respond(pointer, verdict)
        return verdict != PASS

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except pj.Error as error:
            self.counters["refused_by_pjsip"] += 1
            self._complain(f"{error.title}: {error.reason}")
        except (LocalError, ParseError) as error:
            self._complain(str(error))
