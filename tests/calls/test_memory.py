"""What calls leave in memory is given back to the kernel."""

import asyncio
import gc
import subprocess
import sys

import pytest

from sipagent.service import memory

HOLES = """
from pathlib import Path
from sipagent.service import memory

def rss_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

messages = [bytes(3000) for _ in range(20_000)]
kept = messages[::50]
del messages
before = rss_kb()
memory.give_back()
print(before - rss_kb())
"""


def test_holes_in_the_heap_go_back_to_the_kernel() -> None:
    run = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 20_000, "of 60 MB that are full of holes"


def test_what_is_there_at_the_start_is_left_alone_by_collections() -> None:
    before = gc.get_freeze_count()
    try:
        memory.settle()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


async def test_it_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given = asyncio.Semaphore(0)
    monkeypatch.setattr(memory, "EVERY_S", 0.0)
    monkeypatch.setattr(memory, "give_back", given.release)
    watching = asyncio.create_task(memory.watch())
    for _ in range(3):
        await asyncio.wait_for(given.acquire(), 5)
    watching.cancel()
