"""Around every request: a limit on its body, a count of its answer."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sipagent.http import problems
from sipagent.http.metrics import Exposition

MAX_BODY_BYTES: Final = 64 * 1024


class Gate:
    """ASGI middleware; plain ASGI, so that event streams pass through it untouched."""

    def __init__(self, app: ASGIApp, exposition: Exposition) -> None:
        self._app, self._exposition = app, exposition

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless its body is too long or does not say how long it is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "unknown")
                self._exposition.count(scope["method"], path, message["status"])
            await send(message)

        refusal = _objection(dict(scope["headers"]))
        if refusal:
            status, title, detail = refusal
            await problems.problem(status, "", title, detail)(scope, receive, counting)
        else:
            await self._app(scope, receive, counting)


def _objection(headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
    if b"transfer-encoding" in headers:
        return 411, "Length Required", "state the length of the body in Content-Length"
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > MAX_BODY_BYTES:
        return 413, "Content Too Large", f"at most {MAX_BODY_BYTES} bytes"
    return None
