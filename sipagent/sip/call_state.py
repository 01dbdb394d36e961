"""Where a call stands, and what moves it (RFC 3261 §13, §14, §15)."""

from enum import Enum


class CallState(Enum):
    """Where a call stands. LEAVING: we want to end a call whose ACK has not come (RFC 3261 §15: BYE waits for it)."""

    INCOMING = "incoming"
    ANSWERED = "answered"
    LEAVING = "leaving"
    CALLING = "calling"
    RINGING = "ringing"
    CANCELLING = "cancelling"
    CONFIRMED = "confirmed"
    ENDED = "ended"


class CallInput(Enum):
    """What moves a call."""

    ANSWER = "we answer"
    RING = "1xx"
    ACCEPT = "2xx"
    ACK = "ACK"
    REFUSE = "final refusal, CANCEL, or the caller's BYE before the answer"
    HANGUP = "we hang up"
    BYE = "BYE"
    LOST = "no ACK, no answer, or the dialog is unknown to the far end"


# RFC 3261 §13, §14, §15
TRANSITIONS: dict[tuple[CallState, CallInput], CallState] = {
    (CallState.INCOMING, CallInput.ANSWER): CallState.ANSWERED,
    (CallState.INCOMING, CallInput.REFUSE): CallState.ENDED,
    (CallState.INCOMING, CallInput.HANGUP): CallState.ENDED,
    (CallState.INCOMING, CallInput.LOST): CallState.ENDED,
    (CallState.ANSWERED, CallInput.ACK): CallState.CONFIRMED,
    (CallState.ANSWERED, CallInput.HANGUP): CallState.LEAVING,
    (CallState.ANSWERED, CallInput.BYE): CallState.ENDED,
    (CallState.ANSWERED, CallInput.LOST): CallState.ENDED,
    (CallState.LEAVING, CallInput.ACK): CallState.ENDED,
    (CallState.LEAVING, CallInput.BYE): CallState.ENDED,
    (CallState.LEAVING, CallInput.LOST): CallState.ENDED,
    (CallState.CALLING, CallInput.RING): CallState.RINGING,
    (CallState.CALLING, CallInput.ACCEPT): CallState.CONFIRMED,
    (CallState.CALLING, CallInput.REFUSE): CallState.ENDED,
    (CallState.CALLING, CallInput.LOST): CallState.ENDED,
    (CallState.CALLING, CallInput.HANGUP): CallState.CANCELLING,
    (CallState.RINGING, CallInput.RING): CallState.RINGING,
    (CallState.RINGING, CallInput.ACCEPT): CallState.CONFIRMED,
    (CallState.RINGING, CallInput.REFUSE): CallState.ENDED,
    (CallState.RINGING, CallInput.LOST): CallState.ENDED,
    (CallState.RINGING, CallInput.HANGUP): CallState.CANCELLING,
    (CallState.CANCELLING, CallInput.RING): CallState.CANCELLING,
    (CallState.CANCELLING, CallInput.ACCEPT): CallState.ENDED,
    (CallState.CANCELLING, CallInput.REFUSE): CallState.ENDED,
    (CallState.CANCELLING, CallInput.LOST): CallState.ENDED,
    (CallState.CONFIRMED, CallInput.HANGUP): CallState.ENDED,
    (CallState.CONFIRMED, CallInput.BYE): CallState.ENDED,
    (CallState.CONFIRMED, CallInput.LOST): CallState.ENDED,
}
