"""`PersistenceManager`: records in microseconds, folds in the background, reads what was recorded.

Recording needs only the journal: a database that is locked, full, damaged or away delays the fold and costs a
notice, never a message (ARCHITECTURE, "Recording"). Nothing here knows what a session may or may not do.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from p8.errors import StoreError
from p8.events import Bus, Change
from p8.model import Entry, Notice, now_us
from p8.records import Record
from p8.store.glance import is_current
from p8.store.leases import Leases
from p8.store.pack import Codec
from p8.store.projects import ProjectTable, Settings
from p8.store.sessions import SessionTable
from p8.store.sqlite import Readers, Users

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from p8.store.feed import Feed
    from p8.store.instances import InstanceTable, PortTable
    from p8.store.journal import Journal
    from p8.store.keeper import Keeper
    from p8.store.search import SearchIndex
    from p8.store.stamp import Stamp

TEMPORARY = "/tmp"  # noqa: S108 #: where the journal goes when the home cannot be written to
GLANCE_S = 0.05  #: a process that only reads looks so often at whether something waits to be folded
FOLDERS = ("journal", "snapshots", "configs", "cache", "logs", "sockets", "states", "models", "trash")


class Durability(Record):
    """How safe this process's entries are at this moment."""

    unwritten: int  #: entries that exist only in memory: the disk refuses them
    unsynced_bytes: int  #: would be lost by a power cut
    unfolded: bool  #: the database is behind the journal
    problem: str  #: what stands in the way, or ""


class PersistenceManager:
    """
    The store under a home.

    Args:
        home: folder for everything; ~/.ai-sessions where none is given. Made on first use, mode 0700.
        bus: where notices are published.
        background: fold in a thread of its own; without it, when something reads and at the end.
        clock: microseconds since 1970.

    Nothing is opened here: the journal is at the first entry, the database at the first fold or read. A process that
    only reads, and finds everything folded, gets by without journal and fold.

    Attributes:
        on_ready: called once everything that was waiting is folded, on the folding thread.
        on_pulse: called every few seconds on the folding thread.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        bus: Bus | None = None,
        background: bool = True,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self.home = (Path(home) if home is not None else Path.home() / ".ai-sessions").expanduser().absolute()
        self.bus = bus or Bus()
        self.clock = clock
        self._notices: dict[str, Notice] = {}
        self._notice_lock = threading.Lock()
        self.path = self.home / "p8.db"
        self.codec = Codec()
        self.readers = Readers(self.path)
        self.on_ready: Callable[[], None] = lambda: None
        self.on_pulse: Callable[[], None] = lambda: None
        self._users = Users(self.path)
        self._background = background
        self._started = False
        self._settled = False
        self._glanced = -GLANCE_S
        self._closed = False
        self._shared_save: asyncio.Task[None] | None = None

    @cached_property
    def spill(self) -> Path:
        """Where the journal goes when the home cannot be written to."""
        digest = int.from_bytes(bytes(self.home)) % ((1 << 61) - 1)
        return Path(TEMPORARY) / f"p8-{os.getuid()}-{digest:016x}"

    @cached_property
    def journal(self) -> Journal:
        """Where this process's entries go first."""
        from p8.store.journal import Journal

        clock_ns = time.time_ns if self.clock is now_us else lambda: self.clock() * 1000
        journal = Journal(self.home / "journal", self.spill, clock_ns)
        journal.on_trouble = self._disk_trouble
        journal.on_first = self.start
        return journal

    @cached_property
    def record(self) -> Callable[..., tuple[int, int]]:
        """
        Append one entry and return its sequence number and time; see `Journal.append`.

        It is that method itself, so that the hot path has one call less.
        """
        return self.journal.append

    @cached_property
    def keeper(self) -> Keeper:
        """Who folds."""
        from p8.store.keeper import Keeper

        keeper = Keeper(self.path, self.journal, self.readers, self.codec, self._users, self.notice, self.clock)
        keeper.on_ready = lambda: self.on_ready()  # noqa: PLW0108 they may be set later
        keeper.on_pulse = lambda: self.on_pulse()  # noqa: PLW0108
        keeper.on_beat = lambda db: self.leases.beat(db) if "leases" in self.__dict__ else None
        return keeper

    def _write(self, work: Callable[[Any], Any], timeout_s: float = 5.0) -> Any:
        return self.keeper.write(work, timeout_s)

    # making durable

    def save(self) -> None:
        """
        Return when everything recorded so far survives a power cut.

        Raises:
            StoreError: the disk refused.
        """
        self.journal.sync()

    async def save_async(self) -> None:
        """Do what `save` does, off the loop; callers of one turn of the loop share one sync."""
        import asyncio

        task = self._shared_save
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = self._shared_save = asyncio.create_task(self._save_soon())
        await asyncio.shield(task)

    async def _save_soon(self) -> None:
        import asyncio

        await asyncio.sleep(0)
        self._shared_save = None
        await asyncio.get_running_loop().run_in_executor(None, self.save)

    def start(self) -> None:
        """Make the home and begin to fold in the background, also what dead processes left. The first entry does it."""
        if self._started:
            return
        self._started = True
        self._settle_home()
        if self._background and not self._closed:
            self.keeper.start()

    def _settle_home(self) -> None:
        """Make the home once; where that cannot be, the journal goes where it can and a notice says so."""
        if self._settled:
            return
        self._settled = True
        try:
            make_home(self.home)
        except StoreError as error:
            if self.journal.spill is not None:
                self.journal.folder = self.journal.spill
            text = f"{error.message}: this goes to {self.journal.folder} until it can be written to"
            self.notice("home", Notice("error", "home", text, error.hint))

    # reading

    def drain(self, timeout_s: float = 5.0) -> bool:
        """Fold everything that any process has recorded; return whether the database could be reached in time."""
        self._settle_home()
        return self.keeper.drain(timeout_s)

    def _ready(self) -> None:
        self._settle_home()
        if "keeper" in self.__dict__:
            self.keeper.ready(2.0)
        elif time.monotonic() - self._glanced > GLANCE_S:
            if is_current(self.readers, self._users, self.home / "journal", self.spill):
                self._glanced = time.monotonic()
            else:
                self.keeper.ready(2.0)

    def read(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """
        Return the rows of one read-only query.

        Raises:
            StoreError: the database cannot be read now.
        """
        self._ready()
        return self.readers.all(sql, params)

    @cached_property
    def sessions(self) -> SessionTable:
        """Lists and transcripts."""
        return SessionTable(self.readers, self._ready, self.codec)

    @cached_property
    def search(self) -> SearchIndex:
        """Full text."""
        from p8.store.search import SearchIndex

        return SearchIndex(self.readers, self.sessions, self._ready, self.keeper.index_for)

    @cached_property
    def feed(self) -> Feed:
        """Everything that happened, in order."""
        from p8.store.feed import Feed

        return Feed(self.readers, self._all_ready, self.codec)

    def _all_ready(self) -> None:
        """Make sure that what any process recorded is folded; a thread of our own looks at others' files rarely."""
        if self._background:
            self.drain()
        self._ready()

    @cached_property
    def stamp(self) -> Stamp:
        """Whether the database has changed."""
        from p8.store.stamp import Stamp

        return Stamp(self.path, lambda: self.keeper.wal, lambda: self.journal.unfolded)

    @cached_property
    def leases(self) -> Leases:
        """Who may write to a session."""
        return Leases(self._write, self.read, self.clock)

    @cached_property
    def projects(self) -> ProjectTable:
        """Projects and the places where they were seen."""
        return ProjectTable(self._write, self.read, self.clock)

    @cached_property
    def instances(self) -> InstanceTable:
        """Instances."""
        from p8.store.instances import InstanceTable

        return InstanceTable(self._write, self.read, self.clock)

    @cached_property
    def ports(self) -> PortTable:
        """Ports leased to instances."""
        from p8.store.instances import PortTable

        return PortTable(self._write, self.read, self.clock)

    @cached_property
    def settings(self) -> Settings:
        """Small things to remember."""
        return Settings(self._write, self.read)

    def entry(self, session_id: str, seq: int) -> Entry:
        """Return one entry in full. Raises NotFound."""
        return self.sessions.entry(session_id, seq)

    # how it is

    def durability(self) -> Durability:
        """Return how safe this process's entries are. Costs no query."""
        journal = self.journal
        stands = [n.text for n in self._notices.values() if n.level != "info"]
        return Durability(journal.unwritten, journal.unsynced, journal.unfolded, stands[0] if stands else "")

    def notices(self) -> list[Notice]:
        """Return what stands now, the worst first."""
        order = {"error": 0, "warning": 1, "info": 2}
        return sorted(self._notices.values(), key=lambda notice: order.get(notice.level, 3))

    def notice(self, topic: str, notice: Notice | None) -> None:
        """Say something once, or take it back with None."""
        with self._notice_lock:
            old = self._notices.get(topic)
            if notice is None:
                self._notices.pop(topic, None)
            else:
                self._notices[topic] = notice
        if notice is not None and (old is None or old.text != notice.text):
            data = {"level": notice.level, "text": notice.text, "hint": notice.hint}
            self.bus.publish(Change("notice", topic, time_us=self.clock(), data=data))
        elif notice is None and old is not None and old.level != "info":
            data = {"level": "info", "text": f"{topic}: all is well again", "hint": ""}
            self.bus.publish(Change("notice", topic, time_us=self.clock(), data=data))

    def _disk_trouble(self, error: OSError | None) -> None:
        if error is None:
            self.notice("disk", None)
            return
        where = self.journal.folder
        self.notice(
            "disk",
            Notice(
                "error", "disk", f"NOT SAVED: {where}: {error.strerror}",
                "what you type is kept in memory and written as soon as the disk allows; free some space",
            ),
        )  # fmt: skip

    def close(self) -> None:
        """Save, fold what can be folded within two seconds, and let go of everything. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._started:
            deadline = time.monotonic() + 1.0
            while not self.journal.retry() and time.monotonic() < deadline:
                time.sleep(0.05)
            with contextlib.suppress(StoreError):
                self.save()
        if "stamp" in self.__dict__:
            self.stamp.close()
        if self._started or "keeper" in self.__dict__:
            self.keeper.close(2.0 if self._started else 0.0)
        else:
            self.readers.close()
            self._users.drop()


def make_home(home: Path) -> None:
    """
    Make the home and its folders, private to the user.

    Raises:
        StoreError: it is a link, belongs to somebody else, or others may write to it.
    """
    try:
        for folder in (home, *(home / name for name in FOLDERS)):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=folder == home, exist_ok=True)
        state = os.lstat(home)
    except OSError as error:
        raise StoreError(f"{home}: {error.strerror}", "set P8_HOME to a folder you can write to") from error
    if os.path.islink(home) or state.st_uid not in {os.getuid(), 0} or state.st_mode & 0o022:
        raise StoreError(
            f"{home} is a link, not yours, or writable by others", f"chmod 700 {home}, or set P8_HOME elsewhere"
        )
