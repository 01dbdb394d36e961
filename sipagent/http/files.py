"""A file of a call, sent as far as it is written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fastapi.responses import StreamingResponse

from sipagent.http.control import Refusal, Refused

PIECE: Final = 64 * 1024


def send_file(path: Path, media_type: str, missing: Refusal) -> StreamingResponse:
    """The response with the file; raises Refused(missing) when it is not there. For a thread outside the event loop."""
    try:
        size = path.stat().st_size
    except OSError:
        raise Refused(missing, f"{path.name} is not there yet, or not any more") from None
    headers = {
        "Content-Disposition": f'attachment; filename="{path.name}"',
        "Content-Length": str(size),
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_pieces(path, size), media_type=media_type, headers=headers)


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """The first `size` octets: a file that grows is sent as it was."""
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(PIECE, size))):
            size -= len(piece)
            yield piece
