"""Recordings over HTTP: start, pause, resume and stop one, and fetch the file."""

from typing import Final

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from sipagent.http.control import CallControl, Refusal
from sipagent.http.files import send_file
from sipagent.http.models import Accepted, RecordBody

MEDIA_TYPES: Final = {".wav": "audio/wav", ".flac": "audio/flac", ".opus": "audio/ogg"}


def add_routes(router: APIRouter, control: CallControl) -> None:
    """The routes of a call's recording."""

    def accepted(call_id: str, action: str, suffix: str = "") -> Accepted:
        control.record(call_id, action, suffix)
        return Accepted(id=call_id, state=control.call(call_id).state)

    @router.post("/calls/{call_id}/recording", status_code=202, response_model=Accepted, tags=["recordings"])
    async def start(call_id: str, body: RecordBody | None = None) -> Accepted:
        """Record both sides of a call from now on, into a file of its own."""
        return accepted(call_id, "start", body.format if body else "")

    @router.post("/calls/{call_id}/recording/pause", status_code=202, response_model=Accepted, tags=["recordings"])
    async def pause(call_id: str) -> Accepted:
        """Keep both sides out of the recording, as silence, while a card number is told; no error when it is so."""
        return accepted(call_id, "pause")

    @router.post("/calls/{call_id}/recording/resume", status_code=202, response_model=Accepted, tags=["recordings"])
    async def resume(call_id: str) -> Accepted:
        """Go on with the recording."""
        return accepted(call_id, "resume")

    @router.delete("/calls/{call_id}/recording", status_code=202, response_model=Accepted, tags=["recordings"])
    async def stop(call_id: str) -> Accepted:
        """End the recording; the end of the call does so too."""
        return accepted(call_id, "stop")

    @router.get(
        "/calls/{call_id}/recording",
        response_class=StreamingResponse,
        responses={200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}}},
        tags=["recordings"],
    )
    def fetch(call_id: str) -> StreamingResponse:
        """The call's last recording, as far as it is written: within the call half a second is missing at its end."""
        path = control.recorded(call_id)
        return send_file(path, MEDIA_TYPES[path.suffix], Refusal.NO_RECORDING)
