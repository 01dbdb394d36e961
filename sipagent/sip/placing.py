"""The INVITE of a call that we place: who is called, who calls, and where it is sent (RFC 3261 §8.1.1)."""

import re

from sipmessage import Request

from sipagent.errors import LocalError, ParseError
from sipagent.sip import header, message
from sipagent.sip.bindings import first_hop, route_value, server_uri
from sipagent.sip.body import SDP
from sipagent.sip.engine import PlaceCall, TrunkAccount

_PHONE = re.compile(r"[0-9+*#().\- ]+")
_SEPARATORS = re.compile(r"[().\- ]")


def invite(
    wanted: PlaceCall,
    account: TrunkAccount | None,
    service_route: tuple[str, ...],
    tag: str,
    call_id: str,
    sequence: int,
) -> tuple[Request, str]:
    """The INVITE, without Via, Contact and what we are capable of, and the URI that it is sent to.

    LocalError for an address that is none, and for text that could break out of its header.
    """
    to = _callee(wanted.to, account)
    # RFC 3261 §8.1.3.4: a redirected call keeps its To
    addressed_to = _callee(wanted.addressed_to, account) if wanted.addressed_to else to
    request = Request("INVITE", message.target(to))
    routes = service_route
    if account is not None and account.outbound_proxy:
        routes = (route_value(first_hop(account)), *routes)
    for route in routes:
        request.headers.add("Route", route)
    request.headers.add("Max-Forwards", "70")
    request.headers.add("From", f"{_caller(wanted, account, header.parse_uri(to).host)};tag={tag}")
    request.headers.add("To", f"<{bare(addressed_to)}>")
    request.headers.add("Call-ID", call_id)
    request.headers.add("CSeq", f"{sequence} INVITE")
    message.add_headers(request, (*(account.headers if account else ()), *wanted.headers))
    if wanted.offer:
        request.headers.add("Content-Type", SDP)
        request.body = wanted.offer
    return request, header.parse_address(routes[0]).uri if routes else to


def number_at(server: str, number: str) -> str:
    """A phone number as a user of a server; visual separators go (RFC 3966 §5.1.1)."""
    user = _SEPARATORS.sub("", number) if _PHONE.fullmatch(number) else number
    scheme, _, rest = server.partition(":")
    return f"{scheme}:{user.replace('#', '%23')}@{rest.rpartition('@')[2]}"


def bare(uri: str) -> str:
    """A URI without parameters and headers, as it stands in To."""
    return uri.partition(";")[0].partition("?")[0]


def _callee(wanted: str, account: TrunkAccount | None) -> str:
    to = message.clean(wanted.strip())
    scheme = to.partition(":")[0].lower()
    if account is not None and scheme == "tel":
        to = number_at(server_uri(account), to[4:].partition(";")[0])
    elif scheme not in ("sip", "sips"):
        if account is None or not to:
            raise LocalError(f"{wanted!r} is no SIP URI, and no trunk is named")
        to = number_at(server_uri(account), to)
    try:
        header.parse_uri(to)
    except ParseError as error:
        raise LocalError(f"{wanted!r} is no SIP URI") from error
    return to


def _caller(wanted: PlaceCall, account: TrunkAccount | None, host: str) -> str:
    user, name = wanted.from_user, wanted.from_name
    if account is not None:
        user = user or account.caller_id or account.username
        name = name or account.display_name
        host = account.domain or header.parse_uri(server_uri(account)).host
    if user.lower().startswith(("sip:", "sips:")):
        uri = message.clean(user)
    else:
        uri = f"sip:{message.clean(user)}@{host}" if user else "sip:anonymous@anonymous.invalid"  # RFC 3261 §8.1.1.3
    try:
        header.parse_uri(uri)
    except ParseError as error:
        raise LocalError(f"{user!r} cannot be a caller's number") from error
    return f"{header.quote(message.clean(name))} <{uri}>" if name else f"<{uri}>"
