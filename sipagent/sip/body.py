"""Bodies: which part of a message is the session description (RFC 3261 §7.4, RFC 5621)."""

from sipmessage import Request, Response

from sipagent.errors import RemoteError
from sipagent.sip import header, message
from sipagent.sip.status import reason_phrase

SDP = "application/sdp"


def session_description(received: Request | Response) -> bytes | None:
    """The SDP of a message, alone or as a part of multipart/mixed; None when there is no body.

    RemoteError 415 when a body is there that we must understand and cannot.
    """
    if not received.body:
        return None
    media_type, parameters = _content_type(received.headers.get("Content-Type") or SDP)
    encoding = (received.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding == "identity":
        if media_type == SDP:
            return received.body
        if media_type in ("multipart/mixed", "multipart/alternative", "multipart/related"):
            found = _part(received.body, parameters.get("boundary", ""))
            if found is not None:
                return found
    if "handling=optional" in (received.headers.get("Content-Disposition") or "").replace(" ", "").lower():
        return None  # RFC 3261 §20.11
    raise RemoteError(415, reason_phrase(415))


def accepts_sdp(request: Request) -> bool:
    """Whether the sender can take an SDP in an answer; no Accept means yes (RFC 3261 §20.1)."""
    ranges = [part.partition(";")[0].strip().lower() for part in message.tokens(request, "Accept")]
    return not ranges or any(part in (SDP, "application/*", "*/*") for part in ranges)


def _content_type(value: str) -> tuple[str, dict[str, str]]:
    media_type, _, rest = value.partition(";")
    parameters = header.parse_parameters(";" + rest) if rest else {}
    return media_type.strip().lower(), parameters


def _part(body: bytes, boundary: str) -> bytes | None:
    if not boundary:
        return None
    for piece in body.split(b"--" + boundary.encode("utf-8", "surrogateescape"))[1:]:
        if piece.startswith(b"--"):
            break
        head, separator, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            continue
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            media_type = value.partition(b";")[0].strip().lower()
            if name.strip().lower() in (b"content-type", b"c") and media_type == SDP.encode():
                return content.removesuffix(b"\r\n")
    return None
