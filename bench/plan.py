"""Which benchmarks `python -m bench` runs, with which arguments."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module of this folder that prints one JSON object with --json, once for each tuple of arguments."""

    name: str
    says: str
    full: tuple[tuple[str, ...], ...] = ((),)
    quick: tuple[tuple[str, ...], ...] = ((),)

    def runs(self, quick: bool) -> tuple[tuple[str, ...], ...]:
        return self.quick if quick else self.full

    @property
    def exists(self) -> bool:
        """Whether the module is there."""
        return find_spec(f"bench.{self.name}") is not None


def _media(calls: tuple[int, ...], seconds: int) -> tuple[tuple[str, ...], ...]:
    return tuple(
        ("--calls", str(count), "--io", io, "--seconds", str(seconds))
        for count in calls
        for io in ("epoll", "io_uring")
    )


# As many calls as one plane bears, on good lines and on bad ones.
_MANY: Final = tuple(("--calls", "2000", "--io", "io_uring", "--loss", loss) for loss in ("0", "0.01"))

BENCHMARKS: Final = (
    Benchmark("media", "the media plane beside a bare C echo", _media((100, 500, 1000), 10) + _MANY, _media((500,), 5)),
    Benchmark("stages", "where the time of a tick goes", quick=(("--rows", "500"),)),
    Benchmark("isolation", "pacing while the other planes misbehave", quick=(("--calls", "50", "--seconds", "4"),)),
    Benchmark("freeze", "a media plane that the host stops for a moment", quick=(("--calls", "100"),)),
    Benchmark("peers", "the same calls through ours and through others", quick=(("--calls", "100", "--seconds", "4"),)),
    Benchmark("quality", "what loss and jitter leave of speech", quick=(("--quick",),)),
    Benchmark("vad", "the ears", quick=(("--calls", "10"),)),
    Benchmark("pipeline", "frames through a pipeline, beside pipecat"),
    Benchmark("setup", "calls set up a second", quick=(("--rates", "100", "150", "--seconds", "3"),)),
    Benchmark("startup", "from the command to REGISTERed", quick=(("--runs", "1"),)),
    Benchmark("overload", "more calls than there is room for"),
    Benchmark("soak", "what thousands of calls leave behind"),
    Benchmark("misfortune", "calls of all kinds while processes die", quick=(("--seconds", "10"),)),
)
