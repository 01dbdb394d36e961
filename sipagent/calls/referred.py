"""REFER from the far end: it asks us to talk to somebody else in its place (RFC 3515, RFC 5589).

When `[sip] refer = "allow"` and the destination is allowed, the call is *moved*: the target is called with the same
row and the same conversation, the far end hears of it by NOTIFY, and with the target's answer the old dialog is ended.
"""

from dataclasses import dataclass
from urllib.parse import unquote

from sipagent.calls.call import Call, CallState
from sipagent.calls.lifecycle import Lifecycle
from sipagent.calls.negotiation import MediaSession
from sipagent.calls.signing import Signing
from sipagent.calls.transfer import Transfers
from sipagent.errors import LocalError, ParseError, RemoteError
from sipagent.sip import engine as sip


@dataclass(slots=True)
class Move:
    """A call on its way from one dialog to another."""

    call: Call
    handle: str  # of the dialog to be left
    session: MediaSession  # of the dialog to come
    to: str


class Referred:
    """All moves under way, by the handle of the new dialog."""

    def __init__(self, life: Lifecycle, transfers: Transfers, signing: Signing) -> None:
        self._life, self._transfers, self._signing = life, transfers, signing
        self._moves: dict[str, Move] = {}

    @property
    def handles(self) -> frozenset[str]:
        """Of the dialogs to come, which are no call's yet."""
        return frozenset(self._moves)

    def requested(self, event: sip.TransferRequested) -> None:
        """Refuse it, or call the target."""
        found = self._life.find(event.handle)
        target, headers = split_refer_to(event.refer_to)
        if self._life.config.sip.refer != "allow":
            self._life.engine.reject_refer(event.handle, 603)
        elif found is None or found[0].state is not CallState.CONNECTED or self._transfers.under_way(found[0]):
            self._life.engine.reject_refer(event.handle, 480)
        elif objection := self._transfers.objection(target):
            found[0].note("refer", to=target, status=403, reason=objection)
            self._life.engine.reject_refer(event.handle, 403)
        else:
            if event.referred_by:
                headers = (*headers, ("Referred-By", event.referred_by))
            self._move(found[0], target, headers)

    def _move(self, call: Call, to: str, headers: sip.HeaderList) -> None:
        session = self._life.live[call.id].session.successor()
        self._life.engine.accept_refer(call.handle)
        call.note("refer", to=to)
        trunk = call.trunk.name if call.trunk else ""
        agent = call.party.to_number if call.party.direction == "inbound" else call.party.from_number
        headers = (*self._signing.headers(call.trunk, agent, to), *headers)
        try:
            handle = self._life.engine.place(
                sip.PlaceCall(to, trunk, session.offer(), from_user=agent, headers=headers)
            )
        except LocalError as problem:
            self._life.engine.notify_refer(call.handle, 400, str(problem), True)
            return
        self._moves[handle] = Move(call, call.handle, session, to)

    def progress(self, event: sip.Progress) -> bool:
        """A provisional response; False when it is about no move of ours."""
        move = self._moves.get(event.handle)
        if move is not None:
            self._life.engine.notify_refer(move.handle, event.status, event.reason, False)
        return move is not None

    def answered(self, event: sip.Answered) -> bool:
        """The target took the call: from now on it is the far end."""
        move = self._moves.pop(event.handle, None)
        if move is None:
            return False
        call, live = move.call, self._life.live.get(move.call.id)
        if live is None or not call.alive:
            self._life.engine.hangup(event.handle)
            return True
        try:
            move.session.accept(event.body or b"")
        except (ParseError, RemoteError) as problem:
            self._life.engine.hangup(event.handle)
            self._failed(move, 488, str(problem))
            return True
        self._life.engine.notify_refer(move.handle, 200, "OK", True)
        self._life.calls.rebind(call, event.handle)
        self._life.captures.tell(call)
        live.session = move.session
        live.hold_wanted = False
        self._life.apply(call)
        call.note("refer", to=move.to, status=200, reason="OK")
        self._life.engine.hangup(move.handle)
        return True

    def ended(self, event: sip.Ended) -> bool:
        """The target refused, or the call that is to be moved is over; False when it is about no move of ours."""
        move = self._moves.pop(event.handle, None)
        if move is not None:
            self._failed(move, event.status or 487, event.reason)
            return True
        for handle, other in list(self._moves.items()):
            if other.handle == event.handle:
                del self._moves[handle]
                self._life.engine.hangup(handle)
        return False

    def _failed(self, move: Move, status: int, reason: str) -> None:
        self._life.engine.notify_refer(move.handle, status, reason, True)
        move.call.note("refer", to=move.to, status=status, reason=reason)


def split_refer_to(refer_to: str) -> tuple[str, sip.HeaderList]:
    """The URI to call, and the Replaces header that it asks for (RFC 3891 §5); other headers are not ours to send."""
    uri, _, query = refer_to.partition("?")
    fields = (field.partition("=") for field in query.split("&"))
    return uri, tuple(("Replaces", unquote(value)) for name, _, value in fields if name.lower() == "replaces")
