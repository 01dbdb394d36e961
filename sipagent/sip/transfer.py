"""Transfers: REFER both ways and the NOTIFYs of its subscription (RFC 3515, RFC 3891, RFC 4488)."""

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from sipmessage import Response

from sipagent.errors import ParseError
from sipagent.sip import header, message
from sipagent.sip.engine import TransferProgress, TransferRequested
from sipagent.sip.exchange import Incoming
from sipagent.sip.status import reason_phrase

if TYPE_CHECKING:
    from sipagent.sip.call import Call

_STATUS_LINE = re.compile(rb"SIP/2\.0 (\d{3}) ?([^\r\n]*)")
SUBSCRIPTION_S = 60  # what we grant for reports on a transfer


class Transfers:
    """One transfer in each direction at a time."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._asked: Incoming | None = None  # their REFER, waiting for our user
        self._event_id = ""  # of the subscription that their REFER made; "" = none
        self._sent = False  # ours is under way
        self._silent = False  # they want no NOTIFY (RFC 4488)

    # ---- theirs

    def on_refer(self, incoming: Incoming, now: float) -> None:
        """REFER: ask our user."""
        found = message.values(incoming.request, "Refer-To")
        try:
            (value,) = found
            refer_to = header.parse_address(value).uri
        except (ValueError, ParseError):
            self._call.respond(incoming, 400, now, "one Refer-To expected")
            return
        if self._asked is not None:
            self._call.respond(incoming, 491, now)
            return
        self._asked = incoming
        referred_by = incoming.request.headers.get("Referred-By") or ""
        self._call.host.emit(TransferRequested(self._call.handle, refer_to, referred_by))

    def accept(self, now: float) -> None:
        """202, and the first NOTIFY at once (RFC 3515 §2.4.4)."""
        incoming, self._asked = self._asked, None
        if incoming is None:
            return
        self._silent = (incoming.request.headers.get("Refer-Sub") or "").strip().lower() == "false"
        self._event_id = str(message.cseq(incoming.request)[0])
        headers = (("Refer-Sub", "false"),) if self._silent else ()
        self._call.respond(incoming, 202, now, headers=headers, contact=True)
        self.notify(100, "Trying", False, now)

    def reject(self, status: int, now: float) -> None:
        """Refuse it."""
        incoming, self._asked = self._asked, None
        if incoming is not None:
            self._call.respond(incoming, status, now)

    def abandon(self, now: float) -> None:
        """The call ends before our user has decided."""
        self.reject(487, now)

    def notify(self, status: int, reason: str, done: bool, now: float) -> None:
        """Tell the far end how its transfer goes."""
        call = self._call
        if not self._event_id or self._silent or call.dialog is None:
            return
        request = call.dialog.request("NOTIFY")
        request.headers.add("Event", f"refer;id={self._event_id}")
        state = "terminated;reason=noresource" if done else f"active;expires={SUBSCRIPTION_S}"
        request.headers.add("Subscription-State", state)
        request.headers.add("Content-Type", "message/sipfrag;version=2.0")
        request.body = f"SIP/2.0 {status} {message.clean(reason) or reason_phrase(status)}\r\n".encode()
        call.send(request, call.dialog, now, contact=True)
        if done:
            self._event_id = ""

    # ---- ours

    def refer(self, refer_to: str, replaces: str, now: float) -> None:
        """Send REFER; `replaces` is the Replaces value of another call, "" for a blind transfer."""
        call = self._call
        if call.dialog is None or not call.confirmed:
            return
        target = message.clean(refer_to)
        if replaces:
            target = f"{target}{'&' if '?' in target else '?'}Replaces={quote(replaces, safe='')}"
        request = call.dialog.request("REFER")
        request.headers.add("Refer-To", f"<{target}>")
        request.headers.add("Referred-By", call.dialog.local.partition(">")[0].rpartition("<")[2].join("<>"))
        self._sent = True
        call.send(request, call.dialog, now, self._on_response, self._on_failure, contact=True)

    def on_notify(self, incoming: Incoming, now: float) -> None:
        """A report on our transfer."""
        call, request = self._call, incoming.request
        event = (request.headers.get("Event") or request.headers.get("o") or "").partition(";")[0].strip().lower()
        if event != "refer":
            call.respond(incoming, 489, now)
            return
        call.respond(incoming, 200, now)
        status_line = _STATUS_LINE.match(request.body)
        subscription = (request.headers.get("Subscription-State") or "").strip().lower()
        done = subscription.startswith("terminated")
        if status_line is not None and self._sent:
            status, reason = int(status_line[1]), status_line[2].decode("utf-8", "replace")
            done = done or status >= 200
            self._report(status, reason, done)
        elif done and self._sent:
            self._report(487, "the report ended without a result", True)

    def _on_response(self, response: Response, now: float) -> None:
        if response.code >= 300 or (
            response.code >= 200 and (response.headers.get("Refer-Sub") or "").strip().lower() == "false"
        ):
            self._report(response.code, response.phrase, True)

    def _on_failure(self, status: int, now: float) -> None:
        self._report(status, reason_phrase(status), True)

    def _report(self, status: int, reason: str, done: bool) -> None:
        if not self._sent:
            return
        self._sent = not done
        self._call.host.emit(TransferProgress(self._call.handle, status, reason, done))
