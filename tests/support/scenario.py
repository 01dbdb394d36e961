"""sipp scenarios in a few words: steps in, XML out.

    caller(invite(), recv(180, optional=True), recv(200), ack(), bye(), recv(200))
    callee(recv("INVITE"), reply(180), reply(200, body=SDP), recv("ACK"), recv("BYE"), reply(200))
    registrar(recv("REGISTER"), reply(200))

As a caller sipp writes From and To from its own side; as a callee it keeps what the INVITE said in variables, so that
it can send requests within the dialog; `recv(…, keep=True)` keeps those of another request, for `reply(…, recall=…)`.
A step that is text is XML and may use sipp's keywords ([branch], [call_id], …).
"""

from dataclasses import dataclass

SDP = """v=0
o=- 1 {version} IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
"""
OFFER = SDP.format(version=1)
OFFER2 = SDP.format(version=2) + "a=sendonly\n"
_CALLER_HEAD = """{method} {uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport
From: "S. Ipp" <sip:sipp@[local_ip]:[local_port]>;tag=[pid]f[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>{to_tag}
Call-ID: {call_id}
CSeq: {cseq} {cseq_method}
Max-Forwards: 70
"""
_CALLEE_HEAD = """{method} [$target] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport
From:[$to];tag={tag}
To:[$from]
Call-ID: [call_id]
CSeq: {cseq} {cseq_method}
Max-Forwards: 70
"""
_CONTACT = "Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>\n"
_BODY = "Content-Type: {content_type}\nContent-Length: [len]\n\n{body}"
TAG = "[pid]t[call_number]"


@dataclass(frozen=True)
class Request:
    """A request to send."""

    method: str
    cseq: int = 1
    headers: str = ""
    body: str = ""
    content_type: str = "application/sdp"
    branch: str = "[branch]"
    to_tag: str = "[peer_tag_param]"
    uri: str = "sip:[service]@[remote_ip]:[remote_port]"
    cseq_method: str = ""
    contact: bool = True
    tag: str = TAG
    repeat: bool = True
    call_id: str = "[call_id]"  # another one that sipp takes for the same: "OTHER///[call_id]"


@dataclass(frozen=True)
class Reply:
    """A response to the request that came last."""

    status: int
    headers: str = ""
    body: str = ""
    tag: str = TAG
    reason: str = "Reason"
    contact: bool = True
    recall: str = ""  # of which method, when another one came since: uses the INVITE's remembered headers


@dataclass(frozen=True)
class Recv:
    """A status or a method to wait for; `has` and `lacks` are regular expressions over the whole message."""

    what: int | str
    optional: bool = False
    has: str = ""
    lacks: str = ""
    auth: bool = False
    timeout_ms: int = 8000
    keep: bool = False  # its From, To, Via, CSeq and Contact


@dataclass(frozen=True)
class Pause:
    ms: int


Step = Request | Reply | Recv | Pause | str


def invite(**kwargs: object) -> Request:
    """An initial INVITE with an offer."""
    return Request("INVITE", **{"to_tag": "", "body": OFFER, **kwargs})  # type: ignore[arg-type]


def reinvite(cseq: int, body: str = OFFER2, **kwargs: object) -> Request:
    return Request("INVITE", cseq, body=body, **kwargs)  # type: ignore[arg-type]


def ack(cseq: int = 1, **kwargs: object) -> Request:
    return Request("ACK", cseq, repeat=False, contact=False, **kwargs)  # type: ignore[arg-type]


def cancel() -> Request:
    """CANCEL shares the branch of its INVITE: sipp's [branch-N] counts messages back."""
    return Request("CANCEL", branch="[branch-{back}]", to_tag="", contact=False)


def bye(cseq: int = 2, **kwargs: object) -> Request:
    return Request("BYE", cseq, contact=False, **kwargs)  # type: ignore[arg-type]


def recv(what: int | str, **kwargs: object) -> Recv:
    return Recv(what, **kwargs)  # type: ignore[arg-type]


def reply(status: int, **kwargs: object) -> Reply:
    return Reply(status, **kwargs)  # type: ignore[arg-type]


def caller(*steps: Step) -> str:
    """A scenario in which sipp calls."""
    return _scenario(steps, callee_side=False)


def callee(*steps: Step) -> str:
    """A scenario in which sipp is called; it begins with the INVITE."""
    return _scenario(steps, callee_side=True)


def registrar(*steps: Step) -> str:
    """A scenario in which sipp waits for a request that begins no call."""
    return _scenario(steps, callee_side=False)


def _scenario(steps: tuple[Step, ...], callee_side: bool) -> str:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<scenario name="generated">']
    last_invite = 0
    remembered = False
    variables = 0
    for index, step in enumerate(steps):
        if isinstance(step, str):
            lines.append(step)
        elif isinstance(step, Pause):
            lines.append(f'<pause milliseconds="{step.ms}"/>')
        elif isinstance(step, Recv):
            keep = step.keep or (callee_side and not remembered and step.what == "INVITE")
            remembered = remembered or keep
            variables += 1
            lines.append(_recv(step, keep, variables))
        elif isinstance(step, Reply):
            lines.append(_send(_reply(step), retrans=200 <= step.status < 300 and bool(step.body), callee=True))
        else:
            if step.method == "INVITE":
                last_invite = index
            text = _request(step, callee_side, index - last_invite)
            lines.append(_send(text, retrans=step.repeat and step.method != "ACK", callee=False))
    lines.append("</scenario>")
    if remembered:
        lines.insert(-1, '<Reference variables="from,to,target,via,seq"/>')
    return "\n".join(lines)


def _request(step: Request, callee_side: bool, back: int) -> str:
    head = _CALLEE_HEAD if callee_side else _CALLER_HEAD
    text = head.format(
        method=step.method,
        uri=step.uri,
        branch=step.branch.format(back=back),
        to_tag=step.to_tag,
        cseq=step.cseq,
        cseq_method=step.cseq_method or step.method,
        tag=step.tag,
        call_id=step.call_id,
    )
    text += (_CONTACT if step.contact else "") + step.headers
    return text + _tail(step.body, step.content_type)


def _reply(step: Reply) -> str:
    tag = f";tag={step.tag}" if step.tag and step.status > 100 else ""
    if step.recall:
        text = (
            f"SIP/2.0 {step.status} {step.reason}\nVia:[$via]\nFrom:[$from]\nTo:[$to]{tag}\n"
            "Call-ID: [call_id]\nCSeq:[$seq]\n"
        )
    else:
        text = (
            f"SIP/2.0 {step.status} {step.reason}\n[last_Via:]\n[last_Record-Route:]\n[last_From:]\n"
            f"[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n"
        )
    return text + (_CONTACT if step.contact else "") + step.headers + _tail(step.body, "application/sdp")


def _tail(body: str, content_type: str) -> str:
    return _BODY.format(content_type=content_type, body=body) if body else "Content-Length: 0\n\n"


def _send(text: str, retrans: bool, callee: bool) -> str:
    attribute = ' retrans="500"' if retrans else ""
    return f"<send{attribute}><![CDATA[\n{text}]]></send>"


def _recv(step: Recv, keep: bool, number: int) -> str:
    kind = "response" if isinstance(step.what, int) else "request"
    attributes = f'{kind}="{step.what}" timeout="{step.timeout_ms}"'
    if step.optional:
        attributes = f'{kind}="{step.what}" optional="true"'
    if step.auth:
        attributes += ' auth="true"'
    actions = ""
    if keep:
        for header, name in (("From:", "from"), ("To:", "to"), ("Via:", "via"), ("CSeq:", "seq")):
            actions += f'<ereg regexp=".*" search_in="hdr" header="{header}" assign_to="{name}"/>'
        actions += '<ereg regexp="sip:[^&gt;]*" search_in="hdr" header="Contact:" assign_to="target"/>'
    for expression, inverse in ((step.has, ""), (step.lacks, ' check_it_inverse="true"')):
        if expression:
            check = inverse or ' check_it="true"'
            actions += f'<ereg regexp="{_quoted(expression)}" search_in="msg"{check} assign_to="c{number}"/>'
    references = f'<Reference variables="c{number}"/>' if step.has or step.lacks else ""
    body = f"<action>{actions}</action>" if actions else ""
    return f"<recv {attributes}>{body}</recv>{references}"


def _quoted(expression: str) -> str:
    """An expression within an attribute: a quotation mark of its own would end it, and the rest be forgotten."""
    return expression.replace('"', "&quot;")
