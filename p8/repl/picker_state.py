"""What the picker knows: the sessions listed, what was typed, where the cursor is. No terminal, no threads.

Lists come a page at a time, from counters; no transcript is opened to list. What is typed filters titles at once;
hits inside conversations are found by whoever drives this and are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p8.commands.session import change, take_back, taken_back
from p8.errors import P8Error
from p8.model import Entry, Hit, SessionRow

if TYPE_CHECKING:
    from p8.app import App

PAGE = 100
SORTS = ("recent", "created", "size", "title")
VIEWS = ("sessions", "archived", "trash")
PREVIEW_ENTRIES = 40


@dataclass(slots=True)
class Item:
    """One line of the list."""

    row: SessionRow
    depth: int = 0  #: in the tree of forks
    hit: Hit | None = None  #: where the query was found inside it


@dataclass(slots=True)
class PickerState:
    """
    The picker's state.

    Args:
        app: whose sessions.
        query: what is typed.
        everywhere: all projects, not only this one.
    """

    app: App
    query: str = ""
    everywhere: bool = False
    sort: str = "recent"
    view: str = "sessions"
    tree: bool = False
    at: int = 0
    items: list[Item] = field(default_factory=list)
    total: int = -1  #: of the whole list; counted later, as it takes longer the more there are
    complete: bool = False  #: the last page has been loaded
    message: str = ""
    searched: str = ""  #: the query whose hits inside conversations are in the list

    @property
    def project(self) -> str | None:
        """The project whose sessions are listed; None for all."""
        return None if self.everywhere else self.app.project.id

    @property
    def current(self) -> Item | None:
        """What the cursor is on."""
        return self.items[self.at] if self.items else None

    def load(self) -> None:
        """List from the beginning: what the query, scope, sort and view say. Keeps the cursor on its session."""
        chosen = self.current.row.id if self.current else ""
        try:
            rows = self._page(None)
            self.message = ""
        except P8Error as error:
            self.message = error.message
            return
        self.searched = ""
        self.total = -1
        self.items = self._treed(rows)
        self.complete = len(rows) < PAGE
        self.at = next((i for i, item in enumerate(self.items) if item.row.id == chosen), 0)

    def more(self) -> None:
        """Load the next page, when the cursor comes near the end of what is loaded."""
        if self.complete or self.searched or self.at < len(self.items) - PAGE // 3:
            return
        try:
            rows = self._page(self.items[-1].row if self.items else None)
        except P8Error as error:
            self.message = error.message
            return
        self.complete = len(rows) < PAGE
        self.items += [Item(row) for row in rows]

    def count(self) -> None:
        """Count the whole list. Raises P8Error."""
        self.total = self.app.store.sessions.count(project=self.project, **self._which())

    def _which(self) -> dict[str, Any]:
        return {"archived": self.view == "archived", "trashed": self.view == "trash"}

    def _page(self, after: SessionRow | None) -> list[SessionRow]:
        words = " ".join(word for word in self.query.split() if ":" not in word)
        return self.app.store.sessions.page(
            project=self.project, sort=self.sort, text=words, limit=PAGE, after=after, **self._which()
        )

    def _treed(self, rows: list[SessionRow]) -> list[Item]:
        """Put forks below what they were forked from, where that is listed too."""
        if not self.tree:
            return [Item(row) for row in rows]
        listed = {row.id for row in rows}
        below: dict[str, list[SessionRow]] = {}
        for row in rows:
            if row.parent in listed and row.parent is not None:
                below.setdefault(row.parent, []).append(row)
        items: list[Item] = []

        def put(row: SessionRow, depth: int) -> None:
            items.append(Item(row, depth))
            for child in below.get(row.id, ()) if depth < 40 else ():
                put(child, depth + 1)

        for row in rows:
            if row.parent not in listed:
                put(row, 0)
        return items

    def take_hits(self, query: str, hits: list[Hit]) -> None:
        """Take in what was found inside conversations; too late an answer, to an older query, is dropped."""
        if query != self.query:
            return
        chosen = self.current.row.id if self.current else ""
        by_title = {item.row.id: item for item in self.items if not item.hit}
        merged = [Item(hit.session, hit=hit if hit.seq else None) for hit in hits]
        known = {item.row.id for item in merged}
        self.items = merged + [item for id_, item in by_title.items() if id_ not in known]
        self.searched = query
        self.complete = True
        self.at = next((i for i, item in enumerate(self.items) if item.row.id == chosen), 0) if chosen else 0

    def find(self) -> list[Hit]:
        """Return what the query finds inside conversations. Raises P8Error."""
        return self.app.store.search(self.query, project=self.project, limit=100, archived=self.view == "archived")

    def preview(self) -> list[Entry]:
        """Return the part of the transcript to show for what the cursor is on. Raises P8Error."""
        item = self.current
        if item is None:
            return []
        kinds = ("message", "execution", "checkpoint")
        table = self.app.store.sessions
        if item.hit is not None:
            first = max(1, item.hit.seq - 10)
            return table.entries(item.row.id, kinds=kinds, first=first, limit=PREVIEW_ENTRIES)
        return table.entries(item.row.id, kinds=kinds, limit=PREVIEW_ENTRIES, newest=True)

    # moving

    def move(self, by: int) -> None:
        """Go up or down."""
        self.at = max(0, min(self.at + by, len(self.items) - 1))
        self.more()

    def cycle(self, what: str) -> None:
        """Go to the next sort or view, or turn scope or tree over; the list begins anew."""
        if what == "sort":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        elif what == "view":
            self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)]
        elif what == "scope":
            self.everywhere = not self.everywhere
        else:
            self.tree = not self.tree
        self.load()

    # changing; each says what was done, and can be taken back

    def change(self, what: str, text: str = "") -> None:
        """Pin, archive, trash, rename or tag what the cursor is on, or take the last change back."""
        item = self.current
        try:
            if what == "undo":
                self._undo()
            elif item is not None:
                self._change(item.row, what, text)
        except P8Error as error:
            self.message = error.message
            return
        said = self.message
        self.load()
        self.message = said

    def _change(self, row: SessionRow, what: str, text: str) -> None:
        changes: dict[str, Any]
        if what == "pin":
            done, changes = ("unpinned" if row.pinned else "pinned"), {"pinned": not row.pinned}
        elif what == "archive":
            done, changes = ("unarchived" if row.archived else "archived"), {"archived": not row.archived}
        elif what == "trash":
            back = row.trashed_us is not None
            done, changes = ("taken out of the trash" if back else "put into the trash"), {"trashed": not back}
        elif what == "tag":
            done, changes = "tagged", {"tags": sorted({*row.tags, *text.split()})}
        else:
            done, changes = "renamed", {"title": text}
        change(self.app, row, done, done, **changes)
        self.message = f"{done}: {row.title or row.id} · Ctrl-Z takes it back"

    def _undo(self) -> None:
        self.message = taken_back(take_back(self.app))
