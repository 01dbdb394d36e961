"""INFO, MESSAGE, OPTIONS and REFER within a call: taken before PJSIP sees them, which would act on them by itself."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sipmessage import Request

from sipagent.sip import message
from sipagent.sip.engine import EngineEvent, InDialogMessage, TransferRequested
from sipagent.sip.pjsua2.logged import LoggedMessage
from sipagent.sip.pjsua2.module import Stack
from sipagent.sip.pjsua2.options import parse

OURS: Final = ("INFO", "MESSAGE", "OPTIONS", "REFER")
KEPT_CALLS: Final = 4096


@dataclass(slots=True)
class _Dialog:
    handle: str
    tags: frozenset[str] = frozenset()
    seen: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=64))  # CSeq and our status
    refer: int = 0  # the copy of a REFER that waits for its answer
    refer_cseq: str = ""


class InDialogRequests:
    """Knows the dialogs by what was sent in them; answers without transactions, so repeats are answered alike."""

    def __init__(self, stack: Stack, emit: Callable[[EngineEvent], None]) -> None:
        self._stack, self._emit = stack, emit
        self._dialogs: OrderedDict[str, _Dialog] = OrderedDict()  # by Call-ID

    def open(self, handle: str, call_id: str) -> None:
        """A call has got its Call-ID."""
        known = self._dialogs.get(call_id)
        if known is not None:
            known.handle = handle
            return
        self._dialogs[call_id] = _Dialog(handle)
        if len(self._dialogs) > KEPT_CALLS:
            self._dialogs.popitem(last=False)

    def close(self, handle: str) -> None:
        """A call is over."""
        for call_id in [key for key, dialog in self._dialogs.items() if dialog.handle == handle]:
            dialog = self._dialogs.pop(call_id)
            if dialog.refer:
                self._stack.release(dialog.refer)

    def sent(self, logged: LoggedMessage) -> None:
        """Learn a dialog's tags from what PJSIP sends in it."""
        dialog = self._dialogs.get(logged.call_id)
        if dialog is not None and all(logged.tags):
            dialog.tags = frozenset(logged.tags)

    def take(self, logged: LoggedMessage, pointer: int) -> bool:
        """Whether a request is ours, and has been dealt with."""
        dialog = self._dialogs.get(logged.call_id)
        if logged.method not in OURS or dialog is None or frozenset(logged.tags) != dialog.tags or not logged.complete:
            return False
        cseq = logged.value("cseq")
        repeated = next((status for known, status in dialog.seen if known == cseq), 0)
        if repeated:
            self._stack.respond(pointer, repeated)
            return True
        request = parse(logged.text)
        if not isinstance(request, Request):
            return False
        if logged.method == "REFER":
            self._begin_refer(dialog, request, cseq, pointer)
        elif logged.method == "OPTIONS":
            self._answer(dialog, cseq, pointer, 200)  # PJSIP says 500
        else:
            self._answer(dialog, cseq, pointer, 200)
            kind = request.headers.get("Content-Type") or ""
            self._emit(InDialogMessage(dialog.handle, logged.method, kind, request.body or b""))
        return True

    def answer_refer(self, handle: str, status: int) -> None:
        """The engine's word on the REFER that waits."""
        for dialog in self._dialogs.values():
            if dialog.handle == handle and dialog.refer:
                pointer, dialog.refer = dialog.refer, 0
                self._answer(dialog, dialog.refer_cseq, pointer, status)
                self._stack.release(pointer)

    def _begin_refer(self, dialog: _Dialog, request: Request, cseq: str, pointer: int) -> None:
        if dialog.refer:
            if cseq != dialog.refer_cseq:
                self._answer(dialog, cseq, pointer, 491)
            return  # a repeat waits with the first
        targets = message.values(request, "Refer-To")
        if len(targets) != 1:
            self._answer(dialog, cseq, pointer, 400)  # RFC 3515 §2.4.1
            return
        dialog.refer, dialog.refer_cseq = self._stack.keep(pointer), cseq
        referred_by = request.headers.get("Referred-By") or ""
        self._emit(TransferRequested(dialog.handle, message.address(request, "Refer-To").uri, referred_by))

    def _answer(self, dialog: _Dialog, cseq: str, pointer: int, status: int) -> None:
        dialog.seen.append((cseq, status))
        self._stack.respond(pointer, status)
