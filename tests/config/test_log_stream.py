"""Whoever logs never waits for whoever reads the log, and hears nothing of a reader that has gone."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import pytest

from sipagent.service import log_stream
from sipagent.service.log_stream import LogStream


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def read_all(fd: int, until: bytes) -> bytes:
    text = b""
    while until not in text:
        text += os.read(fd, 1 << 20)
    return text


def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], lambda lines: None)
    for number in range(100):
        stream.write(f"{number}\n")
    assert read_all(pipe[0], b"99\n").decode().split() == [str(number) for number in range(100)]


def test_a_pipe_that_nobody_reads_stops_nobody_and_what_was_lost_is_told(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "MAX_WAITING", 50)
    told = threading.Event()
    lost: list[int] = []
    stream = LogStream(pipe[1], lambda lines: (lost.append(lines), told.set())[0])
    stream.write("x" * (1 << 17) + "\n")  # more than a pipe holds
    while stream._waiting:  # the thread has taken it, and is stuck
        time.sleep(0.001)
    began = time.monotonic()
    for number in range(80):
        stream.write(f"{number}\n")
    stream.settle(0.01)
    assert time.monotonic() - began < 1.0
    text = read_all(pipe[0], b"\n49\n")
    assert b"\n50\n" not in text
    assert told.wait(5) and lost == [30]


def test_a_reader_that_has_gone_is_borne(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    stream = LogStream(pipe[1], lambda lines: None)
    stream.write("anybody?\n")
    stream.settle(5)
    stream.write("still here\n")
    stream.settle(5)
    assert not stream._waiting and not stream._writing
