"""The transaction user (RFC 3261 §5, §17): who answers requests and hears of responses; and what it asks of sockets."""

from typing import Protocol

from sipmessage import Request, Response

from sipagent.sip.exchange import Exchange, Incoming
from sipagent.sip.flow import Flow


class TransactionUser(Protocol):
    """What the user agent's core is to the layer."""

    def answers(self, flow: Flow) -> bool:
        """Whether this far end is told of its mistakes; strangers may get no sign of us."""

    def request(self, incoming: Incoming, now: float) -> None:
        """A new request; answer it with `ServerSide.respond`, or `discard` it."""

    def ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx."""

    def tag_of(self, invite: Incoming) -> str:
        """The To tag that an INVITE's responses carry."""

    def cancel(self, invite: Incoming, request: Request, now: float) -> None:
        """CANCEL of an INVITE that may have been answered already; the CANCEL itself has its 200."""

    def challenge(self, exchange: Exchange, response: Response, now: float) -> bool:
        """401 or 407: whether the exchange was sent again with credentials."""

    def transport_failed(self, incoming: Incoming, now: float) -> None:
        """No ACK came for a failure, or the flow broke: nothing more can be said in this transaction."""


class Network(Protocol):
    """What the layer may ask of the sockets without waiting."""

    def flow_for(self, uri: str, size: int) -> Flow | None:
        """A flow that serves at once: UDP to a numeric address, or an open connection. None = use Locate."""

    def is_open(self, flow: Flow) -> bool:
        """Whether bytes can still be put on a flow."""
