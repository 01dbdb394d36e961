"""Runs a model that sits in this process: one thread each, so that the event loop never waits for arithmetic."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Inference:
    """A thread for one model. Requests queue in order; one whose caller has given up is not begun."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `function(*args)`, computed in the thread."""
        future = self._pool.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)  # cancelling it cancels a request that still queues

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._pool.shutdown(wait=False, cancel_futures=True)
