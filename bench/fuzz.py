"""Mutation fuzzing of the SIP stack: damaged messages into two user agents that talk to each other, in virtual time.

    python -m bench.fuzz --messages 1000000 --json

Every 300 messages the calls are hung up, and after the longest timers nothing may be left: no call, dialog or
transaction. Exit status 1 and the seed of the round when that is not so, or when anything was raised.
With `--memory` one pair of user agents goes through all rounds, and what Python holds after a tenth of them, when
every bounded table is full, is compared with what it holds at the end; the lines of code that hold more are named.
"""

import argparse
import gc
import json
import random
import resource
import sys
import time
import traceback
import tracemalloc

from sipagent.sip.engine import EngineEvent, IncomingCall, PlaceCall, Reoffer
from tests.support.mutation import MESSAGES, mutate
from tests.support.sipnet import SDP, Host, VirtualNetwork

A, B = "10.0.0.1", "10.0.0.2"
ROUND = 300


def network(seed: int) -> VirtualNetwork:
    """Two user agents that know nothing yet."""
    net = VirtualNetwork(seed=seed)
    for address in (A, B):
        net.host(address)
    return net


def storm(seed: int, net: VirtualNetwork) -> str:
    """One round; "" when it went well, else what is wrong."""
    rng = random.Random(seed)
    hosts = net.hosts[A], net.hosts[B]
    for host in hosts:
        for log in (host.sent, host.received, host.events):
            log.clear()
        _oblige(host, rng)
    hosts[0].agent.place(PlaceCall(f"sip:bob@{B}", "", SDP), net.now)
    net.run(0.5)
    seeds = MESSAGES + [text.encode() for host in hosts for _, text in host.sent] * 5
    for _ in range(ROUND):
        net.inject(*((A, B) if rng.random() < 0.5 else (B, A)), mutate(rng.choice(seeds), rng))
        net.run(rng.choice((0.001, 0.1, 1.0)))
    for host in hosts:
        for call in host.agent.calls():
            call.hangup((), net.now)
    net.run(200)
    for host in hosts:
        stats = host.agent.stats()
        left = {name: stats[name] for name in ("calls", "dialogs", "transactions") if stats[name]}
        if left:
            return f"{host.address} keeps {left}"
    return ""


def _oblige(host: Host, rng: random.Random) -> None:
    def react(event: EngineEvent) -> None:
        if isinstance(event, IncomingCall) and rng.random() < 0.7:
            host.agent.answer(event.handle, SDP, (), host.now)
        elif isinstance(event, Reoffer):
            call = host.agent.call(event.handle)
            if call is not None:
                call.reoffers.accept(SDP, host.now)

    host.react = react


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="one pair for all rounds, traced (three times slower)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.memory:
        tracemalloc.start()
    first: tracemalloc.Snapshot | None = None
    net = network(options.seed)
    started, problem, rounds, after_first_kb = time.monotonic(), "", 0, 0
    while rounds * ROUND < options.messages and not problem:
        try:
            problem = storm(options.seed + rounds, net if options.memory else network(options.seed + rounds))
        except Exception:
            problem = traceback.format_exc()
        rounds += 1
        if options.memory and first is None and rounds * ROUND >= options.messages / 10:
            first = _snapshot()
        after_first_kb = after_first_kb or _rss_kb()
    result = {
        "benchmark": "fuzz",
        "messages": rounds * ROUND,
        "seconds": round(time.monotonic() - started, 1),
        "rss_after_first_round_mb": round(after_first_kb / 1024, 1),
        "rss_mb": round(_rss_kb() / 1024, 1),
        "problem": problem and f"seed {options.seed + rounds - 1}: {problem}",
    }
    if first is not None:
        result |= _growth(first, _snapshot())
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    sys.exit(1 if problem else 0)


def _snapshot() -> tracemalloc.Snapshot:
    gc.collect()
    ours = (tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, "<frozen *"))
    return tracemalloc.take_snapshot().filter_traces(ours)


def _growth(first: tracemalloc.Snapshot, last: tracemalloc.Snapshot) -> dict[str, object]:
    """kB held at both times, and the lines whose share grew most."""
    held = [sum(trace.size for trace in snapshot.traces) // 1024 for snapshot in (first, last)]
    grown = [change for change in last.compare_to(first, "lineno") if change.size_diff > 4096]
    return {
        "held_after_a_tenth_kb": held[0],
        "held_at_the_end_kb": held[1],
        "grown": [f"{change.traceback}: +{change.size_diff // 1024} kB" for change in grown[:10]],
    }


def _rss_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
