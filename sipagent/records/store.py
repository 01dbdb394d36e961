"""Call records for the event loop: every write goes to one thread, in order, and the loop never waits.

`begin` at the INVITE, `finish` at the end, `note` for events in between. A failure to write is logged and counted; it
never touches a call.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from sipagent.errors import ConfigError
from sipagent.records import files
from sipagent.service.config.tree import Records

if TYPE_CHECKING:
    from sipagent.records.database import Database

log = structlog.get_logger(__name__)

MAX_WAITING_NOTES: Final = 10_000  # events that wait for the disk; more are dropped, records never are
EXPIRE_EVERY_SECONDS: Final = 3600.0
Result = TypeVar("Result")


class RecordStore:
    """The records of one service; `open` before anything else, `close` at the end."""

    def __init__(self, settings: Records, now: Callable[[], float] = time.time) -> None:
        self._settings, self._now = settings, now
        self._directory = Path(settings.directory)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        self._database: Database | None = None  # touched by the thread alone
        self._expired_at = 0.0
        self._waiting_notes = 0
        self.failures = 0  # writes that did not succeed
        self.dropped_notes = 0

    async def open(self) -> None:
        """Make directory and tables, and give the calls of a process that died the outcome "lost".

        Raises ConfigError when the directory or the database cannot be had.
        """
        lost = await asyncio.wrap_future(self._thread.submit(self._open))
        if lost:
            log.warning("calls were lost when the service died", calls=len(lost))

    def begin(self, summary: Mapping[str, Any]) -> None:
        """Write the row of a call that has begun; `summary` as `Call.summary()` gives it."""
        self._submit("begin", summary["id"], lambda database: database.write(summary))

    def note(self, call_id: str, event: Mapping[str, Any]) -> None:
        """Keep an event of a call that has begun, so that a crash leaves its trace; dropped when the disk lags."""
        if self._waiting_notes >= MAX_WAITING_NOTES:
            self.dropped_notes += 1
            return
        self._waiting_notes += 1
        self._submit("note", call_id, lambda database: self._write_note(database, call_id, event))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Complete the row and write the transcript's files."""
        self._submit("finish", summary["id"], lambda database: self._finish(database, summary))

    async def get(self, call_id: str) -> dict[str, Any] | None:
        """One record with transcript and events."""
        return await self._ask(lambda database: database.get(call_id))

    async def recent(self, limit: int = 100) -> list[dict[str, Any]]:
        """The last records, newest first."""
        return await self._ask(lambda database: database.recent(limit))

    async def close(self) -> None:
        """Wait until everything is written, then close."""
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown()

    # ---- in the thread

    def _open(self) -> list[str]:
        # SQLAlchemy takes 0.3 s to import: here, while the other planes start.
        from sqlalchemy.exc import SQLAlchemyError

        from sipagent.records.database import Database

        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = Database(self._settings.database, self._directory)
            return list(self._database.mark_lost())
        except OSError as error:
            raise ConfigError(
                "records.directory", f"{self._directory}: {error.strerror}", "name a folder that can be written"
            ) from error
        except (SQLAlchemyError, ImportError) as error:  # ImportError: the driver that the URL names
            raise ConfigError(
                "records.database", f"cannot be opened: {type(error).__name__}", "an SQLAlchemy URL, or leave it empty"
            ) from error

    def _restore(self) -> None:
        """Make the directory anew when somebody has removed it: SQLite would write on into a file without a name."""
        if self._database is not None and not self._directory.is_dir():
            from sipagent.records.database import Database

            log.error("the records' directory has gone, making a new one", directory=str(self._directory))
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database.close()
            self._database = Database(self._settings.database, self._directory)  # no call is lost: none is marked so

    def _write_note(self, database: "Database", call_id: str, event: Mapping[str, Any]) -> None:
        self._waiting_notes -= 1
        database.add_events(call_id, (event,))

    def _finish(self, database: "Database", summary: Mapping[str, Any]) -> None:
        database.write(summary)
        files.write(self._directory, summary)
        self._expire(database)

    def _expire(self, database: "Database") -> None:
        now = self._now()
        if not self._settings.keep_days or now - self._expired_at < EXPIRE_EVERY_SECONDS:
            return
        self._expired_at = now
        gone = database.delete_before(now - self._settings.keep_days * 86400)
        if gone:
            log.info("old records deleted", calls=len(gone), files=files.remove(self._directory, gone))

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    # ---- to the thread

    def _submit(self, what: str, call_id: str, work: "Callable[[Database], None]") -> None:
        def run() -> None:
            self._restore()
            if self._database is not None:
                work(self._database)

        def done(future: Future[None]) -> None:
            error = future.exception()
            if error is not None:
                self.failures += 1
                log.error("record not written", what=what, call_id=call_id, error=repr(error))

        self._thread.submit(run).add_done_callback(done)

    async def _ask(self, query: "Callable[[Database], Result]") -> Result:
        def run() -> Result:
            if self._database is None:
                raise ConfigError("records.database", "is not open")
            return query(self._database)

        return await asyncio.wrap_future(self._thread.submit(run))
