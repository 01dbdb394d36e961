"""The records' tables and the statements over them; blocking, for one thread only.

One row in `calls` for each call, written when it begins and completed when it ends. A row without an outcome, found at
the start, belongs to a call that was lost with the process before.
"""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection, make_url

LOST: Final = "lost"

METADATA: Final = MetaData()
CALLS: Final = Table(
    "calls",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column(
        "owner", String(255), nullable=False, index=True
    ),  # the service that wrote it, where several share a database
    Column("direction", String(16), nullable=False),
    Column("from", String(256), nullable=False),
    Column("from_name", String(256), nullable=False, default=""),
    Column("to", String(256), nullable=False),
    Column("trunk", String(64), nullable=False, default=""),
    Column("brain", String(256), nullable=False, default=""),
    Column("stir", JSON, default=dict),  # who vouched for the caller's number
    Column("state", String(16), nullable=False),
    Column("outcome", String(32), index=True),  # NULL while the call lasts
    Column("ended_by", String(32), nullable=False, default=""),
    Column("status", Integer, nullable=False, default=0),
    Column("reason", Text, nullable=False, default=""),
    Column("q850", Integer, nullable=False, default=0),
    Column("started_at", Float, nullable=False, index=True),  # Unix seconds
    Column("times", JSON, nullable=False, default=dict),  # Unix seconds by state
    Column("duration_seconds", Float, nullable=False, default=0.0),  # from the answer
    Column("takeovers", Integer, nullable=False, default=0),
    Column("redirects", JSON, default=list),  # addresses that 3xx responses named, with what became of them
    Column("disposition", Text, nullable=False, default=""),
    Column("collected_vars", JSON, nullable=False, default=dict),
    Column("usage", JSON, nullable=False, default=dict),
    Column("gauges", JSON, nullable=False, default=dict),  # quality, by the names of rtp/table.py
    Column("counters", JSON, nullable=False, default=dict),
    Column("recording", Text, nullable=False, default=""),
    Column("recording_problem", Text, nullable=False, default=""),
)
TRANSCRIPT: Final = Table(
    "transcript",
    METADATA,
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # from 0
    Column("role", String(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("line", JSON, nullable=False),  # the whole line, as the conversation left it
)
EVENTS: Final = Table(
    "events",
    METADATA,
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # from 1
    Column("type", String(32), nullable=False),
    Column("at", Float, nullable=False),  # Unix seconds
    Column("data", JSON, nullable=False),
)


class Database:
    """The tables behind an SQLAlchemy URL, "" = SQLite in `directory`."""

    def __init__(self, url: str, directory: Path) -> None:
        self._engine = _engine(url, directory)
        self._owner = f"{socket.gethostname()}:{directory}"[:255]
        METADATA.create_all(self._engine)
        _add_missing_columns(self._engine)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def mark_lost(self) -> Sequence[str]:
        """Give the calls that a dead process left behind their outcome; returns their ids."""
        unfinished = (CALLS.c.owner == self._owner) & CALLS.c.outcome.is_(None)
        with self._engine.begin() as connection:
            lost = connection.execute(select(CALLS.c.id).where(unfinished)).scalars().all()
            values = {"outcome": LOST, "state": "ended", "reason": "the service died during the call"}
            connection.execute(update(CALLS).where(unfinished).values(values))
        return lost

    def write(self, summary: Mapping[str, Any]) -> None:
        """Insert or complete the row of a call, with its transcript; a second time changes nothing."""
        values = {column.name: summary[column.name] for column in CALLS.columns if summary.get(column.name) is not None}
        values["owner"] = self._owner
        with self._engine.begin() as connection:
            known = connection.execute(update(CALLS).where(CALLS.c.id == summary["id"]).values(values)).rowcount
            if not known:
                connection.execute(insert(CALLS).values(values))
            _write_transcript(connection, summary["id"], summary.get("transcript") or ())

    def add_events(self, call_id: str, events: Iterable[Mapping[str, Any]]) -> None:
        """Keep events of a call: each with `id`, `type` and `at`, and what else it holds."""
        rows = [
            {
                "call_id": call_id,
                "number": one["id"],
                "type": one["type"],
                "at": one["at"],
                "data": {key: value for key, value in one.items() if key not in ("id", "type", "at")},
            }
            for one in events
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(insert(EVENTS), rows)

    def get(self, call_id: str) -> dict[str, Any] | None:
        """One record with its transcript and events; None when there is none."""
        with self._engine.connect() as connection:
            row = connection.execute(select(CALLS).where(CALLS.c.id == call_id)).mappings().one_or_none()
            if row is None:
                return None
            lines = select(TRANSCRIPT.c.line).where(TRANSCRIPT.c.call_id == call_id).order_by(TRANSCRIPT.c.number)
            events = select(EVENTS).where(EVENTS.c.call_id == call_id).order_by(EVENTS.c.number)
            return {
                **row,
                "transcript": list(connection.execute(lines).scalars()),
                "events": [
                    {"id": one["number"], "type": one["type"], "at": one["at"], **one["data"]}
                    for one in connection.execute(events).mappings()
                ],
            }

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last records, newest first, without transcripts."""
        with self._engine.connect() as connection:
            query = select(CALLS).order_by(CALLS.c.started_at.desc(), CALLS.c.id).limit(limit)
            return [dict(row) for row in connection.execute(query).mappings()]

    def delete_before(self, started_at: float) -> list[tuple[str, str]]:
        """Delete ended calls that began earlier; returns (id, recording) of each."""
        old = (CALLS.c.started_at < started_at) & CALLS.c.outcome.is_not(None) & (CALLS.c.owner == self._owner)
        with self._engine.begin() as connection:
            gone = [
                (row.id, row.recording) for row in connection.execute(select(CALLS.c.id, CALLS.c.recording).where(old))
            ]
            ids = select(CALLS.c.id).where(old)
            connection.execute(delete(TRANSCRIPT).where(TRANSCRIPT.c.call_id.in_(ids)))
            connection.execute(delete(EVENTS).where(EVENTS.c.call_id.in_(ids)))
            connection.execute(delete(CALLS).where(old))
        return gone


def _add_missing_columns(engine: Engine) -> None:
    """A database of an earlier version lacks the columns that came later; all of those may be NULL."""
    known = {column["name"] for column in inspect(engine).get_columns(CALLS.name)}
    with engine.begin() as connection:
        for column in CALLS.columns:
            if column.name not in known:
                kind = column.type.compile(engine.dialect)
                connection.execute(text(f"ALTER TABLE {CALLS.name} ADD COLUMN {column.name} {kind}"))


def _write_transcript(connection: Connection, call_id: str, lines: Iterable[Mapping[str, Any]]) -> None:
    rows = [
        {
            "call_id": call_id,
            "number": number,
            "role": str(line.get("role", "")),
            "text": str(line.get("text", "")),
            "line": dict(line),
        }
        for number, line in enumerate(lines)
    ]
    connection.execute(delete(TRANSCRIPT).where(TRANSCRIPT.c.call_id == call_id))
    if rows:
        connection.execute(insert(TRANSCRIPT), rows)


def _engine(url: str, directory: Path) -> Engine:
    if not url:
        path = directory / "calls.sqlite3"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # SQLite would make it readable for all
        url = f"sqlite:///{path}"
    engine = create_engine(url)
    if make_url(url).get_backend_name() == "sqlite":

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, record: object) -> None:
            cursor = connection.cursor()
            # Readers do not stop the writer, and a crash of the process (not of the machine) loses nothing.
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute("PRAGMA busy_timeout=5000")
            cursor.close()

    return engine
