"""The sweep, with each side of a call injured in turn: what is left over is named and mended at the second look."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from sipagent.calls.call import CallState
from sipagent.calls.control import CallControl
from sipagent.calls.lifecycle import Lifecycle
from sipagent.rtp import control as media
from sipagent.rtp.table import CallTable
from sipagent.service import messages
from sipagent.service.config.tree import Config
from sipagent.service.recordings import RecordingPaths
from sipagent.service.workers import Duty, Worker
from sipagent.sip import engine as sip
from sipagent.sip.ladder import Message, Observer

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n"


class Engine:
    """Knows its dialogs, and what it was asked."""

    def __init__(self) -> None:
        self.alive: set[str] = set()
        self.hung_up: list[str] = []

    def handles(self) -> tuple[str, ...]:
        return tuple(self.alive)

    def local_address(self, handle: str, trunk: str = "") -> str:
        return "127.0.0.1"

    def ladder(self, handle: str) -> tuple[Message, ...]:
        return ()

    def observe(self, observer: Observer) -> None: ...

    def ring(self, handle: str, headers: sip.HeaderList = ()) -> None: ...

    def answer(self, handle: str, body: bytes, headers: sip.HeaderList = ()) -> None: ...

    def hangup(self, handle: str, headers: sip.HeaderList = ()) -> None:
        self.hung_up.append(handle)
        self.alive.discard(handle)


class Plane:
    """Opens and closes rows as it is told."""

    number = 0

    def __init__(self) -> None:
        self.table, self._fd = CallTable.create(4)
        self.ready = asyncio.Event()
        self.ready.set()
        self.closed: list[int] = []

    def pacing_ms(self) -> float:
        return 0.0

    def send(self, command: media.Command) -> None:
        if isinstance(command, media.OpenRow):
            self.table.active[command.row], self.table.generation[command.row] = 1, command.generation
        elif isinstance(command, media.CloseRow):
            self.table.active[command.row] = 0
            self.closed.append(command.row)


class Pool:
    """One worker, which leads what it is offered."""

    def __init__(self) -> None:
        self.only = Worker(0)
        self.only.duty, self.only.ready = Duty.SERVING, True
        self.only.send = self.sent  # type: ignore[method-assign]
        self.workers = self.on_duty = [self.only]
        self.told: list[messages.ToWorker] = []

    def sent(self, message: messages.ToWorker) -> None:
        self.told.append(message)
        if isinstance(message, messages.Offer):
            self.only.leads |= {message.call_id}

    def pick(self, avoid: int = -1) -> Worker:
        return self.only


class Records:
    failures = dropped_notes = 0

    def begin(self, summary: object) -> None: ...

    def note(self, call_id: str, event: object) -> None: ...

    def finish(self, summary: object) -> None: ...


class Bench:
    """Call control over the three sides, with one call that is connected."""

    def __init__(self, folder: Path) -> None:
        config = msgspec.convert({"records": {"directory": str(folder)}, "route": [{"brain": "x:X"}]}, Config)
        self.engine, self.plane, self.pool = Engine(), Plane(), Pool()
        self.life = Lifecycle(config, self.engine, [self.plane], self.pool, RecordingPaths(config), Records())  # type: ignore[arg-type, list-item]
        self.control = CallControl(self.life)
        self.control.on_media_ready(0, media.MediaReady((9000, 9002, 9004, 9006), "epoll"))
        self.engine.alive.add("dialog")
        self.control.on_engine(
            sip.IncomingCall("dialog", "", "sip:1@h", "sip:2@h", "", "sip:1@h", OFFER, (), ("127.0.0.1", 5060))
        )
        (self.call,) = self.life.calls.all()
        self.control.on_worker(0, messages.Accept(self.call.id))
        self.control.on_engine(sip.Confirmed("dialog"))
        self.life.connect(self.call)
        assert self.call.state is CallState.CONNECTED

    def look(self, times: int = 1) -> list[str]:
        """Look; gives what was named as an orphan."""
        named = []
        for _ in range(times):
            self.pool.only.last_pong_at = self.life.loop.time()
            with capture_logs() as lines:
                self.control.sweep.look()
            named += [line["what"] for line in lines if line["event"] == "orphan"]
        return named


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_healthy_call_is_left_alone(bench: Bench) -> None:
    assert bench.look(3) == []
    assert bench.call.alive and bench.life.orphans == {}


async def test_a_dialog_without_a_call_gets_bye_at_the_second_look(bench: Bench) -> None:
    bench.engine.alive.add("forgotten")
    assert bench.look() == []
    assert bench.engine.hung_up == []
    assert bench.look() == ["dialog_without_call"]
    assert bench.engine.hung_up == ["forgotten"]
    assert bench.life.orphans == {"dialog_without_call": 1}
    assert bench.look(2) == []


async def test_a_call_whose_dialog_is_gone_is_ended(bench: Bench) -> None:
    bench.engine.alive.clear()
    assert bench.look(2) == ["call_without_dialog"]
    assert not bench.call.alive and bench.plane.closed == [bench.call.place.row]  # type: ignore[union-attr]


async def test_a_row_without_a_call_is_closed(bench: Bench) -> None:
    bench.plane.table.active[3], bench.plane.table.generation[3] = 1, 77
    assert bench.look(2) == ["row_without_call"]
    assert bench.plane.closed == [3]


async def test_a_call_whose_row_is_closed_gets_bye(bench: Bench) -> None:
    assert bench.call.place is not None
    bench.plane.table.active[bench.call.place.row] = 0
    assert bench.look(2) == ["call_without_row"]
    assert bench.engine.hung_up == ["dialog"]


async def test_a_row_that_was_never_given_back_is_free_again(bench: Bench) -> None:
    now = bench.life.loop.time()
    assert bench.life.rows.take(now) is not None
    free = bench.life.rows.free(now)
    assert bench.look(2) == ["row_not_given_back"]
    assert bench.life.rows.free(now + 60) == free + 1


async def test_a_conversation_without_a_call_is_told_that_it_is_over(bench: Bench) -> None:
    bench.pool.only.leads |= {"unknown"}
    assert bench.look(2) == ["conversation_without_call"]
    assert messages.Ended("unknown", "the call is over") in bench.pool.told


async def test_a_call_whose_conversation_is_gone_is_offered_again(bench: Bench) -> None:
    bench.pool.only.leads = frozenset()
    assert bench.look(2) == ["call_without_conversation"]
    offer = bench.pool.told[-1]
    assert isinstance(offer, messages.Offer) and offer.resumed and offer.call_id == bench.call.id


async def test_a_call_whose_conversation_has_finished_without_hanging_up_gets_bye(bench: Bench) -> None:
    bench.control.on_worker(0, messages.Finished(bench.call.id, (), {}, {}))
    bench.pool.only.leads = frozenset()
    assert bench.look(2) == ["call_without_conversation"]
    assert bench.engine.hung_up == ["dialog"]


async def test_the_list_of_a_worker_that_does_not_answer_is_not_believed(bench: Bench) -> None:
    bench.pool.only.leads = frozenset()
    for _ in range(3):
        bench.pool.only.last_pong_at = bench.life.loop.time() - 5
        bench.control.sweep.look()
    assert bench.life.orphans == {}


async def test_the_load_of_a_call_that_is_over_is_taken_off_its_worker(bench: Bench) -> None:
    bench.pool.only.calls.add("over")
    assert bench.look(2) == ["load_without_call"]
    assert bench.pool.only.calls == {bench.call.id}


async def test_variables_that_a_brain_has_set_go_to_the_worker_that_takes_over(bench: Bench) -> None:
    bench.control.on_worker(0, messages.CallEvent(bench.call.id, "variable", {"name": "city", "value": "Oslo"}))
    bench.control.on_worker_lost(0)
    offer = bench.pool.told[-1]
    assert isinstance(offer, messages.Offer) and offer.variables == {"city": "Oslo"}
