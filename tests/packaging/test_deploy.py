import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from sipagent.service.config.tree import Media

ROOT = Path(__file__).parents[2]
GATE = ROOT / "deploy" / "nftables.conf"


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft (Debian package nftables) is not installed")
def test_the_gate_is_valid() -> None:
    result = subprocess.run(["nft", "-c", "-f", str(GATE)], capture_output=True, text=True, timeout=30, check=False)
    if "Operation not permitted" in result.stderr:
        pytest.skip("nft -c needs CAP_NET_ADMIN")
    assert result.returncode == 0, result.stderr


def test_the_gate_covers_the_default_ports() -> None:
    first, last = Media().ports
    assert f"udp dport {first}-{last + 1} " in GATE.read_text(encoding="utf-8")


def test_the_credentials_of_the_manual_are_those_of_the_unit() -> None:
    manual = (ROOT / "systemd" / "install.md").read_text(encoding="utf-8")
    block = manual.split("```toml\n")[1].split("```")[0]
    settings = tomllib.loads(block)
    unit = (ROOT / "systemd" / "sipagent.service").read_text(encoding="utf-8")
    for name in (settings["trunk"][0]["password_credential"], settings["http"]["token_credential"]):
        assert f"LoadCredential={name}:/etc/sipagent/{name}" in unit
        assert f"/etc/sipagent/{name}" in manual
