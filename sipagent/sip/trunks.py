"""Who belongs to which trunk, and who may ask for its password: no stranger, whatever realm it quotes."""

from collections.abc import Callable, Iterable

from sipmessage import Response

from sipagent.sip import header
from sipagent.sip.bindings import Bindings, server_uri
from sipagent.sip.call import Call
from sipagent.sip.digest import Account, Authentication, Verdict
from sipagent.sip.engine import TrunkAccount
from sipagent.sip.exchange import Exchange
from sipagent.sip.flow import Flow
from sipagent.sip.layer import TransactionLayer

MAX_CHALLENGES = 2  # the first, and one more when the nonce was stale


class Trunks:
    """All trunks by name, with the addresses of their servers."""

    def __init__(
        self,
        accounts: Iterable[TrunkAccount],
        identify: Callable[[str], str | None],
        layer: TransactionLayer,
        bindings: Bindings,
    ) -> None:
        """`identify` gives the trunk of a source address: "" = none, None = not even to be answered."""
        self.accounts = {account.name: account for account in accounts}
        self.servers: dict[str, set[str]] = {}  # addresses of each trunk's server, as they become known
        self.identify = identify
        self._layer, self._bindings = layer, bindings

    def is_far_end(self, trunk: str, flow: Flow | None) -> bool:
        """Whether what is at the other end of the flow is the trunk's own."""
        if flow is None or not trunk:
            return False
        host = flow.remote[0]
        return host in self.servers.get(trunk, ()) or self.identify(host) == trunk

    def authentication(self, account: TrunkAccount) -> Authentication:
        """Credentials of a trunk; once its registrar is known, only the trunk's own realms may ask for them."""
        realms = self._bindings.realms.get(account.name, frozenset())
        if realms:
            realms = realms | {account.domain, header.parse_uri(server_uri(account)).host}
        username = account.auth_username or account.username
        known = Account(username, account.password, tuple(sorted(realms)))
        return Authentication(known, on_unproven=self._layer.unproven)

    def credentials(self, call: Call, flow: Flow | None) -> Authentication | None:
        """What may answer a challenge within the call: only the trunk's own far end gets one, never the call's peer."""
        if not self.is_far_end(call.trunk, flow):
            return None
        account = self.accounts.get(call.trunk)
        known = self._bindings.realms.get(call.trunk)
        if call.authentication is None and account is not None and account.password and known:
            call.authentication = self.authentication(account)
        return call.authentication

    def challenge(self, exchange: Exchange, response: Response, now: float) -> bool:
        """Answer 401 and 407, for those who may ask; whether the request was sent again."""
        authentication = exchange.authentication
        if authentication is None or exchange.challenges >= MAX_CHALLENGES:
            return False
        if not self.is_far_end(exchange.trunk, exchange.flow):
            self._layer.stats["challenges_refused"] += 1
            return False
        verdict = authentication.learn(
            response.headers.getlist("WWW-Authenticate"), response.headers.getlist("Proxy-Authenticate")
        )
        if verdict is not Verdict.RETRY:
            self._layer.stats["challenges_refused"] += 1
            return False
        exchange.challenges += 1
        request = exchange.request
        request.headers.remove("Authorization")
        request.headers.remove("Proxy-Authorization")
        for name, value in authentication.headers(request.method, str(request.uri), request.body):
            request.headers.add(name, value)
        self._layer.clients.repeat(exchange, request, now)
        return True
