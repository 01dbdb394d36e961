"""What a worker does for many rows at once: echo, and finding those that moved."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from sipagent.rtp.table import RX_RING, TX_RING, CallTable
from sipagent.service.worker.echo_rows import BLOCK, EchoRows
from sipagent.service.worker.wake import RowWatch


@pytest.fixture
def table() -> Iterator[CallTable]:
    made, fd = CallTable.create(8)
    made.generation[:], made.active[:], made.rate_hz[:] = 5, 1, 8000
    yield made
    os.close(fd)


def receive(table: CallTable, row: int, pcm: NDArray[np.int16]) -> None:
    head = int(table.rx_head[row])
    table.rx_pcm[row, (head + np.arange(len(pcm))) % RX_RING] = pcm
    table.rx_head[row] = head + len(pcm)


def take(table: CallTable, row: int) -> NDArray[np.int16]:
    """What the media plane would send now."""
    read, head = int(table.tx_read[row]), int(table.tx_head[row])
    out: NDArray[np.int16] = table.tx_pcm[row, np.arange(read, head) % TX_RING].copy()
    table.tx_read[row] = head
    return out


def test_every_echoing_row_hears_itself_whatever_its_pace(table: CallTable) -> None:
    random = np.random.default_rng(1)
    echo = EchoRows(table)
    rows = (1, 3, 6)
    table.rx_head[:] = RX_RING - 200
    table.tx_head[:] = table.tx_read[:] = TX_RING - 100
    for row in rows:
        echo.add(row, 5)
    said: dict[int, list[NDArray[np.int16]]] = {row: [] for row in rows}
    heard: dict[int, list[NDArray[np.int16]]] = {row: [] for row in rows}
    for _ in range(50):
        for row in rows:
            pcm = random.integers(-9000, 9000, int(random.choice([0, 80, 160, 240, 480])), np.int16)
            receive(table, row, pcm)
            said[row].append(pcm)
        echo.poll()
        for row in rows:
            heard[row].append(take(table, row))
    for row in rows:
        sent, echoed = np.concatenate(said[row]), np.concatenate(heard[row])
        silence = int(np.flatnonzero(echoed)[0])
        assert silence < 2 * BLOCK, "the clocks are brought to whole blocks by less than one block each"
        echoed = echoed[silence:]
        sent = sent[int(np.flatnonzero(sent)[0]) :]
        assert np.array_equal(echoed, sent[: len(echoed)]) and len(sent) - len(echoed) < BLOCK
    assert table.tx_head[0] == TX_RING - 100


def test_a_row_that_is_removed_or_was_given_away_is_not_echoed(table: CallTable) -> None:
    echo = EchoRows(table)
    echo.add(1, 5)
    echo.add(2, 5)
    echo.remove(1)
    table.generation[2] = 6
    for row in (1, 2):
        receive(table, row, np.ones(160, np.int16))
    echo.poll()
    assert not table.tx_head.any()


def test_a_line_that_does_not_send_does_not_pile_up_an_echo(table: CallTable) -> None:
    echo = EchoRows(table)
    echo.add(1, 5)
    for _ in range(200):
        receive(table, 1, np.ones(160, np.int16))
        echo.poll()
    assert 8000 <= table.tx_head[1] <= 8160 + 160


def test_what_a_stall_has_left_waiting_is_given_up(table: CallTable) -> None:
    """A worker that slept for 300 ms would otherwise echo with 300 ms of delay for the rest of the call."""
    echo = EchoRows(table)
    echo.add(1, 5)

    def waiting() -> int:
        return int(table.tx_head[1] - table.tx_read[1])

    def go_on(packets: int) -> None:
        for _ in range(packets):
            receive(table, 1, np.ones(160, np.int16))
            echo.poll()
            table.tx_read[1] += min(160, waiting())

    go_on(60)
    assert waiting() == 0
    receive(table, 1, np.ones(15 * 160, np.int16))  # … while the line was sent silence
    echo.poll()
    assert waiting() == 15 * 160
    go_on(120)
    assert waiting() <= 160
    before = int(table.tx_head[1])
    go_on(100)
    assert table.tx_head[1] - before == 100 * 160, "a line that goes on as it should loses nothing"


class Item:
    def __init__(self) -> None:
        self.polls = 0

    def poll(self) -> None:
        self.polls += 1


def test_only_rows_that_moved_are_polled(table: CallTable) -> None:
    watch: RowWatch[Item] = RowWatch(table)
    items = {row: Item() for row in (0, 4, 7)}
    for row, item in items.items():
        watch.add(row, item)
    assert len(list(watch.moved())) == 3
    assert list(watch.moved()) == []
    table.rx_head[4] += 160
    table.rx_head[5] += 160
    assert list(watch.moved()) == [items[4]]
    table.tx_read[0] += 160
    table.speech_count[7] += 1
    assert list(watch.moved()) == [items[0], items[7]]
    watch.remove(0)
    list(watch.moved())
    table.tx_read[0] += 160
    assert list(watch.moved()) == []
