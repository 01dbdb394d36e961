"""What happens to the processes of a service: they are killed, the host stops them, they read their configuration."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from typing import Any, Final

from tests.support.service import Service

KINDS: Final = ("kill media", "kill ears", "kill worker", "stop media", "stop worker", "stop signalling", "reload")
LONGEST_STOP_S: Final = 2.0


async def do(agent: Service, chance: random.Random, happened: Counter[str]) -> None:
    """One of them, to a process that `chance` picks; counted in `happened`."""
    kind = chance.choice(KINDS)
    happened[kind] += 1
    pid = chance.choice(_pids(await agent.health(), agent)[kind.split()[-1]])
    with contextlib.suppress(ProcessLookupError):
        if kind.startswith("kill"):
            os.kill(pid, signal.SIGKILL)
        elif kind == "reload":
            os.kill(pid, signal.SIGHUP)
        else:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.1, LONGEST_STOP_S))
            os.kill(pid, signal.SIGCONT)


def _pids(health: dict[str, Any], agent: Service) -> dict[str, list[int]]:
    ours = [agent.process.pid]
    return {
        "media": [plane["media"] for plane in health["planes"]],
        "ears": [plane["ears"] for plane in health["planes"]],
        "worker": [worker["pid"] for worker in health["workers"] if worker["pid"]] or ours,
        "signalling": ours,
        "reload": ours,
    }
