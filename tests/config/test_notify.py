import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipagent.service import notify


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_systemd_hears_every_message(systemd: socket.socket) -> None:
    assert notify.ready("2 trunks")
    assert notify.status("1 call\nof 100")
    assert notify.watchdog()
    assert notify.extend_timeout(1.5)
    assert notify.stopping()
    heard = [systemd.recv(200).decode() for _ in range(5)]
    assert heard == [
        "READY=1\nSTATUS=2 trunks",
        "STATUS=1 call of 100",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STOPPING=1\nSTATUS=draining",
    ]


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0sipagent-test-{os.getpid()}")
        receiver.settimeout(1)
        assert notify.send("READY=1", {"NOTIFY_SOCKET": f"@sipagent-test-{os.getpid()}"})
        assert receiver.recv(20) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_systemd_nothing_happens(address: str) -> None:
    assert not notify.send("READY=1", {"NOTIFY_SOCKET": address})


def test_the_watchdog_period_is_for_this_process_only() -> None:
    assert notify.watchdog_seconds({}) == 0
    assert notify.watchdog_seconds({"WATCHDOG_USEC": "10000000"}) == 10
    assert notify.watchdog_seconds({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}) == 0
