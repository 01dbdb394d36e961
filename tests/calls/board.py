"""Call control with nothing behind it: an engine, a media plane and a worker that write down what they are told."""

import itertools
from collections.abc import Mapping
from typing import Any

from sipagent.calls.call import Call, CallState
from sipagent.calls.control import CallControl
from sipagent.calls.lifecycle import Lifecycle
from sipagent.errors import LocalError
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.service.config.tree import Config, Route, Trunk
from sipagent.service.config.tree import Media as MediaConfig
from sipagent.sip import engine as sip

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 30000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
CONFIG = Config(
    trunk=(Trunk("office", "sip:127.0.0.1:5099", username="agent", register=False),),
    route=(Route("a:B"),),
    media=MediaConfig(address="127.0.0.1"),
)


class FakeEngine:
    """Every method is written down as (name, handle or call, further arguments)."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.places_nothing = False
        self._numbers = itertools.count(1)

    def place(self, call: sip.PlaceCall) -> str:
        if self.places_nothing:
            raise LocalError("no address")
        handle = f"out{next(self._numbers)}"
        self.asked.append(("place", handle, call))
        return handle

    def ladder(self, handle: str) -> tuple[Any, ...]:
        return ()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.asked.append((name, *arguments))

    def to(self, handle: str) -> list[tuple[Any, ...]]:
        """What was asked about a call, without its handle."""
        return [(name, *rest) for name, about, *rest in self.asked if about == handle]

    def names(self, handle: str) -> list[str]:
        return [name for name, *_ in self.to(handle)]


class FakePlane:
    """A media plane that keeps its commands."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.commands: list[media.Command] = []
        self.late_ms = 0.0

    def pacing_ms(self) -> float:
        return self.late_ms

    def gauges(self, row: int) -> dict[str, float]:
        return {}

    def send(self, command: media.Command) -> None:
        self.commands.append(command)

    def to(self, call: Call) -> list[media.Command]:
        """The commands for the row of a call."""
        assert call.place is not None
        generation = call.place.generation
        return [command for command in self.commands if getattr(command, "generation", 0) == generation]

    def names(self, call: Call) -> list[str]:
        return [type(command).__name__ for command in self.to(call)]


class FakeWorker:
    def __init__(self) -> None:
        self.index = 0
        self.calls: set[str] = set()
        self.heard: list[messages.ToWorker] = []

    def send(self, message: messages.ToWorker) -> None:
        self.heard.append(message)

    def results(self) -> list[str]:
        return [message.outcome for message in self.heard if isinstance(message, messages.TransferResult)]


class FakeWorkers:
    def __init__(self, worker: FakeWorker) -> None:
        self.workers = [worker]

    def pick(self, avoid: int) -> FakeWorker:
        return self.workers[0]


class FakeRecords:
    failures = dropped_notes = 0

    def begin(self, summary: Mapping[str, Any]) -> None: ...

    def note(self, call_id: str, event: Mapping[str, Any]) -> None: ...

    def finish(self, summary: Mapping[str, Any]) -> None: ...


class Board:
    """Drives call control: `incoming` gives a connected call."""

    def __init__(self, config: Config = CONFIG, rows: int = 4, planes: int = 1) -> None:
        self.engine, self.worker = FakeEngine(), FakeWorker()
        self.planes: Any = [FakePlane(number) for number in range(planes)]
        self.plane = self.planes[0]
        workers: Any = FakeWorkers(self.worker)
        engine: Any = self.engine
        paths: Any = None
        self.life = Lifecycle(config, engine, self.planes, workers, paths, FakeRecords())
        self.control = CallControl(self.life)
        for number in range(planes):
            self.up(number, rows)
        self._handles = itertools.count(1)

    def incoming(self, handle: str = "", offer: bytes = SDP) -> Call:
        """A call that came in, was accepted by its brain and acknowledged by its caller."""
        handle = handle or f"in{next(self._handles)}"
        source = ("127.0.0.1", 5099)
        self.control.on_engine(
            sip.IncomingCall(handle, "office", "sip:agent@x", "sip:+4930111@y", "Ada", "sip:agent@x", offer, (), source)
        )
        call = self.life.calls.by_handle(handle)
        assert call is not None
        self.says(messages.Accept(call.id))
        self.control.on_engine(sip.Confirmed(handle))
        self.life.connect(call)
        assert call.state is CallState.CONNECTED
        return call

    def up(self, plane: int, rows: int = 4) -> None:
        """A media plane has bound its ports."""
        first = 4000 + 1000 * plane
        self.control.on_media_ready(plane, media.MediaReady(tuple(range(first, first + 2 * rows, 2)), "epoll"))

    def says(self, message: messages.FromWorker) -> None:
        """The worker speaks."""
        self.control.on_worker(0, message)

    def placed(self) -> tuple[str, sip.PlaceCall]:
        """Handle and request of the call that was placed last."""
        _, handle, request = self._places()[-1]
        return handle, request

    def _places(self) -> list[tuple[Any, ...]]:
        return [asked for asked in self.engine.asked if asked[0] == "place"]

    def second(self) -> Call:
        """The call object of the call placed last."""
        call = self.life.calls.by_handle(self._places()[-1][1])
        assert call is not None
        return call

    def events(self, call: Call, kind: str) -> list[dict[str, Any]]:
        return [event for event in call._events if event["type"] == kind]
