"""The Replaces header (RFC 3891): which call an INVITE takes over, and how another is told of one of ours."""

import re
from collections.abc import Mapping
from typing import Final

from sipmessage import Request

from sipagent.errors import RemoteError
from sipagent.sip import header
from sipagent.sip.call import Call
from sipagent.sip.call_state import CallState
from sipagent.sip.dialog import Dialog

DialogKey = tuple[str, str, str]  # Call-ID, our tag, their tag

_VALUE: Final = re.compile(r"^\s*(?P<call_id>[^\s;]+)\s*(?P<parameters>;.*)$")


def replaced_call(request: Request, dialogs: Mapping[DialogKey, tuple[Call, Dialog]]) -> Call | None:
    """The call that an INVITE's Replaces names (§3); RemoteError when it may not be replaced."""
    value = request.headers.get("Replaces")
    if value is None:
        return None
    match = _VALUE.match(value)
    if match is None or len(request.headers.getlist("Replaces")) > 1:
        raise RemoteError(400, "Bad Replaces")
    parameters = header.parse_parameters(match["parameters"])
    found = dialogs.get((match["call_id"], parameters.get("to-tag", ""), parameters.get("from-tag", "")))
    if found is None:
        raise RemoteError(481, "Call/Transaction Does Not Exist")
    call, _ = found
    if call.confirmed or call.state is CallState.ANSWERED:
        if "early-only" in parameters:
            raise RemoteError(486, "Busy Here")
    elif not call.outbound:
        # an early dialog may be replaced only where it was initiated
        raise RemoteError(481, "Call/Transaction Does Not Exist")
    return call


def replaces_value(dialog: Dialog) -> str:
    """What names this dialog of ours to its far end: tags as that sees them (§6.1)."""
    return f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"
