import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from sipagent.rtp.control import RowClosed
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.table import COUNTER, COUNTERS, GAUGE, UNKNOWN_GAUGE, CallTable
from sipagent.rtp.vad.options import EarsOptions
from sipagent.service import metrics
from sipagent.service.media_planes import MediaHandlers, MediaPlane


def quality(table: CallTable) -> dict[str, float]:
    plane = SimpleNamespace(number=0, table=table, totals=lambda: np.zeros(len(COUNTERS), np.int64))
    families = metrics._media(cast(Any, SimpleNamespace(planes=[plane])))
    family = next(family for family in families if family.name == "sipagent_media_quality")
    return {sample.labels["what"]: sample.value for sample in family.samples}


def test_what_is_not_known_of_a_call_does_not_spoil_the_mean_of_the_others() -> None:
    table, _ = CallTable.create(3)
    table.active[:2] = 1
    for name, unknown in UNKNOWN_GAUGE.items():
        table.gauges[:, GAUGE[name]] = unknown
    table.gauges[0, GAUGE["mos_out"]] = 4.25
    table.gauges[0, GAUGE["level_in_dbov"]] = -20
    table.gauges[:2, GAUGE["jitter_ms"]] = (0, 2)
    found = quality(table)
    assert found["mos_out"] == 4.25 and found["level_in_dbov"] == -20 and found["jitter_ms"] == 1
    assert "mos_in" not in found


def test_totals_never_fall_when_a_row_closes_or_a_lost_packet_comes_late() -> None:
    handlers = MediaHandlers(lambda number, event: None, lambda number, event: None, lambda number: None)
    plane = MediaPlane(0, MediaOptions(rows=2), EarsOptions(), (), handlers)
    received, lost = COUNTER["packets_received"], COUNTER["lost"]
    plane.table.active[:] = 1
    plane.table.counters[:, received], plane.table.counters[:, lost] = (100, 40), (5, 1)
    assert plane.totals()[[received, lost]].tolist() == [140, 6]
    plane.table.counters[0, lost] -= np.uint64(1)  # it was late
    plane.table.active[0] = 0  # its RowClosed is on the way
    assert plane.totals()[[received, lost]].tolist() == [140, 6]
    plane._media_says(RowClosed(0, 1, dict(zip(COUNTERS, plane.table.counters[0].tolist(), strict=True)), {}))
    plane.table.counters[1, received] += np.uint64(10)
    plane.table.counters[1, lost] += np.uint64(3)
    assert plane.totals()[[received, lost]].tolist() == [150, 8]
    asyncio.run(plane.stop())
