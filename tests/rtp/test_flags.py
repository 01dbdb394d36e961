"""Which stretches of the ring were received, and which made up: over many rounds, and at every offset in a block."""

import numpy as np
import pytest

from sipagent.rtp.concealer import SilenceInstead
from sipagent.rtp.table import CONCEALED_BLOCK, RX_RING
from sipagent.rtp.timeline import CLEARED, CONCEALED, RECEIVED, SILENCE, Timeline
from tests.rtp.line import new_table

ROUNDS = 4
KEPT = RX_RING - CLEARED - CONCEALED_BLOCK  # of the ring, whose flags are told
PACKETS = (80, 160, 240, 472, 480)  # samples; 472 is no whole number of blocks


@pytest.mark.parametrize("loss", [0.0, 0.003, 0.2])
def test_flags_are_those_of_the_last_eight_seconds(loss: float) -> None:
    random = np.random.default_rng(7)
    table = new_table(3)
    table.rate_hz[:] = 8000
    timeline = Timeline(table, SilenceInstead())
    timeline.reset(np.arange(3))
    made_up = np.zeros((3, ROUNDS * RX_RING + 1024), np.uint8)
    while table.rx_head.min() < ROUNDS * RX_RING:
        rows = np.flatnonzero((random.random(3) < 0.9) & (table.rx_head < ROUNDS * RX_RING))
        samples = int(random.choice(PACKETS))
        lost = random.random(len(rows)) < loss
        flag = np.where(timeline.audible(rows), CONCEALED, SILENCE)
        for row, made in zip(rows[lost].tolist(), flag[lost].tolist(), strict=True):
            made_up[row, table.rx_head[row] : table.rx_head[row] + samples] = made
        if len(rows):
            timeline.fill(rows[lost], np.full(np.count_nonzero(lost), samples))
            timeline.append(rows[~lost], np.ones((np.count_nonzero(~lost), samples), np.int16))
    for row in range(3):
        last = int(table.rx_head[row]) // CONCEALED_BLOCK
        blocks = np.arange(last - KEPT // CONCEALED_BLOCK, last)
        expected = made_up[row, blocks[0] * CONCEALED_BLOCK : last * CONCEALED_BLOCK].reshape(-1, CONCEALED_BLOCK)
        flags = table.rx_concealed[row, blocks & (RX_RING // CONCEALED_BLOCK - 1)]
        assert (flags == expected.max(axis=1)).all()
    assert (made_up.max() > RECEIVED) == (loss > 0)
