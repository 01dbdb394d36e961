"""How busy a worker's loop is: the longest stall between two questions."""

import asyncio
from typing import Final

PERIOD_S: Final = 0.05


class LoopLag:
    """Run `watch` in a task; `take_ms` tells the longest stall since it was last asked."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._expected = self._told = self._loop.time()
        self._longest_s = 0.0

    async def watch(self) -> None:
        """Wake up regularly, for ever, and note how late that is."""
        while True:
            self._expected = self._loop.time() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            self._longest_s = max(self._longest_s, self._late_s())

    def take_ms(self) -> float:
        """The longest stall since the last call, the present one included."""
        longest_s = max(self._longest_s, self._late_s())
        self._longest_s, self._told = 0.0, self._loop.time()
        return longest_s * 1e3

    def _late_s(self) -> float:
        return max(self._loop.time() - max(self._expected, self._told), 0.0)
