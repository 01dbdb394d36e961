"""What the machine refuses when the ports of all rows are bound."""

import resource

import pytest

from sipagent.rtp.options import MediaOptions
from sipagent.rtp.sockets import RowSockets
from tests.support.ports import free_port


def test_a_sandbox_that_forbids_to_ask_for_limits_costs_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: int) -> tuple[int, int]:
        raise OSError

    monkeypatch.setattr(resource, "getrlimit", refuse)
    sockets = RowSockets(MediaOptions("127.0.0.1", first_port=free_port(count=4), rows=2))
    assert all(sockets.ports) and sockets.refusal == 0
    sockets.close_all()
