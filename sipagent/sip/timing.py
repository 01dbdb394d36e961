"""Timer values (RFC 3261 §17.1.1.1) and the two helpers that all machines share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimerSettings:
    """T1, T2 and T4 in seconds; all other timers follow from them (RFC 3261 table 4)."""

    t1_s: float = 0.5  # estimate of the round trip
    t2_s: float = 4.0  # longest gap between repeats of a non-INVITE request and of a 2xx
    t4_s: float = 5.0  # longest life of a message in the network

    @property
    def give_up_s(self) -> float:
        """Timers B, F, H, L, M and the wait for an ACK or a PRACK: 64*T1."""
        return 64 * self.t1_s

    @property
    def next_target_s(self) -> float:
        """How long an INVITE may go without any response before the next server is tried beside it: 8*T1."""
        return 8 * self.t1_s

    @property
    def timer_d_s(self) -> float:
        """RFC 3261 §17.1.1.2: at least 32 s over UDP."""
        return max(32.0, 64 * self.t1_s) if self.t1_s >= 0.5 else 64 * self.t1_s


class Repeater:
    """When to send again what must be acknowledged end to end: a 2xx until ACK, a reliable 18x until PRACK."""

    def __init__(self, settings: TimerSettings, now: float, cap_s: float | None = None) -> None:
        self._interval_s = settings.t1_s
        self._cap_s = cap_s
        self._next = now + settings.t1_s
        self._end = now + settings.give_up_s

    @property
    def deadline(self) -> float:
        """When `due` wants to be asked."""
        return min(self._next, self._end)

    def expired(self, now: float) -> bool:
        """64*T1 have passed."""
        return now >= self._end

    def due(self, now: float) -> bool:
        """Whether to repeat now; moves on to the next time, twice as far away."""
        if now < self._next:
            return False
        self._interval_s *= 2
        if self._cap_s is not None:
            self._interval_s = min(self._interval_s, self._cap_s)
        self._next = now + self._interval_s
        return True


def earliest(*deadlines: float | None) -> float | None:
    """The first of several deadlines, None when there is none."""
    present = [deadline for deadline in deadlines if deadline is not None]
    return min(present, default=None)
