"""A whole line over TLS with far ends that we did not write: Kamailio in between, baresip calls, SRTP by SDES."""

from pathlib import Path

import pytest

from tests.support import audio
from tests.support.baresip import baresip
from tests.support.certificates import authority
from tests.support.kamailio import kamailio
from tests.support.ports import free_port
from tests.support.service import service, workers_ready

pytestmark = [pytest.mark.peers, pytest.mark.models]

CONFIG = """
[[trunk]]
name = "kam"
server = "sip:127.0.0.1:{port};transport=tls"
domain = "sip.test"
username = "agent"
password = "agent-secret"
expires = 60
codecs = ["PCMU"]
srtp = "required"

[[route]]
to = "*"
brain = "line_brains:Plain"
"""


@pytest.mark.rfc(
    "4568", "7", "MUST", role="UAS", text="a call over TLS through Kamailio with keys in SDP is heard by baresip"
)
async def test_caller_over_tls_hears_the_greeting_and_the_ladder_keeps_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, port = authority(tmp_path / "ca"), free_port(count=2, tcp=True)
    monkeypatch.setenv("SIPAGENT__SIP__TLS_CA", trusted.certificate)
    account = (
        f'<sip:alice@sip.test;transport=tls>;outbound="sip:127.0.0.1:{port + 1};transport=tls";auth_user=alice;'
        "auth_pass=alice-secret;regint=60;audio_codecs=pcmu;mediaenc=srtp-mand"
    )
    async with (
        kamailio(port, tls=trusted.issue("proxy", "IP:127.0.0.1,DNS:sip.test")) as proxy,
        service(tmp_path / "service", CONFIG.format(port=port + 1)) as agent,
        baresip(tmp_path / "alice", account, config=f"sip_cafile {trusted.certificate}\n") as alice,
    ):
        await workers_ready(agent)
        await proxy.registered("alice")
        await alice.command("dial", "sip:agent@sip.test")
        call = await agent.call_in_state("connected")
        await agent.until(call["id"], "transcript", text="Welcome to the line test.")  # it has been played
        await alice.command("hangup")
        await agent.until(call["id"], "state", state="ended")
        ladder = (await agent.http.get(f"/v1/calls/{call['id']}/ladder")).text
    heard, _ = audio.read(alice.heard())
    score, _ = audio.best_match(await audio.spoken("Welcome to the line test."), heard)
    assert score > 0.95, f"the greeting is not what baresip heard ({score:.3f})"
    assert "INVITE sip:agent@" in ladder
    assert "SIP/2.0/TLS" in ladder
    assert "SIP/2.0/UDP" not in ladder
    assert "inline: ***" in ladder
    assert "BYE" in ladder.partition("\n\n")[0]
