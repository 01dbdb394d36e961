"""Dialogs (RFC 3261 §12): who the two ends are, which way messages take between them, and their order."""

from dataclasses import dataclass

from sipmessage import Request, Response

from sipagent.errors import ParseError
from sipagent.sip import header, message
from sipagent.sip.flow import Flow


@dataclass(slots=True)
class Dialog:
    """One leg. `local` and `remote` are From and To values with their tags; `target` is a URI's text."""

    call_id: str
    local: str
    local_tag: str
    remote: str
    remote_tag: str
    target: str
    routes: tuple[str, ...]
    local_cseq: int
    remote_cseq: int | None
    flow: Flow

    @property
    def key(self) -> tuple[str, str, str]:
        """Call-ID, our tag, their tag."""
        return self.call_id, self.local_tag, self.remote_tag

    @property
    def next_hop(self) -> str:
        """URI that requests are sent to: the first route, or the remote target."""
        return header.parse_address(self.routes[0]).uri if self.routes else self.target

    def next_cseq(self) -> int:
        """Number of our next request."""
        self.local_cseq += 1
        return self.local_cseq

    def request(self, method: str, sequence: int | None = None) -> Request:
        """A request within the dialog (RFC 3261 §12.2.1.1), without Via and Contact; `sequence` is given for an ACK."""
        uri, routes = self.target, list(self.routes)
        if routes and header.uri_parameter(self.next_hop, "lr") is None:
            # a strict router (RFC 2543) wants itself in the Request-URI and the target at the end of the route
            uri = self.next_hop
            routes = [*routes[1:], f"<{self.target}>"]
        request = Request(method, message.target(uri))
        request.headers.add("Max-Forwards", "70")
        if routes:
            request.headers.setlist("Route", routes)
        request.headers.add("From", self.local)
        request.headers.add("To", self.remote)
        request.headers.add("Call-ID", self.call_id)
        request.headers.add("CSeq", f"{self.next_cseq() if sequence is None else sequence} {method}")
        return request

    def in_order(self, request: Request) -> bool:
        """Note the CSeq of a request; False when it is older than what we have seen (answer 500)."""
        sequence, _ = message.cseq(request)
        if self.remote_cseq is not None and sequence < self.remote_cseq:
            return False
        self.remote_cseq = sequence
        return True

    def refresh_target(self, received: Request | Response) -> None:
        """RFC 3261 §12.2: re-INVITE, UPDATE and their 2xx move the remote target."""
        self.target = _reachable(received) or self.target


def dialog_from_request(request: Request, local_tag: str, flow: Flow) -> Dialog:
    """The UAS's side (RFC 3261 §12.1.1). RFC 2543 let callers leave out the Contact: then From says where they are."""
    return Dialog(
        call_id=message.call_id(request),
        local=f"{request.headers['To']};tag={local_tag}",
        local_tag=local_tag,
        remote=request.headers["From"],
        remote_tag=message.address(request, "From").tag,
        target=_reachable(request) or _sip_uri(message.address(request, "From").uri),
        routes=_routes(request),
        local_cseq=0,
        remote_cseq=message.cseq(request)[0],
        flow=flow,
    )


def dialog_from_response(request: Request, response: Response, flow: Flow) -> Dialog:
    """The UAC's side (RFC 3261 §12.1.2): the Record-Route in reverse. Without Contact the request's URI stays."""
    return Dialog(
        call_id=message.call_id(request),
        local=request.headers["From"],
        local_tag=message.address(request, "From").tag,
        remote=response.headers["To"],
        remote_tag=message.address(response, "To").tag,
        target=_reachable(response) or str(request.uri),
        routes=tuple(reversed(_routes(response))),
        local_cseq=message.cseq(request)[0],
        remote_cseq=None,
        flow=flow,
    )


def _reachable(received: Request | Response) -> str | None:
    """The Contact, None without one. ParseError when it is nothing that a request can be sent to."""
    uri = message.contact_uri(received)
    return None if uri is None else _sip_uri(uri)


def _routes(received: Request | Response) -> tuple[str, ...]:
    """The Record-Route values, each checked, since requests will be sent to them."""
    found = message.values(received, "Record-Route")
    for value in found:
        _sip_uri(header.parse_address(value).uri)
    return found


def _sip_uri(uri: str) -> str:
    if header.parse_uri(uri).scheme not in ("sip", "sips"):
        raise ParseError("a SIP URI")
    return uri
