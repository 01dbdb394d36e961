"""PJSIP itself: started without sound, media sockets and threads, with our gate in its stack."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pjsua2 as pj

from sipagent.errors import ConfigError
from sipagent.sip.engine import EngineSettings
from sipagent.sip.pjsua2.callback import callback
from sipagent.sip.pjsua2.logged import LoggedMessage, read
from sipagent.sip.pjsua2.module import Stack, be_quiet
from sipagent.sip.transport import parse_listen

MESSAGES: Final = 4  # log level of whole messages
WISHED_CALLS: Final = 10_000  # cut to what the build can hold
_TRANSPORTS: Final = {
    ("UDP", 4): "PJSIP_TRANSPORT_UDP",
    ("TCP", 4): "PJSIP_TRANSPORT_TCP",
    ("TLS", 4): "PJSIP_TRANSPORT_TLS",
    ("UDP", 6): "PJSIP_TRANSPORT_UDP6",
    ("TCP", 6): "PJSIP_TRANSPORT_TCP6",
    ("TLS", 6): "PJSIP_TRANSPORT_TLS6",
}


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the library reports: each message, each complaint, and the choice of the account for a call."""

    on_message: Callable[[LoggedMessage], None]
    on_error: Callable[[str], None]
    choose_account: Callable[[str], int]  # source address → account id, -1 = PJSIP's own choice


class _Log(pj.LogWriter):  # type: ignore[misc]
    def __init__(self, hooks: Hooks) -> None:
        super().__init__()
        self._hooks = hooks

    @callback
    def write(self, entry: Any) -> None:
        """Called by PJSIP."""
        if entry.level == MESSAGES:
            message = read(entry.msg)
            if message is not None:
                self._hooks.on_message(message)
        elif entry.level == 1:
            self._hooks.on_error(entry.msg.strip())


class _Endpoint(pj.Endpoint):  # type: ignore[misc]
    hooks: Hooks

    @callback
    def onSelectAccount(self, prm: Any) -> None:  # noqa: N802
        """Which account an INVITE belongs to: by its source, since anybody can write any To."""
        chosen = self.hooks.choose_account(prm.rdata.srcAddress.rpartition(":")[0].strip("[]"))
        if chosen >= 0:
            prm.accountIndex = chosen


class Library:
    """PJSIP, running in the thread that calls `turn`."""

    def __init__(self, settings: EngineSettings, hooks: Hooks) -> None:
        """Raises ConfigError when a listener cannot be bound."""
        be_quiet()
        self._endpoint = _Endpoint()
        self._endpoint.hooks = hooks
        self._endpoint.libCreate()
        config = pj.EpConfig()
        self._log = _Log(hooks)
        # the console's level is the writer's, which stands in for it
        config.logConfig.level, config.logConfig.consoleLevel, config.logConfig.decor = MESSAGES, MESSAGES, 0
        config.logConfig.msgLogging = 1
        config.logConfig.writer = self._log
        self._log.__disown__()  # the endpoint deletes it
        config.uaConfig.threadCnt, config.uaConfig.mainThreadOnly = 0, True
        config.uaConfig.maxCalls = WISHED_CALLS
        config.uaConfig.userAgent = settings.user_agent
        config.uaConfig.mwiUnsolicitedEnabled = False
        config.medConfig.threadCnt, config.medConfig.hasIoqueue = 0, False
        self._endpoint.libInit(config)
        self.stack = Stack()
        self._endpoint.audDevManager().setNoDev()
        self.transports = {text: self._listen(text, settings) for text in settings.listen}
        self._endpoint.libStart()

    @property
    def version(self) -> str:
        """PJSIP's."""
        return str(self._endpoint.libVersion().full)

    def listening(self) -> tuple[str, ...]:
        """The bound addresses with their real ports."""
        found = []
        for text, number in self.transports.items():
            protocol, host, port = parse_listen(text)
            # a TCP or TLS listener is no transport of its own that could be asked
            real = port or int(str(self._endpoint.transportGetInfo(number).localName).rpartition(":")[2])
            found.append(f"{protocol.lower()}:{f'[{host}]' if ':' in host else host}:{real}")
        return tuple(found)

    def turn(self, wait_ms: int) -> None:
        """Handle what is due, waiting for it a little."""
        self._endpoint.libHandleEvents(wait_ms)

    def _listen(self, text: str, settings: EngineSettings) -> int:
        protocol, host, port = parse_listen(text)
        made = pj.TransportConfig()
        made.port, made.boundAddress = port, host
        if settings.public_address:
            made.publicAddress = settings.public_address
        if protocol == "TLS":
            made.tlsConfig.certFile, made.tlsConfig.privKeyFile = settings.tls_certificate, settings.tls_key
            made.tlsConfig.CaListFile = settings.tls_ca
            made.tlsConfig.verifyServer = settings.tls_verify
        try:
            kind = getattr(pj, _TRANSPORTS[protocol, 6 if ":" in host else 4])
            return int(self._endpoint.transportCreate(kind, made))
        except pj.Error as error:
            raise ConfigError("sip.listen", f"{text} cannot be bound: {error.info()}", "free the port") from None
