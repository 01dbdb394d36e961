"""The benchmark of the peers: rows that say why, a caller that knows its SIP."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.loadgen import Compiled
from bench.peers import installed
from bench.peers.__main__ import COLUMNS, report, table
from bench.peers.caller import over_udp
from bench.peers.contenders import CONTENDERS, Contender
from bench.peers.measure import Row, measure
from bench.peers.talker import PARTS

PARTS_OF_ONE = dict.fromkeys(PARTS, 1.0)
HEARD = {
    "packets": 1, "expected_packets": 1, "silent_calls": 0, "sequence_gaps": 0, "timestamp_gaps": 0,
    "pacing_ms": PARTS_OF_ONE, "delay_ms": PARTS_OF_ONE, "speech_lost": 0.0, "sounds": 1,
}  # fmt: skip


def row(peer: str, cpu: float, p99_9: float) -> Row:
    heard = HEARD | {"pacing_ms": PARTS_OF_ONE | {"p99_9": p99_9}}
    return Row(peer, "1", "C", 100, cpu_percent_per_call=cpu, heard=heard)


def test_ours_is_compared_with_the_best_peer_of_the_same_run() -> None:
    rows = [row("sipagent", 0.05, 0.5), row("agent-transport", 0.2, 30.0), row("baresip-python", 0.4, 20.0)]
    against = report(rows)["against_the_best_peer"]["100"]
    assert against == {
        "cpu_of_the_best_peer": 0.25,
        "pacing_p99_9_ms": 0.5,
        "best_peer_pacing_p99_9_ms": 20.0,
    }
    json.dumps(report(rows))


def test_a_row_without_figures_says_why_in_the_table() -> None:
    shown = table([row("sipagent", 0.05, 0.5), Row("pjsua2", "2", "C", 100, problem="takes 4 calls at most")])
    heading, ours, theirs = shown.splitlines()
    assert all(name in heading for name in COLUMNS)
    assert "0.050" in ours
    assert theirs.endswith("takes 4 calls at most")


@pytest.fixture
def compiled() -> Iterator[Compiled]:
    programs = Compiled()
    yield programs
    programs.close()


async def test_a_peer_that_cannot_be_installed_is_a_row_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: Compiled
) -> None:
    def refuse(package: str, version: str, folder: Path) -> Path:
        raise installed.NotInstalledError(f"{package} {version} cannot be installed: no such version")

    monkeypatch.setattr(installed, "python_with", refuse)
    peer = Contender("other", "C", "other-package", "9", "pjsua2_echo.py")
    measured = await measure(peer, 1, 1.0, tmp_path, compiled)
    assert measured.problem == "other-package 9 cannot be installed: no such version"


async def test_a_peer_that_dies_at_its_start_is_a_row_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: Compiled
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho the wheel is broken >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(installed, "python_with", lambda package, version, folder: python)
    measured = await measure(Contender("other", "C", "p", "1", "pjsua2_echo.py"), 1, 1.0, tmp_path, compiled)
    assert measured.problem == "ended at its start: the wheel is broken"


async def test_a_peer_with_few_calls_is_not_started_for_more(tmp_path: Path, compiled: Compiled) -> None:
    pjsua2 = next(contender for contender in CONTENDERS if contender.name == "pjsua2")
    measured = await measure(pjsua2, 5, 1.0, tmp_path, compiled)
    assert "4 calls at most" in measured.problem


async def test_a_refused_call_fails_with_the_status_line() -> None:
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind(("127.0.0.1", 0))
    far.setblocking(False)
    caller, transport = await over_udp("127.0.0.1", far.getsockname())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
        rtp.bind(("127.0.0.1", 0))
        placing = asyncio.create_task(caller.invite(1, rtp))
        loop = asyncio.get_running_loop()
        request, source = await loop.sock_recvfrom(far, 4096)
        copied = [
            line
            for line in request.decode().split("\r\n")
            if line.partition(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")
        ]
        answer = "\r\n".join(["SIP/2.0 486 Busy Here", *copied, "Content-Length: 0", "", ""])
        await loop.sock_sendto(far, answer.encode(), source)
        call = await placing
    transport.close()
    far.close()
    assert call.failure == "486 Busy Here"
