"""The short form of `bench.fuzz_media`, and that it would notice."""

import numpy as np
import pytest

from bench import fuzz_media
from sipagent.rtp import rtcp
from sipagent.rtp.receive import Receiver
from sipagent.rtp.table import COUNTER


def test_damaged_packets_by_every_way_leave_rows_clocks_and_counters_in_order() -> None:
    figures = fuzz_media.fuzz(packets=7_500, rows=32, ticks=60)
    assert figures["problem"] == ""
    assert figures["packets"] >= 7_500


def test_what_is_raised_by_a_packet_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtcp, "parse", lambda data: (_ for _ in ()).throw(ValueError("cannot parse")))
    assert "seed 5: Traceback" in fuzz_media.fuzz(packets=5_000, seed=5, rows=8, ticks=100)["problem"]


def test_a_counter_below_zero_and_a_row_that_stands_still_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Receiver, "fill", lambda self, now_ns: None)
        assert "s in the ring after" in fuzz_media.fuzz(packets=100, rows=8, ticks=400)["problem"]

    def miscount(self: Receiver, name: str, rows: np.ndarray) -> None:
        self._table.counters[rows, COUNTER[name]] -= np.uint64(
            1 << 20
        )  # far enough that what is counted later does not make it good

    monkeypatch.setattr(Receiver, "_count", miscount)
    assert "fell below zero" in fuzz_media.fuzz(packets=100, rows=8, ticks=400)["problem"]
