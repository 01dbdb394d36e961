"""The core flows over TLS: sipp on either side behind stunnel, which checks our certificate as we check its own."""

import asyncio
from pathlib import Path

import pytest

from sipagent.sip.engine import Ended, EngineSettings, PlaceCall, TrunkAccount
from tests.sip import test_sipp_calls_us as they_call
from tests.sip import test_we_call_sipp as we_call
from tests.sip.support import SDP, Station
from tests.support.certificates import Authority, authority
from tests.support.ports import free_port
from tests.support.scenario import callee, caller
from tests.support.sipp import sipp
from tests.support.stunnel import stunnel

pytestmark = pytest.mark.peers
THEY_CALL = (
    "short", "options", "cancel", "bye_while_ringing", "we_hang_up", "hold_and_back", "delayed_offer",
    "update_with_offer", "session_timer", "early_media_reliable", "info", "refer", "no_common_codec",
)  # fmt: skip
WE_CALL = (
    "we_hang_up", "they_hang_up", "early_183", "reliable_180", "cancel", "they_hold", "transfer", "challenged_401",
    "refused_486",
)  # fmt: skip


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def our_keys(trusted: Authority) -> tuple[str, str]:
    return trusted.issue("us", "IP:127.0.0.1")


async def started(trusted: Authority, keys: tuple[str, str], port: int, *trunks: TrunkAccount) -> Station:
    """An engine with nothing but a TLS listener."""
    us = Station(
        EngineSettings(
            listen=(f"tls:127.0.0.1:{port}",),
            trunks=trunks,
            tls_certificate=keys[0],
            tls_key=keys[1],
            tls_ca=trusted.certificate,
        )
    )
    await us.engine.start(us.note)
    return us


def by_tls(scenario: str) -> str:
    """What sipp says of its transport is what the wire has."""
    return scenario.replace("[transport]", "TLS")


@pytest.mark.rfc("3261", "26.3.1", "MUST", role="UAS", text="the core flows of a called party go over TLS")
@pytest.mark.parametrize("name", THEY_CALL)
async def test_call_to_us(name: str, trusted: Authority, our_keys: tuple[str, str], tmp_path: Path) -> None:
    react, steps = they_call.SCENARIOS[name]
    port, plain = free_port(tcp=True), free_port(tcp=True)
    us = await started(trusted, our_keys, port)
    us.on_event = lambda event: react(us, event)
    try:
        async with (
            stunnel(tmp_path, trusted, plain, port, client=True),
            sipp(by_tls(caller(*steps)), f"127.0.0.1:{plain}", port=free_port(tcp=True), transport="t1") as far_end,
        ):
            assert await far_end.finished() == 0, far_end.errors()
            async with asyncio.timeout(5):
                while us.engine.stats()["calls"]:
                    await asyncio.sleep(0.01)
    finally:
        await us.engine.stop()


@pytest.mark.rfc("3261", "26.3.1", "MUST", role="UAC", text="the core flows of a calling party go over TLS")
@pytest.mark.parametrize("name", WE_CALL)
async def test_call_from_us(name: str, trusted: Authority, our_keys: tuple[str, str], tmp_path: Path) -> None:
    drive, steps = we_call.SCENARIOS[name]
    secure, plain = free_port(tcp=True), free_port(tcp=True)
    trunk = TrunkAccount(
        "t", f"sip:127.0.0.1:{secure};transport=tls", "alice", password="secret", domain="sip.test", register=False
    )
    async with (
        stunnel(tmp_path, trusted, secure, plain, client=False),
        sipp(by_tls(callee(*steps)), port=plain, transport="t1") as far_end,
    ):
        us = await started(trusted, our_keys, free_port(tcp=True), trunk)
        try:
            handle = us.engine.place(PlaceCall("5551234", "t", SDP))
            await drive(us, handle)
            assert await far_end.finished() == 0, far_end.errors()
            await us.expect(Ended)
            assert us.engine.stats()["calls"] == 0
        finally:
            await us.engine.stop()
