"""Memory of a process that runs for months.

Calls leave cycles behind, which only a collection finds, and holes in the heap, which glibc keeps. Neither is a leak,
but both look like one from outside, and memory that is never given back is taken from others.
"""

import asyncio
import ctypes
import gc
from typing import Final

EVERY_S: Final = 30.0


def settle() -> None:
    """The process has started: what it holds now is for ever, and no collection need look at it again."""
    gc.collect()
    gc.freeze()


async def watch() -> None:
    """Give back what is not needed, for ever."""
    while True:
        await asyncio.sleep(EVERY_S)
        give_back()


def give_back() -> None:
    """Collect what calls left behind, and return the heap's free pages to the kernel; a few milliseconds."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
