from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from sipagent.rtp.table import COUNTERS, GAUGE, UNKNOWN_GAUGE, CallTable
from sipagent.service import metrics


def quality(table: CallTable) -> dict[str, float]:
    plane = SimpleNamespace(number=0, table=table, retired_counters=np.zeros(len(COUNTERS), np.uint64))
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
