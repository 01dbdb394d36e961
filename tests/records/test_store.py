import asyncio
import contextlib
import json
import shutil
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sipagent.errors import ConfigError
from sipagent.records import files
from sipagent.records import store as store_module
from sipagent.records.store import RecordStore
from sipagent.service.config.tree import Records


def summary(call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {
        "id": call_id,
        "state": "offered",
        "direction": "inbound",
        "from": "+4930123456",
        "from_name": "Ada",
        "to": "+4930999",
        "trunk": "office",
        "brain": "a:B",
        "started_at": 1000.0,
        "times": {"offered": 1000.0},
        "duration_seconds": 0.0,
        "outcome": None,
        **more,
    }


def ended(call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return summary(
        call_id,
        **{
            "state": "ended",
            "outcome": "completed",
            "ended_by": "remote",
            "duration_seconds": 12.5,
            "transcript": [{"role": "assistant", "text": "Hello."}, {"role": "user", "text": "Bye.", "at": 3.5}],
            "collected_vars": {"name": "Ada"},
            "usage": {"stt_seconds": 3.0},
            "gauges": {"mos_in": 4.1},
            **more,
        },
    )


async def test_a_database_of_an_earlier_version_gets_the_columns_that_came_later(tmp_path: Path) -> None:
    directory = tmp_path / "calls"
    store = RecordStore(Records(directory=str(directory)))
    await store.open()
    store.finish(ended("old"))
    await store.close()
    with contextlib.closing(sqlite3.connect(directory / "calls.sqlite3")) as database:
        database.execute("ALTER TABLE calls DROP COLUMN stir")
    store = RecordStore(Records(directory=str(directory)))
    await store.open()
    store.finish(ended("new", stir={"result": "passed"}))
    old, new = await store.get("old"), await store.get("new")
    await store.close()
    assert old is not None and old["stir"] is None and old["outcome"] == "completed"
    assert new is not None and new["stir"] == {"result": "passed"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RecordStore]:
    store = RecordStore(Records(directory=str(tmp_path / "calls")))
    await store.open()
    yield store
    await store.close()


async def test_a_call_is_one_record_written_at_its_begin_and_completed_at_its_end(store: RecordStore) -> None:
    store.begin(summary())
    (begun,) = await store.recent()
    assert (begun["state"], begun["outcome"]) == ("offered", None)
    store.finish(ended())
    (record,) = await store.recent()
    assert (record["outcome"], record["duration_seconds"]) == ("completed", 12.5)
    assert record["collected_vars"] == {"name": "Ada"}
    assert record["gauges"] == {"mos_in": 4.1}
    whole = await store.get("c1")
    assert whole is not None
    assert whole["transcript"] == ended()["transcript"]


async def test_finishing_twice_changes_nothing(store: RecordStore) -> None:
    store.begin(summary())
    store.finish(ended())
    store.finish(ended())
    assert len(await store.recent()) == 1
    assert store.failures == 0


async def test_events_are_kept_in_order(store: RecordStore) -> None:
    store.begin(summary())
    store.note("c1", {"id": 1, "type": "state", "at": 1.0, "state": "ringing"})
    store.note("c1", {"id": 2, "type": "dtmf", "at": 2.0, "digit": "5"})
    record = await store.get("c1")
    assert record is not None
    assert record["events"] == [
        {"id": 1, "type": "state", "at": 1.0, "state": "ringing"},
        {"id": 2, "type": "dtmf", "at": 2.0, "digit": "5"},
    ]


async def test_a_record_tells_where_a_call_was_sent_and_that_it_was_heard_before_it_was_refused(
    store: RecordStore,
) -> None:
    hops = [{"to": "+4930777", "status": 302}, {"to": "sip:a@other.example", "status": 486}]
    times = {"offered": 1000.0, "ringing": 1000.1, "early": 1000.2, "ended": 1009.0}
    store.begin(summary())
    store.finish(ended(redirects=hops, times=times, outcome="rejected", duration_seconds=0.0))
    record = await store.get("c1")
    assert record is not None
    assert (record["redirects"], record["times"], record["duration_seconds"]) == (hops, times, 0.0)


async def test_a_call_that_the_process_did_not_survive_is_lost(tmp_path: Path) -> None:
    settings = Records(directory=str(tmp_path))
    first = RecordStore(settings)
    await first.open()
    first.begin(summary("whole"))
    first.finish(ended("whole"))
    first.begin(summary("torn"))
    await first.close()  # as far as a database can tell, the process died here
    second = RecordStore(settings)
    await second.open()
    outcomes = {record["id"]: (record["state"], record["outcome"]) for record in await second.recent()}
    assert outcomes == {"whole": ("ended", "completed"), "torn": ("ended", "lost")}
    await second.close()


async def test_calls_of_another_service_in_the_same_database_are_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.sqlite3"
    one = RecordStore(Records(directory=str(tmp_path / "one"), database=url))
    other = RecordStore(Records(directory=str(tmp_path / "other"), database=url))
    await one.open()
    one.begin(summary())
    await one.recent()
    await other.open()
    (record,) = await one.recent()
    assert record["outcome"] is None
    await one.close()
    await other.close()


async def test_the_loop_does_not_wait_for_the_disk(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    write = files.write
    monkeypatch.setattr(files, "write", lambda *args: (gate.wait(), write(*args))[1])
    for number in range(50):
        store.finish(ended(f"c{number}"))
    turns = 0
    for _ in range(10):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 10  # nothing is written yet, and the loop turns
    gate.set()
    assert len(await store.recent(100)) == 50


async def test_events_are_dropped_and_counted_when_the_disk_lags(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(store_module, "MAX_WAITING_NOTES", 3)
    store.begin(summary())
    store._thread.submit(gate.wait)
    for number in range(1, 6):
        store.note("c1", {"id": number, "type": "x", "at": 0.0})
    store.finish(ended())
    gate.set()
    record = await store.get("c1")
    assert record is not None
    assert [event["id"] for event in record["events"]] == [1, 2, 3]
    assert store.dropped_notes == 2
    assert record["outcome"] == "completed"


async def test_a_write_that_fails_is_counted_and_the_next_one_goes_on(store: RecordStore) -> None:
    store.note("unknown", {"id": 1, "type": "x", "at": 0.0})  # no such call: the foreign key refuses
    store.begin(summary())
    assert len(await store.recent()) == 1
    assert store.failures == 1


async def test_old_records_go_with_their_files(tmp_path: Path) -> None:
    now = 1000.0 + 40 * 86400
    store = RecordStore(Records(directory=str(tmp_path), keep_days=30), now=lambda: now)
    await store.open()
    recording = tmp_path / "old.wav"
    recording.write_bytes(b"RIFF")
    for capture in ("old", "old-2", "older", "new"):
        (tmp_path / f"{capture}.pcapng").write_bytes(b"")
    outside = tmp_path.parent / "outside.wav"
    outside.write_bytes(b"RIFF")
    store.begin(summary("talking"))  # old as well, but it still lasts
    store._expired_at = now
    store.finish(ended("old", recording=str(recording)))
    store.finish(ended("stray", recording=str(outside)))
    await store.recent()
    store._expired_at = 0.0
    store.finish(ended("new", started_at=now))
    assert {record["id"] for record in await store.recent()} == {"talking", "new"}
    assert sorted(path.name for path in tmp_path.glob("*.[jtw][sxa][otv]*")) == ["new.json", "new.txt"]
    assert sorted(path.name for path in tmp_path.glob("*.pcapng")) == ["new.pcapng", "older.pcapng"]
    assert outside.exists()
    outside.unlink()
    await store.close()


async def test_only_the_owner_can_read_what_was_said(store: RecordStore, tmp_path: Path) -> None:
    store.finish(ended())
    await store.recent()
    calls = tmp_path / "calls"
    assert stat.S_IMODE(calls.stat().st_mode) == 0o700
    assert {stat.S_IMODE((calls / name).stat().st_mode) for name in ("c1.json", "c1.txt", "calls.sqlite3")} == {0o600}


async def test_the_transcript_lies_beside_the_recording(store: RecordStore, tmp_path: Path) -> None:
    store.finish(ended())
    await store.recent()
    assert (tmp_path / "calls" / "c1.txt").read_text().splitlines() == [
        "inbound call c1",
        "from +4930123456 to +4930999, 1970-01-01 00:16:40 UTC, 12 s",
        "outcome: completed",
        "",
        "agent: Hello.",
        "caller: Bye.",
    ]
    assert json.loads((tmp_path / "calls" / "c1.json").read_text())["collected_vars"] == {"name": "Ada"}


@pytest.mark.parametrize(
    ("records", "field"),
    [
        (Records(directory="/proc/none"), "records.directory"),
        (Records(directory="{}", database="nonsense"), "records.database"),
        (Records(directory="{}", database="postgresql+nodriver://x/y"), "records.database"),
    ],
)
async def test_a_place_that_cannot_be_written_is_a_configuration_error(
    tmp_path: Path, records: Records, field: str
) -> None:
    store = RecordStore(Records(directory=records.directory.format(tmp_path), database=records.database))
    with pytest.raises(ConfigError) as caught:
        await store.open()
    assert caught.value.field == field
    await store.close()


KILLED = """
import asyncio, os, signal, sys
from sipagent.records.store import RecordStore
from sipagent.service.config.tree import Records

async def main():
    store = RecordStore(Records(directory=sys.argv[1]))
    await store.open()
    summary = dict(id="torn", state="offered", direction="inbound", started_at=1.0, times={})
    store.begin(summary | {"from": "+4930123456", "to": "+4930999"})
    store.note("torn", {"id": 1, "type": "transcript", "at": 2.0, "text": "Hello."})
    await store.recent()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_killed_process_leaves_one_record_and_what_was_said(tmp_path: Path) -> None:
    died = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(tmp_path))
    assert await asyncio.wait_for(died.wait(), 60) == -signal.SIGKILL
    store = RecordStore(Records(directory=str(tmp_path)))
    await store.open()
    (record,) = await store.recent()
    assert (record["id"], record["outcome"]) == ("torn", "lost")
    whole = await store.get("torn")
    assert whole is not None
    assert whole["events"][0]["text"] == "Hello."
    await store.close()


async def test_records_go_on_in_a_new_directory_when_the_old_one_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "calls"
    store = RecordStore(Records(directory=str(directory)))
    await store.open()
    store.begin(summary("c1"))
    await store.get("c1")
    shutil.rmtree(directory)
    store.finish(ended("c1"))
    assert [record["outcome"] for record in await store.recent()] == ["completed"]
    await store.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (directory / "c1.json").exists()
    assert store.failures == 0
