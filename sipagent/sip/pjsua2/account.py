"""A trunk's account in PJSIP: its registration, and a password that answers to the trunk's own realm only."""

from collections.abc import Callable
from typing import Any, Final

import pjsua2 as pj
from sipmessage import Response

from sipagent.sip import header
from sipagent.sip.bindings import address_of_record, first_hop, server_uri
from sipagent.sip.digest import parse_challenges
from sipagent.sip.engine import (
    EngineEvent,
    EngineSettings,
    RegistrationChanged,
    RegistrationState,
    TrunkAccount,
)
from sipagent.sip.pjsua2.callback import callback
from sipagent.sip.pjsua2.options import add_headers, parse

RETRY_S: Final = 30  # PJSIP's own, after no answer or 5xx
REFUSED_RETRY_S: Final = 120.0  # ours, after a refusal that time alone will hardly mend
OnIncoming = Callable[["Account", Any], None]


class Account(pj.Account):  # type: ignore[misc]
    """The account of a trunk, or of all strangers (`trunk` None), which has no password that could leak."""

    def __init__(
        self,
        settings: EngineSettings,
        trunk: TrunkAccount | None,
        local_uri: str,
        on_incoming: OnIncoming,
        emit: Callable[[EngineEvent], None],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self._settings, self._local_uri = settings, local_uri
        self._on_incoming, self._emit, self._later = on_incoming, emit, later
        self._realm = self._first_realm()
        self._learnt = False
        self.create(self._configuration())
        if trunk is not None and trunk.register:
            emit(RegistrationChanged(trunk.name, RegistrationState.REGISTERING))

    @property
    def name(self) -> str:
        """Of the trunk."""
        return self.trunk.name if self.trunk else ""

    def change(self, trunk: TrunkAccount) -> None:
        """New settings for the same trunk."""
        if trunk != self.trunk:
            self.trunk, self._learnt = trunk, False
            self._realm = self._first_realm()
            self.modify(self._configuration())

    def leave(self) -> None:
        """Un-register."""
        if self.trunk is not None and self.trunk.register and self.getInfo().regIsConfigured:
            self.setRegistration(False)

    def learn(self, response: Response | None) -> bool:
        """Bind the password to the realm of a challenge; once, so that nobody can make us try realm after realm."""
        if response is None or self.trunk is None or self._learnt or not self.trunk.password:
            return False
        fields = response.headers
        values = (*fields.getlist("WWW-Authenticate"), *fields.getlist("Proxy-Authenticate"))
        realms = [challenge.realm for challenge in parse_challenges(values)]
        if not realms or self._realm in realms:
            return False
        self._realm, self._learnt = realms[0], True
        self._later(0, lambda: self.modify(self._configuration()))
        return True

    # ---- what PJSIP says (names of pjsua2)

    @callback
    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802
        """An INVITE that has passed the gate."""
        self._on_incoming(self, prm)

    @callback
    def onRegState(self, prm: Any) -> None:  # noqa: N802
        """A response to REGISTER, or none."""
        if self.trunk is None:
            return
        code, reason = int(prm.code), str(prm.reason)
        response = parse(prm.rdata.wholeMsg) if prm.rdata.wholeMsg else None
        name = self.trunk.name
        if code in (401, 407) and self.learn(response if isinstance(response, Response) else None):
            return  # it registers anew with the realm
        if 200 <= code < 300 and self.getInfo().regIsActive:
            self._emit(RegistrationChanged(name, RegistrationState.REGISTERED, code, reason, float(prm.expiration)))
        elif 200 <= code < 300:
            self._emit(RegistrationChanged(name, RegistrationState.UNREGISTERED, code, reason))
        elif 400 <= code < 500 and code not in (408, 480):
            self._emit(RegistrationChanged(name, RegistrationState.REFUSED, code, reason, retry_in_s=REFUSED_RETRY_S))
            self._later(REFUSED_RETRY_S, self._retry)
        else:
            self._emit(RegistrationChanged(name, RegistrationState.UNREACHABLE, code, reason, retry_in_s=RETRY_S))

    def _retry(self) -> None:
        if self.isValid() and not self.getInfo().regIsActive:
            self.setRegistration(True)

    # ---- settings

    def _first_realm(self) -> str:
        if self.trunk is None:
            return ""
        return self.trunk.domain or header.parse_uri(server_uri(self.trunk)).host

    def _configuration(self) -> pj.AccountConfig:
        made, trunk = pj.AccountConfig(), self.trunk
        made.mediaConfig.useLoopMedTp = True  # our media plane carries RTP: PJSIP opens no socket for it
        made.mediaConfig.lockCodecEnabled = False  # else it re-INVITEs when an answer holds two codecs
        made.mediaConfig.streamKaEnabled = False
        made.callConfig.timerSessExpiresSec = self._settings.session_expires_s
        made.callConfig.prackUse = pj.PJSUA_100REL_OPTIONAL  # a 183 goes reliably to those who can acknowledge it
        made.natConfig.iceEnabled = False
        made.presConfig.publishEnabled = False
        made.mwiConfig.enabled = False
        made.videoConfig.autoTransmitOutgoing = made.videoConfig.autoShowIncoming = False
        if trunk is None:
            made.idUri = self._local_uri
            made.priority = -1
            return made
        address = address_of_record(trunk)
        made.idUri = f"{header.quote(trunk.display_name)} <{address}>" if trunk.display_name else f"<{address}>"
        if trunk.outbound_proxy or trunk.domain:
            made.sipConfig.proxies.append(f"<{first_hop(trunk)};lr>")
        if trunk.password:
            user = trunk.auth_username or trunk.username
            made.sipConfig.authCreds.append(pj.AuthCredInfo("digest", self._realm, user, 0, trunk.password))
        if trunk.register:
            made.regConfig.registrarUri = registrar_uri(trunk)
            made.regConfig.timeoutSec = trunk.expires_s
            made.regConfig.retryIntervalSec, made.regConfig.firstRetryIntervalSec = RETRY_S, 2
            add_headers(made.regConfig, trunk.headers)
        return made


def registrar_uri(trunk: TrunkAccount) -> str:
    """Where REGISTER goes, as its Request-URI names it."""
    if not trunk.domain:
        return server_uri(trunk)
    return f"sip:{trunk.domain}"
