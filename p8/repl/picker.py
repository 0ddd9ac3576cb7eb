"""The session picker: full screen, opens at once at any size.

Typing filters by title at once and finds words inside conversations a moment later; the transcript of what the cursor
is on stands beside the list. What lists and changes is in `picker_state.py`; here are keys and drawing.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prompt_toolkit.application import Application, get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import ConditionalContainer, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.styles import Style

from p8.commands.session import age
from p8.core.ui import FIELDS
from p8.errors import P8Error, StoreError
from p8.model import Entry, Status
from p8.repl.picker_state import Item, PickerState
from p8.repl.screen import clip, escape, pad, width_of
from p8.repl.theme import theme_of

if TYPE_CHECKING:
    from p8.app import App

WIDE = 96  #: columns from which the preview stands beside the list
NARROW, LOW = 60, 16  #: columns and rows below which there is no room for it, also where it is asked for
SEARCH_AFTER_S = 0.12
PREVIEW_CHARACTERS = 1500
KEYS_LINE = "↑↓ Enter resume · Tab read · ^F fork · ^R rename · ^P pin · ^T tag · ^A archive · ^X trash · ^Z undo"
MORE_LINE = "^S sort · ^O scope · ^L layout · ^G tree · ^E archived, trash · Esc leave"
LAYOUTS = FIELDS["picker_preview"].choices
STYLE = {
    "query": "bold", "dim": "{dim}", "chosen": "reverse", "hit": "bold {warning}", "user": "{accent}",
    "line": "{dim}", "message": "{warning}", "title": "bold", "picked": "reverse",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picked:
    """What the person wants done with a session."""

    action: str  #: "resume", "fork" or "view"
    session_id: str
    seq: int | None = None  #: fork: the last entry to keep
    stream: str = ""  #: fork: the session in which that entry was recorded


def pick_session(app: App, *, query: str = "", everywhere: bool = False) -> Picked | None:
    """
    Let the person pick a session; None when they leave it.

    Args:
        app: whose sessions.
        query: what the search begins with.
        everywhere: begin with all projects, whatever was chosen last.
    """
    picker = Picker(app, query=query, everywhere=everywhere)
    return picker.application().run()


class Picker:
    """Draws a `PickerState` and turns keys into its verbs."""

    def __init__(self, app: App, *, query: str = "", everywhere: bool = False) -> None:
        self._app = app
        with contextlib.suppress(StoreError):
            app.sessions.custody.recover()
        view = app.view.all()
        self.state = PickerState(app, query, everywhere or view["picker_scope"] == "all", view["picker_sort"])
        self.state.load()
        self._preview: list[Entry] = []
        self._previewed = ""
        self._reading = False  #: the cursor is in the preview
        self._line = 0
        self._typing = ""  #: "rename" or "tag" while that is typed
        self._typed = ""
        self._work = threading.Event()
        self._closed = False
        self._layout = str(view["picker_preview"])
        self._running: Application[Picked | None] | None = None

    @property
    def _shown(self) -> str:
        """Where the transcript stands: "right", "below" or, where there is no room or no wish for it, "off"."""
        size = get_app().output.get_size()
        if self._layout == "auto":
            return "right" if size.columns >= WIDE else "off"
        fits = size.columns >= NARROW if self._layout == "right" else size.rows >= LOW
        return self._layout if fits else "off"

    def application(self, **more: Any) -> Application[Picked | None]:
        """Return the application; `more` goes to prompt_toolkit (input and output, in tests)."""
        reading = Condition(lambda: self._reading)
        beside, below = Condition(lambda: self._shown == "right"), Condition(lambda: self._shown == "below")
        listing = Window(FormattedTextControl(self._list, show_cursor=False, focusable=True), wrap_lines=False)
        transcript = FormattedTextControl(self._transcript)
        side = Window(transcript, wrap_lines=True, width=Dimension(weight=1))
        under = Window(transcript, wrap_lines=True, height=Dimension(weight=1))
        bar = Window(width=1, char="│", style="class:line")
        rule = Window(height=1, char="─", style="class:line")
        body = HSplit([
            VSplit([
                ConditionalContainer(listing, beside | below | ~reading),
                ConditionalContainer(VSplit([bar, side]), beside | (reading & ~below)),
            ], height=Dimension(weight=1)),
            ConditionalContainer(HSplit([rule, under], height=Dimension(weight=1)), below),
        ])  # fmt: skip
        root = HSplit([
            Window(FormattedTextControl(self._head), height=1),
            Window(height=1, char="─", style="class:line"),
            body,
            Window(height=1, char="─", style="class:line"),
            Window(FormattedTextControl(self._foot), height=2),
        ])  # fmt: skip
        look = theme_of(self._app.theme)
        depth = None if self._app.config.color and look.has_color else ColorDepth.DEPTH_1_BIT
        application: Application[Picked | None] = Application(
            Layout(root), key_bindings=self._keys(), full_screen=True, style=Style.from_dict(look.prompt(STYLE)),
            color_depth=depth, mouse_support=False, **more,
        )  # fmt: skip
        application.ttimeoutlen = 0.05
        self._running = application
        worker = threading.Thread(target=self._worker, name="p8-picker", daemon=True)
        application.pre_run_callables.append(worker.start)
        self._work.set()
        return application

    # the worker: searches and reads transcripts, never while the screen waits for it

    def _worker(self) -> None:
        while not self._closed:
            self._work.wait()
            self._work.clear()
            if self._closed:
                return
            query = self.state.query
            if query and query != self.state.searched and self.state.view != "trash":
                if self._work.wait(SEARCH_AFTER_S):
                    continue  # more was typed meanwhile
                try:
                    hits = self.state.find()
                except P8Error as error:
                    self.state.message = error.message
                else:
                    self.state.take_hits(query, hits)
            with contextlib.suppress(P8Error):
                if self.state.total < 0:
                    self.state.count()
                item = self.state.current
                self._preview = self.state.preview()
                self._previewed = item.row.id if item else ""
                self._line = self._hit_line(item)
            if self._running is not None:
                self._running.invalidate()

    def _hit_line(self, item: Item | None) -> int:
        if item is None or item.hit is None:
            return max(len(self._preview) - 1, 0)
        seq = item.hit.seq
        return next((i for i, entry in enumerate(self._preview) if entry.seq == seq), 0)

    # drawing

    def _head(self) -> StyleAndTextTuples:
        state = self.state
        if self._typing:
            return [("class:query", f"{self._typing}: {escape(self._typed, lines=False)}"), ("class:picked", " ")]
        scope = "all projects" if state.everywhere else escape(self._app.project.name, lines=False)
        count = (
            f"{len(state.items)}{'' if state.complete else '+'}"
            if state.query
            else f"{max(state.total, len(state.items)):,}"
        )
        where = "" if state.view == "sessions" else f" · {state.view}"
        right = f"{count} · {scope}{where} · {state.sort}{' · tree' if state.tree else ''} "
        room = max(get_app().output.get_size().columns - width_of(right) - 4, 8)
        shown = escape(state.query, lines=False)[-room:]
        hint = "" if state.query else "type to search titles and conversations"
        left: StyleAndTextTuples = [
            ("class:query", f"› {shown}"),
            ("class:picked", " "),
            ("class:dim", clip(hint, room - 2)),
        ]
        used = sum(width_of(text) for _, text in left)  # type: ignore[misc]
        gap = max(get_app().output.get_size().columns - used - width_of(right), 1)
        return [*left, ("", " " * gap), ("class:dim", right)]

    def _list(self) -> StyleAndTextTuples:
        size = get_app().output.get_size()
        shown = self._shown
        width = size.columns // 2 - 1 if shown == "right" else size.columns
        height = max((size.rows - 5) // (2 if shown == "below" else 1), 1)
        state = self.state
        if not state.items:
            return [("class:dim", "  Nothing fits.\n" if state.query else "  No sessions here yet.\n")]
        rows = [(index, self._heights(item)) for index, item in enumerate(state.items[: state.at + height])]
        top, used = state.at, 0
        for index, lines in reversed(rows[: state.at + 1]):
            if used + lines > max(height * 2 // 3, 1) and index != state.at:
                break
            used += lines
            top = index
        text: StyleAndTextTuples = []
        used = 0
        for index in range(top, len(state.items)):
            item = state.items[index]
            used += self._heights(item)
            if used > height and index > state.at:
                break
            text += self._item(item, index == state.at, width)
        return text

    @staticmethod
    def _heights(item: Item) -> int:
        return 2 if item.hit is not None else 1

    def _item(self, item: Item, chosen: bool, width: int) -> StyleAndTextTuples:
        row = item.row
        style = "class:chosen" if chosen and not self._reading else ""
        state = {Status.ACTIVE: "● ", Status.ABANDONED: "✗ "}.get(row.status, "")
        fork = "  " * item.depth + ("↳ " if item.depth else "")
        mark = ("★ " if row.pinned else "") + state
        right = [age(row.last_us), f"{row.messages:>4}"]
        if width >= 60:
            right.insert(0, clip(escape(row.branch, lines=False), 16))
        if self.state.everywhere:
            right.insert(0, clip(escape(row.project_name, lines=False), 16))
        tail = "  ".join(right)
        tags = " ".join(f"#{escape(tag, lines=False)}" for tag in row.tags)
        title = (escape(row.title, lines=False) or "(nothing said)") + (f"  {tags}" if tags else "")
        room = max(width - width_of(tail) - 4, 4)
        text: StyleAndTextTuples = [
            (style, f" {pad(fork + mark + title, room)}  "),
            (style or "class:dim", f"{tail} \n"),
        ]
        if item.hit is not None:
            text += [*self._snippet(item, width - 5), ("", "\n")]
        return text

    @staticmethod
    def _snippet(item: Item, width: int) -> StyleAndTextTuples:
        assert item.hit is not None
        raw = item.hit.snippet
        text: StyleAndTextTuples = [("class:dim", "   ")]
        at = used = 0
        for begin, end in (*item.hit.marks, (len(raw), len(raw))):
            for style, piece in (("class:dim", raw[at:begin]), ("class:hit", raw[max(begin, at) : end])):
                safe = clip(
                    escape(piece, lines=False) if not piece.endswith(" ") else escape(piece, lines=False) + " ",
                    width - used,
                )
                text.append((style, safe))
                used += width_of(safe)
            at = max(at, end)
            if used >= width:
                break
        return text

    def _transcript(self) -> StyleAndTextTuples:
        item = self.state.current
        if item is None:
            return []
        text: StyleAndTextTuples = [("class:title", f" {escape(item.row.title, lines=False)}\n")]
        where = "  ".join(filter(None, (item.row.model, item.row.branch, item.row.directory)))
        text.append(("class:dim", f" {escape(where, lines=False)}\n\n"))
        if self._previewed != item.row.id:
            return text
        begin = self._line if self._reading or item.hit else max(0, len(self._preview) - 6)
        for index, entry in enumerate(self._preview[max(begin - 1, 0) :], max(begin - 1, 0)):
            text += self._entry(entry, self._reading and index == self._line)
        return text

    @staticmethod
    def _entry(entry: Entry, picked: bool) -> StyleAndTextTuples:
        body = escape(entry.text[:PREVIEW_CHARACTERS]).rstrip()
        if entry.kind == "execution":
            body, style = f"$ {escape(str(entry.data.get('command', '')))}\n{body[:400]}", "class:dim"
        elif entry.kind == "checkpoint":
            body, style = f"◆ {body}", "class:message"
        else:
            body, style = (f"› {body}", "class:user") if entry.role == "user" else (body, "")
        return [("class:picked" if picked else style, f" {body}\n"), ("", "\n")]

    def _foot(self) -> StyleAndTextTuples:
        width = get_app().output.get_size().columns
        if self._typing:
            return [("class:dim", clip(f" Enter does it, Esc leaves it\n {MORE_LINE}", width * 2))]
        if self._reading:
            return [
                (
                    "class:dim",
                    clip(" ↑↓ choose a message · ^F fork after it · Enter resume · Tab back to the list", width),
                )
            ]
        said = escape(self.state.message, lines=False)
        first = ("class:message" if said else "class:dim", clip(f" {said or KEYS_LINE}", width))
        return [first, ("", "\n"), ("class:dim", clip(f" {MORE_LINE}", width))]

    # keys

    def _changed(self) -> None:
        self._preview = []
        self._work.set()

    def _leave(self, event: KeyPressEvent, result: Picked | None) -> None:
        self._closed = True
        self._work.set()
        scope = "all" if self.state.everywhere else "project"
        with contextlib.suppress(StoreError):
            self._app.view.put(picker_scope=scope, picker_sort=self.state.sort, picker_preview=self._layout)
        event.app.exit(result=result)

    def _enter(self, event: KeyPressEvent) -> None:
        if self._typing:
            if self._typed.strip():
                self.state.change(self._typing, self._typed.strip())
            self._typing = ""
        elif self.state.current is not None:
            self._leave(event, Picked("resume", self.state.current.row.id))

    def _view(self, event: KeyPressEvent) -> None:
        if self.state.current is not None:
            self._leave(event, Picked("view", self.state.current.row.id))

    def _fork(self, event: KeyPressEvent) -> None:
        item = self.state.current
        if item is None:
            return
        if self._reading and self._preview:
            entry = self._preview[self._line]
            self._leave(event, Picked("fork", item.row.id, entry.seq, entry.stream))
        else:
            self._leave(event, Picked("fork", item.row.id))

    def _move(self, by: int) -> None:
        if self._reading:
            self._line = max(0, min(self._line + by, len(self._preview) - 1))
            return
        self.state.move(by)
        self._changed()

    def _type(self, text: str) -> None:
        if self._typing:
            self._typed += text
            return
        self.state.query += text
        self.state.at = 0
        self.state.load()
        self._changed()

    def _erase(self) -> None:
        if self._typing:
            self._typed = self._typed[:-1]
            return
        self.state.query = self.state.query[:-1]
        self.state.load()
        self._changed()

    def _begin(self, what: str) -> None:
        if self.state.current is not None:
            self._typing = what
            self._typed = self.state.current.row.title if what == "rename" else ""

    def _escape(self, event: KeyPressEvent) -> None:
        if self._typing:
            self._typing = ""
        elif self._reading:
            self._reading = False
        elif self.state.query:
            self.state.query = ""
            self.state.load()
            self._changed()
        else:
            self._leave(event, None)

    def _act(self, what: str) -> None:
        if what in {"sort", "scope", "tree", "view"}:
            self.state.cycle(what)
        else:
            self.state.change(what)
        self._changed()

    def _lay_out(self) -> None:
        self._layout = LAYOUTS[(LAYOUTS.index(self._layout) + 1) % len(LAYOUTS)]
        self.state.message = f"layout: {self._layout}"

    def _turn(self) -> None:
        self._reading = not self._reading and bool(self._preview)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def on(*names: str, do: Any, eager: bool = False) -> None:
            for name in names:
                keys.add(name, eager=eager)(do)

        on("up", "c-k", do=lambda _: self._move(-1))
        on("down", "c-n", do=lambda _: self._move(1))
        on("pageup", do=lambda _: self._move(-10))
        on("pagedown", do=lambda _: self._move(10))
        on("home", do=lambda _: self._move(-(10**9)))
        on("end", do=lambda _: self._move(10**9))
        on("enter", do=self._enter)
        on("tab", do=lambda _: self._turn())
        on("escape", do=self._escape, eager=True)
        on("c-c", "c-d", do=lambda event: self._leave(event, None))
        on("backspace", do=lambda _: self._erase())
        on("c-f", do=self._fork)
        on("c-l", do=lambda _: self._lay_out())
        on("c-v", do=self._view)
        on("c-r", do=lambda _: self._begin("rename"))
        on("c-t", do=lambda _: self._begin("tag"))
        for key, what in (("c-p", "pin"), ("c-a", "archive"), ("c-x", "trash"), ("delete", "trash"), ("c-z", "undo"),
                          ("c-s", "sort"), ("c-o", "scope"), ("c-g", "tree"), ("c-e", "view")):  # fmt: skip
            on(key, do=lambda _event, what=what: self._act(what))
        on("<any>", do=lambda event: self._type(event.data) if event.data.isprintable() else None)
        return keys
