"""What goes on for a while on a terminal: a shell in a container, a log that grows, a table that is drawn anew.

In an attached shell the terminal is the container's, but for what would reach past it: sequences that set the
clipboard, links, notifications or fonts are taken out (RELIABILITY section 3, "Terminal").
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Attach, Effect, Live, Stream, Table, View
from p8.errors import ContainerError
from p8.repl.screen import Screen, escape

if TYPE_CHECKING:
    from p8.containers.base import Channel

DETACH = b"\x10\x11"  #: Ctrl-P Ctrl-Q
#: clipboard, links, notifications, fonts; device control, application and privacy strings
ENDED = rb"(?:\x1b\\|[\x18\x1a]|(?=\x1b[^\\]))"  #: or broken off by another sequence
BARRED = re.compile(
    rb"\x1b\]0*(?:52|8|9|50|777);[^\x07\x1b\x18\x1a]*(?:\x07|" + ENDED + rb")|\x1b[PX^_][^\x1b\x18\x1a]*" + ENDED
)
OPEN_END = re.compile(rb"\x1b(?:\][^\x07\x1b]*|[PX^_][^\x1b]*)?\x1b?$")
LONGEST_HELD = 65536
RESET = "\x1b[!p\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1049l\x1b[?25h\x1b[0m"


def perform(effect: Effect, screen: Screen) -> int:
    """Do what an effect asks of a terminal; return the process status."""
    if isinstance(effect, Attach):
        return attach(effect, screen)
    try:
        if isinstance(effect, Stream):
            _stream(effect.pieces, screen)
        elif isinstance(effect, Live):
            _live(effect, screen)
    except KeyboardInterrupt:
        screen.line()
    finally:
        if isinstance(effect, Live):
            effect.close()
    return 0


def _stream(pieces: Iterator[bytes], screen: Screen) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        for piece in pieces:
            screen.write(escape(decoder.decode(piece)))
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


# tables drawn anew


def _live(effect: Live, screen: Screen) -> None:
    if not screen.is_terminal:
        while True:
            screen.draw(*effect.draw())
            time.sleep(effect.every_s)
    from rich.console import Console
    from rich.live import Live as RichLive

    console = Console(file=screen.out, no_color=not screen.color)
    with RichLive(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_rendered(effect.draw(), screen.width, screen.styles), refresh=True)
            time.sleep(effect.every_s)


def _rendered(views: tuple[View, ...], width: int, styles: Mapping[str, str]) -> Any:
    """Return views as rich draws them; what is no table is drawn as at the prompt, so that both look alike."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

    shown: list[Any] = []
    for view in views:
        if isinstance(view, Table) and view.rows:
            table = RichTable(box=None, pad_edge=False, header_style="bold")
            for name in view.columns:
                table.add_column(RichText(name), overflow="ellipsis", no_wrap=True)
            for row in view.rows:
                table.add_row(*(RichText(escape(cell, lines=False), style=_style(cell)) for cell in row))
            shown.append(table)
        else:
            shown.append(RichText.from_ansi(_drawn(view, width, styles)))
    return Group(*shown, RichText("Ctrl-C leaves", style="dim"))


def _drawn(view: View, width: int, styles: Mapping[str, str]) -> str:
    out = Drawing()
    screen = Screen(out, True, width)
    screen.styles = styles
    screen.draw(view)
    return out.getvalue().rstrip("\n")


class Drawing(io.StringIO):
    """Text that is drawn with its styles, as on a terminal."""

    def isatty(self) -> bool:
        """Return that styles may be used."""
        return True


def _style(cell: str) -> str:
    known = {"running": "green", "healthy": "green", "error": "red", "paused": "yellow", "initializing": "yellow"}
    return known.get(cell, "")


# a terminal in a container


def attach(effect: Attach, screen: Screen) -> int:
    """
    Give the terminal to a program in a container until it ends, or Ctrl-P Ctrl-Q.

    Returns:
        the program's status; 0 where it was left running.
    """
    if not (sys.stdin.isatty() and screen.is_terminal):
        return _piped(effect.open(None), screen)
    size = os.get_terminal_size(screen.out.fileno())
    channel = effect.open((size.lines, size.columns))
    screen.line(f"attached to {effect.name}; Ctrl-P Ctrl-Q leaves it running", "dim")
    detached = _joined(channel, screen)
    if detached:
        channel.end()
        screen.line(f"\nleft {effect.name}; it goes on", "dim")
        return 0
    code = _status(channel)
    channel.end()
    return code


def _status(channel: Channel) -> int:
    until = time.monotonic() + 2.0
    while (code := channel.exit_code()) is None:
        if time.monotonic() > until:
            raise ContainerError("the connection to the container broke off", "ai-session list shows how it is")
        time.sleep(0.01)
    return code


def _piped(channel: Channel, screen: Screen) -> int:
    """Join standard input and output to a program, as a pipe would."""

    def feed() -> None:
        with contextlib.suppress(OSError, ValueError):
            while block := os.read(sys.stdin.fileno(), 65536):
                channel.write(block)
        channel.close_input()

    threading.Thread(target=feed, name="p8-input", daemon=True).start()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while (piece := channel.read()) is not None:
        if screen.is_terminal:
            screen.write(escape(decoder.decode(piece[1])))
        else:
            os.write(screen.out.fileno() if piece[0] == 1 else 2, piece[1])
    code = _status(channel)
    channel.end()
    return code


def _joined(channel: Channel, screen: Screen) -> bool:
    """Join the terminal, raw, to a program's; return whether the person detached."""
    import termios
    import tty

    inside, out = sys.stdin.fileno(), screen.out.fileno()
    kept = termios.tcgetattr(inside)
    over = threading.Event()
    wake_r, wake_w = os.pipe()

    def show() -> None:
        passing = Passing()
        try:
            while (piece := channel.read()) is not None:
                _write_all(out, passing.take(piece[1]))
            _write_all(out, passing.rest())
        except OSError:
            pass
        over.set()
        os.write(wake_w, b".")

    def resized(*_: object) -> None:
        size = os.get_terminal_size(out)
        threading.Thread(target=channel.resize, args=(size.lines, size.columns), daemon=True).start()

    before = signal.signal(signal.SIGWINCH, resized)
    reader = threading.Thread(target=show, name="p8-output", daemon=True)
    try:
        tty.setraw(inside, termios.TCSADRAIN)  # what was typed ahead is the program's
        reader.start()
        return _typed(channel, inside, wake_r, over)
    finally:
        termios.tcsetattr(inside, termios.TCSADRAIN, kept)
        signal.signal(signal.SIGWINCH, before)
        screen.write(RESET)
        os.close(wake_r)


def _typed(channel: Channel, inside: int, wake: int, over: threading.Event) -> bool:
    """Pass on what is typed until the program ends (False) or the detach keys come (True)."""
    held = b""
    while not over.is_set():
        ready, _, _ = select.select([inside, wake], [], [])
        if wake in ready:
            return False
        block = os.read(inside, 65536)
        if not block:
            channel.close_input()
            over.wait()
            return False
        block = held + block
        if DETACH in block:
            return True
        held = DETACH[:1] if block.endswith(DETACH[:1]) else b""
        try:
            channel.write(block[: len(block) - len(held)])
        except BrokenPipeError:
            over.wait(2.0)
            return False
    return False


def _write_all(number: int, data: bytes) -> None:
    while data:
        data = data[os.write(number, data) :]


class Passing:
    """Takes barred sequences out of a stream of pieces, wherever the pieces are cut."""

    def __init__(self) -> None:
        self._held = b""

    def take(self, piece: bytes) -> bytes:
        """Return what may be shown by now."""
        data = BARRED.sub(b"", self._held + piece)
        self._held = b""
        match = OPEN_END.search(data)
        if match is not None and _may_be_barred(match[0]):
            if len(match[0]) <= LONGEST_HELD:
                self._held = match[0]
            return data[: match.start()]  # longer ones are dropped: nothing honest is
        return data

    def rest(self) -> bytes:
        """Return nothing: what was begun and never ended is no text."""
        return b""


def _may_be_barred(start: bytes) -> bool:
    if len(start) < 2 or start[1:2] in b"PX^_":
        return True
    number = start[2:].split(b";")[0].rstrip(b"\x1b").lstrip(b"0")
    return any(barred.startswith(number) for barred in (b"52", b"8", b"9", b"50", b"777")) or number in {
        b"52", b"8", b"9", b"50", b"777",
    }  # fmt: skip
