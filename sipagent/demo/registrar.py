"""A small trunk for the demo: a registrar with digest, and a stateless proxy (RFC 3261 §10.3, §16.11) over UDP.

It knows its users by name, keeps where they registered from, and forwards everything else to them. It is as much of a
trunk as one call on this machine needs; the tests use Kamailio.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from typing import cast

from sipmessage import Request, Response

from sipagent.errors import ParseError
from sipagent.sip import header, message
from sipagent.sip.challenger import Challenger, Outcome

Address = tuple[str, int]


class Registrar(asyncio.DatagramProtocol):
    """`users` maps names to passwords; calls go to whoever is registered under the user of the Request-URI."""

    def __init__(self, users: Mapping[str, str], realm: str = "demo") -> None:
        self._challenger = Challenger(realm, users.get, secrets.token_bytes(16))
        self._bindings: dict[str, tuple[str, Address]] = {}  # user → Contact URI, and where it came from
        self._transport: asyncio.DatagramTransport | None = None
        self.address: Address = ("", 0)
        self._arrivals: dict[str, asyncio.Event] = {}

    @classmethod
    async def start(cls, users: Mapping[str, str], host: str = "127.0.0.1") -> "Registrar":
        """A registrar on a free port."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(lambda: cls(users), local_addr=(host, 0))
        return protocol

    def stop(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    async def arrival(self, user: str) -> None:
        """Wait until `user` has registered."""
        await self._arrival(user).wait()

    def _arrival(self, user: str) -> asyncio.Event:
        return self._arrivals.setdefault(user, asyncio.Event())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.address = self._transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Called by asyncio for each message."""
        try:
            received, fault = message.parse_message(data)
            if fault is not None:
                return
            if isinstance(received, Response):
                self._pass_back(received)
            elif received.method == "REGISTER":
                self._register(received, source)
            else:
                self._forward(received, source)
        except ParseError:
            return  # keep-alive or noise

    def _register(self, request: Request, source: Address) -> None:
        now = asyncio.get_running_loop().time()
        user = header.parse_uri(message.address(request, "To").uri).user or ""
        check = self._challenger.check(request.headers.getlist("Authorization"), "REGISTER", now)
        if check.outcome is not Outcome.OK or check.username != user:
            response = message.make_response(request, 401, to_tag=secrets.token_hex(4))
            for challenge in self._challenger.challenge(now, stale=check.outcome is Outcome.STALE):
                response.headers.add("WWW-Authenticate", challenge)
            self._answer(response, source)
            return
        contact = request.headers.get("Contact") or ""
        expires = message.integer(request, "Expires")
        if contact == "*" or expires == 0 or "expires=0" in contact:
            self._bindings.pop(user, None)
        else:
            self._bindings[user] = (message.contact_uri(request) or "", source)
            self._arrival(user).set()
        response = message.make_response(request, 200, to_tag=secrets.token_hex(4))
        if user in self._bindings:
            response.headers.add("Contact", f"<{self._bindings[user][0]}>;expires={expires or 300}")
        self._answer(response, source)

    def _forward(self, request: Request, source: Address) -> None:
        user = request.uri.user or ""
        if user not in self._bindings:
            if request.method != "ACK":
                self._answer(message.make_response(request, 404, to_tag=secrets.token_hex(4)), source)
            return
        contact, target = self._bindings[user]
        # RFC 3261 §16.11: a stateless proxy derives its branch from the one it received.
        branch = "z9hG4bK" + hashlib.sha256(message.top_via(request).branch.encode()).hexdigest()[:20]
        _note_source(request, source)
        host, port = self.address[:2]
        request.headers.setlist("Via", [f"SIP/2.0/UDP {host}:{port};branch={branch}", *message.values(request, "Via")])
        hops = message.integer(request, "Max-Forwards")
        request.headers.set("Max-Forwards", str((70 if hops is None else hops) - 1))
        request.uri = message.target(contact)
        self._send(request, target)

    def _pass_back(self, response: Response) -> None:
        vias = message.values(response, "Via")[1:]
        if vias:
            response.headers.setlist("Via", list(vias))
            via = message.top_via(response)
            port = via.parameters.get("rport") or str(via.port or 5060)
            self._send(response, (via.parameters.get("received") or via.host, int(port)))

    def _answer(self, response: Response, source: Address) -> None:
        self._send(response, source)

    def _send(self, outgoing: Request | Response, target: Address) -> None:
        if self._transport is not None:
            self._transport.sendto(message.serialize(outgoing), target)


def _note_source(request: Request, source: Address) -> None:
    """RFC 3261 §18.2.1 and RFC 3581 §4: where the request really came from."""
    first, *others = message.values(request, "Via")
    if ";rport" in first and ";rport=" not in first:
        first = first.replace(";rport", f";rport={source[1]}")
    request.headers.setlist("Via", [f"{first};received={source[0]}", *others])
