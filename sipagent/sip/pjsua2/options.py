"""Parameters of pjsua2's calls, made from ours."""

from collections.abc import Iterable
from typing import Any

import pjsua2 as pj
from sipmessage import Request, Response

from sipagent.errors import ParseError
from sipagent.sip import message
from sipagent.sip.engine import HeaderList


def parameters(
    status: int = 0, reason: str = "", headers: HeaderList = (), body: bytes = b"", caller: str = ""
) -> pj.CallOpParam:
    """CallOpParam with what is given; `body` is a session description."""
    made = pj.CallOpParam(True)
    made.opt.audioCount, made.opt.videoCount = 1, 0
    if hasattr(made.opt, "textCount"):
        made.opt.textCount = 0  # 2.17 offers m=text otherwise
    made.statusCode, made.reason = status, reason
    if body:
        made.sdp.wholeSdp = text_of(body)
    add_headers(made.txOption, headers)
    if caller:
        made.txOption.localUri = caller
    return made


def request(
    method: str, content_type: str = "", body: bytes = b"", headers: HeaderList = ()
) -> pj.CallSendRequestParam:
    """A request within a call."""
    made = pj.CallSendRequestParam()
    made.method = method
    if body:
        made.txOption.contentType, made.txOption.msgBody = content_type, text_of(body)
    add_headers(made.txOption, headers)
    return made


def add_headers(target: Any, headers: Iterable[tuple[str, str]]) -> None:
    """Header fields of a SipTxOption or of an account."""
    for name, value in headers:
        field = pj.SipHeader()
        field.hName, field.hValue = message.clean(name), message.clean(value)
        target.headers.append(field)


def text_of(body: bytes) -> str:
    """A body as SWIG wants it."""
    return body.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """What SWIG gives, as it was on the wire."""
    return text.encode("utf-8", "surrogateescape")


def parse(text: str) -> Request | Response | None:
    """A whole message, None when it is damaged."""
    try:
        return message.parse_message(bytes_of(text))[0]
    except ParseError:
        return None
