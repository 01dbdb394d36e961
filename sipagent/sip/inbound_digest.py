"""Digest asked of those who call us, for trunks that want it (RFC 3261 §22.2), on top of the source address."""

import secrets

from sipmessage import Request

from sipagent.sip import header
from sipagent.sip.bindings import server_uri
from sipagent.sip.challenger import Challenger, Outcome
from sipagent.sip.engine import HeaderList, TrunkAccount


class InboundDigest:
    """One challenger for each trunk, made when its first call comes; a trunk whose account changed gets another."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._challengers: dict[TrunkAccount, Challenger] = {}

    def refusal(self, account: TrunkAccount | None, request: Request, now: float) -> tuple[int, HeaderList] | None:
        """Status and headers to refuse a request with; None when it may pass."""
        if account is None or not account.inbound_digest:
            return None
        challenger = self._challengers.get(account)
        if challenger is None:
            self._challengers = {kept: one for kept, one in self._challengers.items() if kept.name != account.name}
            challenger = self._challengers[account] = self._challenger(account)
        check = challenger.check(request.headers.getlist("Authorization"), request.method, now, request.body)
        if check.outcome is Outcome.OK:
            return None
        if check.outcome is Outcome.MALFORMED:
            return 400, ()
        values = challenger.challenge(now, stale=check.outcome is Outcome.STALE)
        return 401, tuple(("WWW-Authenticate", value) for value in values)

    def _challenger(self, account: TrunkAccount) -> Challenger:
        username = account.auth_username or account.username
        realm = account.domain or header.parse_uri(server_uri(account)).host
        return Challenger(realm, {username: account.password}.get, self._secret)
