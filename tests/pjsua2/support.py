"""An engine on PJSIP with its process, for the tests."""

import contextlib
from collections.abc import AsyncIterator

from sipagent.service import planes
from sipagent.service.pjsip_process import ENTRY, PjsipPlane
from sipagent.sip.engine import EngineSettings, TrunkAccount
from sipagent.sip.pjsua2.engine import Pjsua2Engine
from tests.sip.support import Station
from tests.support.ports import free_port


class PjsipStation(Station):
    """A `Station` whose engine is PJSIP; `port` is that of its listeners."""

    def __init__(self, settings: EngineSettings, port: int) -> None:
        super().__init__(settings)
        self.port = port
        self.engine: Pjsua2Engine = Pjsua2Engine(settings, PjsipPlane)  # type: ignore[assignment]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def pjsip(*trunks: TrunkAccount, **settings: object) -> AsyncIterator[PjsipStation]:
    planes.prepare([*planes.PRELOAD, ENTRY])  # each test has a PJSIP of its own; its modules are loaded once
    port = free_port(tcp=True)
    listen = (f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}")
    made = PjsipStation(EngineSettings(listen=listen, trunks=trunks, **settings), port)  # type: ignore[arg-type]
    await made.engine.start(made.note)
    try:
        yield made
    finally:
        await made.engine.stop()
