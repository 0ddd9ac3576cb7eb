"""Keeps the database behind the journal: folds, indexes, packs, migrates, and copes when the database cannot.

One object per process, with the only writable connection. Its thread runs at low priority; whoever must read drains
on their own thread. A failure is told once, retried with growing pauses, and never reaches whoever records.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from p8.errors import StoreError
from p8.model import Notice
from p8.store import migrations
from p8.store.batch import Outcome
from p8.store.fold import FLOOD_ROWS, Fold, FoldLock
from p8.store.journal import Journal
from p8.store.leases import HEARTBEAT_S
from p8.store.pack import Codec
from p8.store.sqlite import BUSY, Readers, Users, connect, driver, is_corrupt, translate, wal_allowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from p8.store.repair import Report

EVERY_S = 0.05
LOOK_AROUND_S = 10.0  #: how often the files of other processes are looked at unasked
BUSY_BACKGROUND_S = 1.0
PATIENT_S = 10.0  #: how long a read waits for a fold that is going on; for a database that is locked, much shorter
LAST_S = 5.0  #: how long closing waits for what is being done on other threads
Say = Callable[[str, Notice | None], None]


class Keeper:
    """
    Owns the writable connection.

    Args:
        path: the database.
        journal: this process's journal.
        readers: connections that only read it.
        codec: packs what is old.
        users: says that the database is open here.
        say: publishes a notice under a topic, or takes it back.
        clock: microseconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        journal: Journal,
        readers: Readers,
        codec: Codec,
        users: Users,
        say: Say,
        clock: Callable[[], int],
    ) -> None:
        self.path = path
        self.readers = readers
        self.codec = codec
        self.on_beat: Callable[[Any], None] = lambda _db: None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_pulse: Callable[[], None] = lambda: None
        self._journal = journal
        self._folders = [journal.folder, *([journal.spill] if journal.spill else [])]
        self._say = say
        self._clock = clock
        self._lock = FoldLock(journal.folder / "fold.lock")
        self._users = users
        self._work = threading.RLock()
        self._wake = threading.Event()
        self._stop = False
        self._folding = False
        self._drains: list[None] = []  #: one for each thread that folds, or waits to
        self._thread: threading.Thread | None = None
        self._db: Any = None
        self._fold: Fold | None = None
        self._inode = 0
        self._failures = 0
        self._ready_told = False
        self._closed = False
        self._turned_us = clock()

    @cached_property
    def wal(self) -> bool:
        """Return whether WAL may be used here; says so once where it may not."""
        allowed = wal_allowed(self.path.parent)
        if not allowed:
            text = f"SQLite {driver.sqlite_version} or this file system is not safe for WAL: slower settings are used"
            self._say("sqlite", Notice("info", "sqlite", text, "install pysqlite3 0.6.1 or newer, or move P8_HOME"))
        return allowed

    # background

    def start(self) -> None:
        """Begin to fold in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="p8-fold", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        looked = beaten = 0.0
        pause = 0.0
        while not self._stop:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop:
                return
            while self._drains and not self._stop:  # they do it themselves, and not at a low priority
                time.sleep(0.002)
            now = time.monotonic()
            everything = now - looked > LOOK_AROUND_S
            if self._journal.unwritten:
                self._journal.retry()
            busy = self._journal.unfolded
            if not busy and not everything and now - beaten < HEARTBEAT_S:
                pause = EVERY_S if self._idle_work() else EVERY_S * 4
                continue
            done = self._step(
                everything, BUSY_BACKGROUND_S, BUSY_BACKGROUND_S, lambda: bool(self._drains) or self._stop
            )
            if done and everything:
                looked = now
                self._tell_ready()
            if done and now - beaten >= HEARTBEAT_S:
                beaten = now
                self._heartbeat()
            # In a flood, each step costs whoever records more than its rows do: few and large ones.
            pause = 0.0 if done and self._journal.backlog > FLOOD_ROWS else EVERY_S
            if not done:
                pause = min(5.0, 0.25 * 2 ** min(self._failures, 5))

    def _tell_ready(self) -> None:
        if not self._ready_told:
            self._ready_told = True
            try:
                self.on_ready()
            except Exception:
                _log().exception("after the first fold")

    def _heartbeat(self) -> None:
        try:
            self.write(self.on_beat, 1.0)
            self.turn_over_if_asked()
            self.on_pulse()
        except StoreError as error:
            _log().info("heartbeat: %s", error)

    def turn_over_if_asked(self) -> None:
        """Let go of the journal file at hand where a purge in another process has asked all to. Raises StoreError."""
        asked = self.readers.all("SELECT value FROM settings WHERE key = 'turn_over'")
        if asked and int(asked[0][0]) > self._turned_us:
            self._turned_us = int(asked[0][0])
            self._journal.turn_over()
            self.drain(1.0)

    def _idle_work(self) -> bool:
        """Index or pack a little while nothing else is to do; return whether there was something."""
        from p8.store import pack
        from p8.store.search import index_some

        with self._working(0.0, 0.0) as db:
            if db is None:
                return False
            try:
                if index_some(db, self.codec):
                    return True
                if pack.pack_one(db, self.codec, self._clock()):
                    return True
                db.execute("PRAGMA incremental_vacuum(200)").fetchall()
            except (driver.Error, StoreError) as error:
                self._trouble(error)
        return False

    # folding

    @contextlib.contextmanager
    def _working(self, wait_s: float, busy_s: float) -> Iterator[Any]:
        """Lend the writable connection with the right to fold; None where either cannot be had in time."""
        if not self._work.acquire(timeout=wait_s):
            yield None
            return
        try:
            db = self._open(busy_s)
            if db is None or not self._lock.acquire(wait_s):
                yield None
                return
            try:
                yield db
            finally:
                self._lock.release()
        finally:
            self._work.release()

    def _step(self, everything: bool, wait_s: float, busy_s: float, enough: Callable[[], bool] = lambda: False) -> bool:
        with self._working(wait_s, busy_s) as db:
            if db is None or self._fold is None:
                return False
            self._folding = True
            try:
                if migrations.version_of(db) != migrations.STEPS[-1][0]:
                    self._migrate(db)
                outcome = self._fold.run(everything, enough)
            except (driver.Error, StoreError, OSError) as error:
                self._trouble(error)
                return False
            finally:
                self._folding = False
        self._failures = 0
        self._say("database", None)
        self._tell(outcome)
        return True

    def _migrate(self, db: Any) -> None:
        backup = migrations.migrate(db, self.path)
        if backup is not None:
            self._say("upgrade", Notice("info", "upgrade", f"the database was upgraded; the old one is {backup.name}"))

    def _tell(self, outcome: Outcome) -> None:
        if outcome.damaged:
            first = outcome.damaged[0]
            text = f"{len(outcome.damaged)} damaged place(s) in {first.segment}: {first.reason}"
            self._say("journal", Notice("warning", "journal", text, "everything else was kept; p8 doctor shows them"))
        for stream in outcome.branched:
            text = (
                f"session {stream} was written by two processes at once: the other one's entries are in a branch of it"
            )
            self._say("branch", Notice("warning", "branch", text))

    def _trouble(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(error, driver.Error) and is_corrupt(error):
            self._repair(error)
            return
        said = error if isinstance(error, StoreError) else translate(error)
        if isinstance(error, driver.Error) and BUSY.search(str(error)) and self._failures < 2:
            return  # one busy second is nothing to talk about
        text = f"{said.message}; recording goes on in the journal"
        self._say("database", Notice("warning", "database", text, said.hint))

    def _repair(self, error: Exception) -> None:
        """Keep the damaged file, save what it still holds into a new one; only when no other P8 has it open."""
        from p8.store import repair

        self._let_go()
        self.readers.close()
        try:
            report = repair.replace(self.path, self._users.take(alone=True))
        except (StoreError, OSError, driver.Error) as failure:
            text = f"the database is damaged ({error}); recording goes on in the journal"
            self._say("database", Notice("error", "database", text, f"close other p8s to repair it ({failure})"))
            return
        finally:
            self._users.drop()
        if report is not None:
            self._say("repair", Notice("error", "repair", report.text, report.hint))

    def replace(self) -> Report:
        """
        Keep the database file aside and go on with what can be read of it, as somebody has found it damaged.

        Raises:
            StoreError: another process has it open, or the disk refuses; nothing was done.
        """
        from p8.store import repair

        with self._work:
            self._let_go()
            self.readers.close()
            try:
                report = repair.replace(self.path, self._users.take(alone=True), ask=False)
            except (OSError, driver.Error) as error:
                raise StoreError(f"the database could not be replaced: {error}", "free some space") from error
            finally:
                self._users.drop()
        assert report is not None
        return report

    # the connection

    def _open(self, busy_s: float) -> Any:
        if self._closed:
            return None
        try:
            if self._db is not None and _inode(self.path) != self._inode:
                self._let_go()
                self.readers.close()
                self._say("replaced", Notice("warning", "replaced", f"{self.path.name} was replaced by another file"))
            if self._db is None:
                if not self._users.take():
                    return None
                self._db = connect(self.path, wal=self.wal, busy_s=max(busy_s, 0.01))
                self._inode = _inode(self.path)
                self._fold = Fold(self._db, self._journal, self._folders)
                migrations.version_of(self._db)
            self._db.execute(f"PRAGMA busy_timeout = {int(busy_s * 1000)}")
        except (driver.Error, OSError) as error:
            self._trouble(error)
            return None
        return self._db

    def _let_go(self) -> None:
        db, self._db, self._fold = self._db, None, None
        if db is not None:
            with contextlib.suppress(driver.Error):
                db.close()
        self._users.drop()

    # for readers and writers on other threads

    def drain(self, timeout_s: float) -> bool:
        """Fold everything that any process recorded; return whether that was possible in time."""
        return self._drain(timeout_s, timeout_s)

    def _drain(self, wait_s: float, busy_s: float) -> bool:
        with self._first():
            return self._step(True, wait_s, busy_s)

    @contextlib.contextmanager
    def _first(self) -> Iterator[None]:
        """Have the thread in the background give way: it is slow on purpose."""
        self._drains.append(None)
        try:
            yield
        finally:
            self._drains.pop()

    def ready(self, timeout_s: float) -> None:
        """
        Make sure that a read sees what was recorded before it, if the database can be had in time.

        Raises:
            StoreError: there is no database that could be read.
        """
        # What is being folded waits no longer in the journal, and is not in the database yet: in that order.
        late = self._journal.unfolded or self._folding
        if self._thread is None or late or self._failures or not self._ready_told:
            fold = self._fold
            with self._first():
                if self._work.acquire(timeout=PATIENT_S):
                    try:
                        waiting = fold is None or self._waiting(fold)
                    finally:
                        self._work.release()
                    if waiting:
                        self._drain(PATIENT_S, timeout_s)
        if not self.path.exists():
            raise StoreError(f"there is no database in {self.path.parent}", "it is made as soon as the disk allows")

    def _waiting(self, fold: Fold) -> bool:
        try:
            return fold.pending()
        except driver.Error:
            return True

    def write(self, work: Callable[[Any], Any], timeout_s: float = 5.0) -> Any:
        """
        Run `work(connection)` in one transaction and return what it returns.

        Raises:
            StoreError: the database cannot be written to in time.
        """
        if not self._work.acquire(timeout=timeout_s):
            raise StoreError("the database is busy", "try again")
        try:
            if self._db is None or migrations.version_of(self._db) == 0:
                self.drain(timeout_s)
            db = self._open(timeout_s)
            if db is None:
                raise StoreError("the database cannot be opened now", "recording goes on in the journal")
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    result = work(db)
                    db.execute("COMMIT")
                    return result
                except BaseException:
                    with contextlib.suppress(driver.Error):
                        db.execute("ROLLBACK")
                    raise
            except driver.Error as error:
                raise translate(error) from error
        finally:
            self._work.release()

    def alone(self, work: Callable[[Any], Any], timeout_s: float = 10.0) -> Any:
        """
        Run `work(connection)` with the right to fold, outside any transaction, and return what it returns.

        Raises:
            StoreError: the right or the database cannot be had in time, or the database refused.
        """
        with self._working(timeout_s, timeout_s) as db:
            if db is None:
                raise StoreError("the database is busy: another p8 is at work in it", "try again")
            try:
                return work(db)
            except driver.Error as error:
                raise translate(error) from error

    def index_for(self, budget_s: float) -> None:
        """Index what waits, for at most `budget_s`."""
        from p8.store.search import index_some

        until = time.monotonic() + budget_s
        with self._working(0.05, 0.05) as db:
            if db is None:
                return
            with contextlib.suppress(driver.Error, StoreError):
                while index_some(db, self.codec) and time.monotonic() < until:
                    pass

    def close(self, timeout_s: float) -> None:
        """Stop the thread, fold what can be folded in time, close everything."""
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=max(timeout_s, 1.0) + BUSY_BACKGROUND_S)
        deadline = time.monotonic() + timeout_s
        while self._journal.unfolded and not self._step(False, timeout_s, max(deadline - time.monotonic(), 0.05)):
            if time.monotonic() >= deadline:
                break
        # Whoever still works on another thread must have ended before the connection does.
        held = self._work.acquire(timeout=max(timeout_s, LAST_S))
        try:
            self._closed = True
            fold = self._fold
            self._journal.close(lambda path, size: fold is not None and fold.is_folded(path, size))
            if not held:
                return  # the process ends, and takes the connection with it
            if fold is not None:
                with contextlib.suppress(driver.Error):
                    for path in self._journal.deleted:
                        fold.forget_file(path)
            self.readers.close()  # before the writer, so that its last checkpoint leaves one plain file
            self._let_go()
            self._lock.close()
        finally:
            if held:
                self._work.release()


def _log() -> Any:
    import logging

    return logging.getLogger("p8.store")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
