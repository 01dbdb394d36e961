"""The benchmark's callers against far ends whose faults are known."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.loadgen import Compiled
from bench.peers import talker
from sipagent.codecs import g711

CALLS = 2
SECONDS = 100
END_NS = SECONDS * 1_000_000_000


def records(delay_ms: float = 30.0, skip: frozenset[int] = frozenset(), late: dict[int, float] | None = None) -> bytes:
    """What the talker would write beside an echo with that delay; packets in `skip` are lost, `late` in ms."""
    made = []
    for call in range(CALLS):
        for number in range(SECONDS * 50):
            place = number % talker.LOOP_PACKETS
            sent_ns = number * talker.PACKET_NS + call * 7_000_000
            if place == 0:
                made.append((sent_ns, number * 160, call, number & 0xFFFF, 0, talker.SENT, 0))
            if number in skip:
                continue
            at = sent_ns + int((delay_ms + (late or {}).get(number, 0.0)) * 1e6)
            loud = 0 if place < talker.SOUND_PACKETS else -1
            made.append((at, number * 160, call, number & 0xFFFF, loud, talker.RECEIVED, 0))
    return np.array(made, talker.RECORD).tobytes()


def test_a_perfect_echo_loses_nothing_and_shows_its_delay() -> None:
    heard = talker.analyse(talker.read(records(30.0)), CALLS, 0, END_NS)
    assert (heard.silent_calls, heard.sequence_gaps, heard.timestamp_gaps, heard.speech_lost) == (0, 0, 0, 0)
    assert heard.delay_ms["p50"] == heard.delay_ms["max"] == 30.0
    assert heard.pacing_ms["max"] == 0.0
    assert heard.packets == pytest.approx(heard.expected_packets, rel=0.001)


def test_a_lost_packet_is_a_gap_and_lost_speech() -> None:
    heard = talker.analyse(talker.read(records(skip=frozenset({410}))), CALLS, 0, END_NS)
    assert heard.sequence_gaps == CALLS
    assert heard.timestamp_gaps == 0
    assert heard.speech_lost == pytest.approx(1 / (heard.sounds / CALLS * talker.SOUND_PACKETS), abs=1e-4)


def test_one_late_packet_is_the_greatest_pacing_error() -> None:
    heard = talker.analyse(talker.read(records(late={430: 9.0})), CALLS, 0, END_NS)
    assert heard.pacing_ms["max"] == 9.0
    assert heard.pacing_ms["p99"] == 0.0


def test_a_call_without_rtp_is_told() -> None:
    heard = talker.analyse(talker.read(records()), CALLS + 1, 0, END_NS)
    assert heard.silent_calls == 1


def test_records_that_are_cut_off_are_read_to_the_last_whole_one() -> None:
    assert len(talker.read(records()[:-5])) == len(talker.read(records())) - 1


def test_every_packet_of_a_sound_is_loud_and_no_other() -> None:
    pcm = g711.ulaw_decode(np.frombuffer(talker.loop(), np.uint8)).astype(int)
    packets = np.abs(pcm.reshape(talker.LOOP_PACKETS, talker.PACKET))
    assert (packets[: talker.SOUND_PACKETS].max(axis=1) > 4000).all()
    assert packets[0, 0] > 4000  # so that the delay is known to the sample
    assert not packets[talker.SOUND_PACKETS :].any()


@pytest.fixture(scope="module")
def compiled() -> Iterator[Compiled]:
    programs = Compiled()
    yield programs
    programs.close()


def test_the_load_generator_counts_right_beside_a_plain_echo(compiled: Compiled, tmp_path: Path) -> None:
    """Two calls through a UDP echo that swallows every tenth packet of the second one."""
    echo = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CALLS)]
    callers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CALLS)]
    stop = threading.Event()

    def serve(number: int) -> None:
        end = echo[number]
        end.settimeout(0.1)
        while not stop.is_set():
            try:
                data, source = end.recvfrom(2048)
            except TimeoutError:
                continue
            if number == 0 or int.from_bytes(data[2:4], "big") % 10:
                end.sendto(data, source)

    for ours, theirs in zip(callers, echo, strict=True):
        theirs.bind(("127.0.0.1", 0))
        ours.bind(("127.0.0.1", 0))
        ours.connect(theirs.getsockname())
    threads = [threading.Thread(target=serve, args=(number,)) for number in range(CALLS)]
    for thread in threads:
        thread.start()
    (tmp_path / "loop.ulaw").write_bytes(talker.loop())
    descriptors = [end.fileno() for end in callers]
    began = time.time_ns()
    ran = subprocess.run(
        [compiled.program("talker"), str(tmp_path / "loop.ulaw"), "4.5", *map(str, descriptors)],
        pass_fds=descriptors,
        stdout=subprocess.PIPE,
        check=True,
        timeout=30,
    )
    stop.set()
    for thread in threads:
        thread.join()
    for end in (*echo, *callers):
        end.close()
    heard = talker.read(ran.stdout)
    came = heard[heard["kind"] == talker.RECEIVED]
    whole, holed = (came[came["call"] == number] for number in range(CALLS))
    assert (np.diff(whole["sequence"].astype(int)) == 1).all()
    assert len(whole) >= 200
    assert sorted({int(number) % 10 for number in holed["sequence"]}) == list(range(1, 10))
    figures = talker.analyse(heard, CALLS, began, time.time_ns())
    assert figures.silent_calls == 0
    assert figures.sequence_gaps == int((np.diff(holed["sequence"].astype(int)) != 1).sum()) > 15
    assert figures.sounds >= 1
    assert figures.delay_ms["p50"] < 100
