"""How often: a token bucket."""


class RateLimit:
    """At most `per_minute` in any minute and `burst` at once; 0 per minute = no limit. `now` is monotonic seconds."""

    def __init__(self, per_minute: int, burst: int = 0) -> None:
        self._at: float | None = None
        self.set(per_minute, burst)

    def set(self, per_minute: int, burst: int = 0) -> None:
        """Another limit from now on."""
        self._per_second = per_minute / 60
        self._capacity = float(burst or max(1, per_minute // 6))  # ten seconds' worth
        self._tokens = self._capacity

    def take(self, now: float) -> float:
        """0 when one more is allowed, else the seconds after which it will be."""
        if not self._per_second:
            return 0.0
        elapsed = now - self._at if self._at is not None else 0.0
        self._at = now
        self._tokens = min(self._capacity, self._tokens + elapsed * self._per_second)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_second
