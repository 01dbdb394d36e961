"""Captures over HTTP: start and stop one, and fetch the file."""

from typing import Final

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from sipagent.http.control import CallControl, Refusal
from sipagent.http.files import send_file
from sipagent.http.models import Accepted

MEDIA_TYPE: Final = "application/vnd.tcpdump.pcap"  # registered for pcap and pcapng alike


def add_routes(router: APIRouter, control: CallControl) -> None:
    """The three routes of a call's capture."""

    @router.post("/calls/{call_id}/capture", status_code=202, response_model=Accepted, tags=["captures"])
    async def start(call_id: str) -> Accepted:
        """Capture SIP and RTP of a call from now on, SIP from its beginning."""
        control.capture(call_id, True)
        return Accepted(id=call_id, state=control.call(call_id).state)

    @router.delete("/calls/{call_id}/capture", status_code=202, response_model=Accepted, tags=["captures"])
    async def stop(call_id: str) -> Accepted:
        """End the capture; the end of the call does so too."""
        control.capture(call_id, False)
        return Accepted(id=call_id, state=control.call(call_id).state)

    @router.get(
        "/calls/{call_id}/pcap",
        response_class=StreamingResponse,
        responses={200: {"content": {MEDIA_TYPE: {}}, "description": "a pcapng file"}},
        tags=["captures"],
    )
    def fetch(call_id: str) -> StreamingResponse:
        """The call's last capture, as far as it is written: within the call half a second is missing at its end."""
        return send_file(control.captured(call_id), MEDIA_TYPE, Refusal.NO_CAPTURE)
