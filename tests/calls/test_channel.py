"""Messages between processes keep their order and never block the sender."""

import asyncio

from sipagent.service import channel
from sipagent.service.messages import FromWorker, Ping, Pong, ToWorker


async def test_messages_queue_behind_a_slow_reader_and_arrive_in_order() -> None:
    ours, theirs = channel.pair()
    got: list[int] = []
    done = asyncio.Event()

    def take(message: ToWorker) -> None:
        assert isinstance(message, Ping)
        got.append(message.number)
        if len(got) == 5000:
            done.set()

    sender = channel.Channel[FromWorker](ours, FromWorker, lambda message: None, lambda: None)
    for number in range(5000):
        sender.send(Ping(number))
    receiver = channel.Channel[ToWorker](theirs, ToWorker, take, lambda: None)
    await asyncio.wait_for(done.wait(), 10)
    assert got == list(range(5000))
    sender.close()
    receiver.close()
    await asyncio.sleep(0)


async def test_the_end_of_the_other_side_is_told_once() -> None:
    ours, theirs = channel.pair()
    closed = asyncio.Event()
    end = channel.Channel[FromWorker](ours, FromWorker, lambda message: None, closed.set)
    theirs.close()
    await asyncio.wait_for(closed.wait(), 5)
    end.send(Pong(1, 0.0))  # type: ignore[arg-type]
