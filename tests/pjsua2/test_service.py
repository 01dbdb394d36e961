"""The whole service on PJSIP: its signalling, our RTP."""

from pathlib import Path

import pytest

from sipagent.errors import ConfigError
from sipagent.service.pjsip_process import PjsipPlane
from sipagent.sip.engine import EngineSettings
from sipagent.sip.pjsua2.engine import Pjsua2Engine
from tests.support.capture import capture
from tests.support.ports import free_port
from tests.support.service import service, workers_ready
from tests.support.sipp import sipp

pytestmark = pytest.mark.peers
ROUTE = '[[route]]\nto = "*"\nbrain = "line_brains:Plain"\npipeline = "echo"\n'


async def test_service_on_pjsip_answers_with_rtp_from_our_media_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIPAGENT__SIP__ENGINE", "pjsua2")
    port = free_port()
    async with service(tmp_path, ROUTE) as agent:
        await workers_ready(agent)
        target = f"127.0.0.1:{agent.sip_port}"
        async with (
            capture(tmp_path / "call.pcap", f"udp portrange {agent.rtp_ports[0]}-{agent.rtp_ports[-1]}") as wire,
            sipp("uac", target, port=port, extra=("-d", "1500")) as far_end,
        ):
            assert await far_end.finished() == 0, far_end.errors()
        packets = await wire.rtp(agent.rtp_ports)
        assert len(packets) > 50
        assert {packet.target_port for packet in packets} == {port + 400}
        assert "pjsip" in agent.log()
        assert "call_limit" in agent.log()


def test_client_certificates_are_refused_as_a_configuration_that_this_engine_does_not_know() -> None:
    with pytest.raises(ConfigError, match="tls_client_ca"):
        Pjsua2Engine(EngineSettings(("tls:127.0.0.1:5061",), tls_client_ca="clients.pem"), PjsipPlane)
