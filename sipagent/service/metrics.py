"""What /metrics shows: calls, planes, registrations, and the media quality of the calls in progress."""

import sys
from collections.abc import Iterator, Mapping

import numpy as np
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from sipagent.calls.lifecycle import Lifecycle
from sipagent.rtp.table import COUNTERS, GAUGES, PLANE_COUNTERS, UNKNOWN_GAUGE


def families(life: Lifecycle) -> Iterator[Metric]:
    """Metric families of this moment."""
    yield GaugeMetricFamily("sipagent_calls", "calls that are not over", value=life.count())
    yield GaugeMetricFamily("sipagent_dialogs", "calls that SIP holds", value=len(life.engine.handles()))
    yield GaugeMetricFamily("sipagent_rows_free", "rows for new calls", value=life.rows.free(life.loop.time()))
    # A leak is seen here long before it shows in the process's memory, which grows by holes in the heap as well.
    blocks = sys.getallocatedblocks()
    yield GaugeMetricFamily("sipagent_python_blocks", "blocks of memory that Python uses for signalling", value=blocks)
    yield GaugeMetricFamily("sipagent_draining", "1 while no new call is taken", value=float(life.draining))
    ended = CounterMetricFamily("sipagent_calls_ended", "calls by outcome", labels=["outcome"])
    for outcome, count in life.outcomes.items():
        ended.add_metric([outcome], count)
    yield ended
    refused = CounterMetricFamily("sipagent_calls_refused", "calls refused before a brain was asked", labels=["why"])
    for why, count in life.refused.items():
        refused.add_metric([why], count)
    yield refused
    redirected = CounterMetricFamily("sipagent_redirects", "addresses that 3xx responses named", labels=["result"])
    for result, count in life.redirected.items():
        redirected.add_metric([result], count)
    yield redirected
    registered = GaugeMetricFamily(
        "sipagent_registration", "1 in the state that the trunk is in", labels=["trunk", "state"]
    )
    for name, registration in life.engine.registrations().items():
        registered.add_metric([name, registration.state.value], 1)
    yield registered
    sip = CounterMetricFamily("sipagent_sip", "events of the SIP engine", labels=["event"])
    for name, count in life.engine.stats().items():
        sip.add_metric([name], count)
    yield sip
    yield from _records(life)
    yield from _workers(life)
    yield from _media(life)
    yield _lateness(life)


def identity(verdicts: Mapping[str, int], signed: Mapping[str, int]) -> Iterator[Metric]:
    """Callers' numbers that were checked, and calls of ours that were signed (STIR/SHAKEN)."""
    found = CounterMetricFamily("sipagent_stir", "callers by attestation, or status of the check", labels=["result"])
    for result, count in verdicts.items():
        found.add_metric([result], count)
    yield found
    ours = CounterMetricFamily("sipagent_stir_signed", "calls that we signed, by attestation", labels=["attestation"])
    for attestation, count in signed.items():
        ours.add_metric([attestation], count)
    yield ours


def _records(life: Lifecycle) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "sipagent_records_failed", "call records that could not be written", life.records.failures
    )
    yield CounterMetricFamily(
        "sipagent_record_events_dropped", "events of calls that the disk was too slow for", life.records.dropped_notes
    )
    orphans = CounterMetricFamily("sipagent_orphans", "what the sweep found that belonged to no call", labels=["what"])
    for what, count in life.orphans.items():
        orphans.add_metric([what], count)
    yield orphans


def _workers(life: Lifecycle) -> Iterator[Metric]:
    lag = GaugeMetricFamily(
        "sipagent_worker_lag_ms", "longest stall of a worker's loop since the last ping", labels=["worker"]
    )
    restarts = CounterMetricFamily("sipagent_worker_restarts", "workers replaced", labels=["worker"])
    for worker in life.workers.on_duty:
        lag.add_metric([str(worker.index)], worker.lag_ms)
        restarts.add_metric([str(worker.index)], worker.restarts)
    yield lag
    yield restarts


def _lateness(life: Lifecycle) -> Metric:
    late = GaugeMetricFamily("sipagent_media_late", "1 while the plane is too late for new calls", labels=["plane"])
    numbers = life.pacing.late(life.config.limits.max_pacing_ms)
    for plane in life.planes:
        late.add_metric([str(plane.number)], float(plane.number in numbers))
    return late


def _media(life: Lifecycle) -> Iterator[Metric]:
    plane_metrics = GaugeMetricFamily("sipagent_media_plane", "the media planes themselves", labels=["plane", "what"])
    totals = CounterMetricFamily("sipagent_media", "sums over the rows of a plane", labels=["plane", "what"])
    rows = GaugeMetricFamily("sipagent_rows", "rows in use", labels=["plane"])
    quality = GaugeMetricFamily(
        "sipagent_media_quality", "mean over the calls in progress of which it is known", labels=["plane", "what"]
    )
    for plane in life.planes:
        number, table = str(plane.number), plane.table
        for index, name in enumerate(PLANE_COUNTERS):
            plane_metrics.add_metric([number, name], int(table.plane[index]))
        active = np.flatnonzero(table.active)
        rows.add_metric([number], len(active))
        sums = plane.totals()
        for index, name in enumerate(COUNTERS):
            totals.add_metric([number, name], int(sums[index]))
        if len(active):
            for index, name in enumerate(GAUGES):
                values = table.gauges[active, index]
                known = values[values != UNKNOWN_GAUGE.get(name, np.nan)]
                if len(known):
                    quality.add_metric([number, name], float(known.mean()))
    yield plane_metrics
    yield rows
    yield totals
    yield quality
