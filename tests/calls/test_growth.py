"""What is kept of calls that are over is bounded: after a warm-up a thousand more calls leave no more behind."""

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Callable

from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.sip import engine as sip
from tests.calls.board import Board
from tests.support.sipnet import SDP, VirtualNetwork

A, B = "10.0.0.1", "10.0.0.2"
SIP_WARM_UP, CONTROL_WARM_UP = 250, 1050  # calls, more than ladders and call control keep
FLAT_BYTES = 100_000  # some tables are grown in steps; a leak is a kilobyte or more of each call


async def growth(one: Callable[[], None], warm_up: int, more: int) -> int:
    """Bytes that Python holds after `more` times `one` beyond those after `warm_up` times."""
    tracemalloc.start()
    try:
        held = []
        for count in (warm_up, more):
            for _ in range(count):
                one()
                await asyncio.sleep(0)  # the event loop lets go of cancelled timers
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return held[1] - held[0]


async def sip_growth(more: int) -> int:
    """Of two user agents that call each other."""
    net = VirtualNetwork()
    caller, callee = net.host(A), net.host(B)

    def answer(event: sip.EngineEvent) -> None:
        if isinstance(event, sip.IncomingCall):
            callee.agent.answer(event.handle, SDP, (), callee.now)

    def one() -> None:
        handle = caller.agent.place(sip.PlaceCall(f"sip:bob@{B}", "", SDP), net.now)
        net.run(1)
        call = caller.agent.call(handle)
        assert call is not None
        call.hangup((), net.now)
        net.run(40)  # the longest timers
        for host in (caller, callee):
            for log in (host.sent, host.received, host.events):
                log.clear()

    callee.react = answer
    return await growth(one, SIP_WARM_UP, more)


async def control_growth(more: int) -> int:
    """Of call control; every call leaves three lines."""
    board = Board(rows=CONTROL_WARM_UP + more)  # a row rests after its call

    def one() -> None:
        call = board.incoming()
        for number in range(3):
            call.note("transcript", number=number, text=f"{random.random():.17f} was said")
        board.control.on_engine(sip.Ended(call.handle, "remote"))
        board.says(messages.Finished(call.id, (), {}, {}))
        assert call.place is not None
        board.control.on_media(0, media.RowClosed(call.place.row, call.place.generation, {}, {}))
        assert not board.life.live, "the call is over"
        for log in (board.engine.asked, board.plane.commands, board.worker.heard):
            log.clear()

    return await growth(one, CONTROL_WARM_UP, more)


async def test_calls_that_are_over_leave_nothing_behind_in_sip() -> None:
    assert await sip_growth(150) < FLAT_BYTES


async def test_calls_that_are_over_leave_nothing_behind_in_call_control() -> None:
    assert await control_growth(200) < FLAT_BYTES
