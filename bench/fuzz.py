"""Mutation fuzzing of the SIP stack: damaged messages into two user agents that talk to each other, in virtual time.

    python -m bench.fuzz --messages 1000000 --json

Every 300 messages the calls are hung up, and after the longest timers nothing may be left: no call, dialog or
transaction. Exit status 1 and the seed of the round when that is not so, or when anything was raised.
"""

import argparse
import json
import random
import resource
import sys
import time
import traceback

from sipagent.sip.engine import EngineEvent, IncomingCall, PlaceCall, Reoffer
from tests.support.mutation import MESSAGES, mutate
from tests.support.sipnet import SDP, Host, VirtualNetwork

A, B = "10.0.0.1", "10.0.0.2"
ROUND = 300


def storm(seed: int) -> str:
    """One round; "" when it went well, else what is wrong."""
    rng = random.Random(seed)
    net = VirtualNetwork(seed=seed)
    hosts = net.host(A), net.host(B)
    for host in hosts:
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
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started, problem, rounds, after_first_kb = time.monotonic(), "", 0, 0
    while rounds * ROUND < options.messages and not problem:
        try:
            problem = storm(options.seed + rounds)
        except Exception:
            problem = traceback.format_exc()
        rounds += 1
        after_first_kb = after_first_kb or _rss_kb()
    result = {
        "benchmark": "fuzz",
        "messages": rounds * ROUND,
        "seconds": round(time.monotonic() - started, 1),
        "rss_after_first_round_mb": round(after_first_kb / 1024, 1),
        "rss_mb": round(_rss_kb() / 1024, 1),
        "problem": problem and f"seed {options.seed + rounds - 1}: {problem}",
    }
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    sys.exit(1 if problem else 0)


def _rss_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
