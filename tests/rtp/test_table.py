"""The segment of shared memory itself."""

import os

import pytest

from sipagent.rtp.table import CallTable, segment_size


def test_no_process_can_take_the_segment_from_under_the_others() -> None:
    table, fd = CallTable.create(2)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    table.counters[1] += 1  # SIGBUS, if it were gone
    assert os.fstat(fd).st_size == segment_size(2)
    os.close(fd)
