"""Messages from one process of a home to another: who holds a session takes them, and tells what becomes of them.

A letter is a JSON line over a socket in the home that only its owner can reach; the answer is JSON lines until it is
done. Nothing counts as taken before it is recorded. Refuses: other users, and to know what a turn is.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from p8.core.history import fresh
from p8.core.sessions import SessionManager
from p8.errors import Conflict, P8Error
from p8.model import Kind

FOLDER = "sockets"
LARGEST = 1 << 20  #: bytes of a letter
CONNECT_S = 5.0
RECENT = 50  #: messages among which one that comes again is looked for


class Letter:
    """
    A message for a session that is held here.

    Args:
        data: `session`, `text` and `key`, by which one that comes again is known.
        connection: to whoever sent it.

    Attributes:
        stop: called when whoever sent it wants the answer to end.
        withdrawn: whoever sent it has left.
    """

    def __init__(self, data: dict[str, Any], connection: socket.socket) -> None:
        self.session = str(data.get("session", ""))
        self.text = str(data.get("text", ""))
        self.key = str(data.get("key", ""))
        self.stop: Callable[[], None] = lambda: None
        self.withdrawn = False
        self._connection = connection
        self._lock = threading.Lock()

    def tell(self, **said: Any) -> None:
        """Tell whoever sent it; one who has left is not missed."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(said, default=str).encode() + b"\n")

    def refuse(self, error: P8Error) -> None:
        """Tell that it is not taken, or that the answer failed."""
        self.tell(state="refused", error=type(error).__name__, message=error.message, hint=error.hint)

    def close(self) -> None:
        """Be done with it."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


class Letterbox:
    """
    Takes letters.

    Args:
        home: P8's home.
        owner: the name of this process's store, as its leases say it.
        take: called with each letter, on a thread of its own.
    """

    def __init__(self, home: Path, owner: str, take: Callable[[Letter], None]) -> None:
        self._folder = home / FOLDER
        self._name = _name(owner)
        self._take = take
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Begin to take letters. Raises OSError where no socket can be made."""
        _tidy(self._folder)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            young = self._folder / f"{self._name}.new"
            with _beneath(self._folder) as place:
                made.bind(f"{place}/{young.name}")
            young.chmod(0o600)
            made.listen(16)
            young.rename(self._folder / self._name)  # only now: one that refuses is taken for a dead process's
        except OSError:
            made.close()
            raise
        self._socket = made
        threading.Thread(target=self._accept, name="p8-letters", daemon=True).start()

    def close(self) -> None:
        """Take no more. Safe to call twice."""
        made, self._socket = self._socket, None
        if made is not None:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
            made.close()
            (self._folder / self._name).unlink(missing_ok=True)

    def _accept(self) -> None:
        while (listening := self._socket) is not None:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="p8-letter", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            if _user(connection) not in {os.getuid(), 0}:
                return
            letter: Letter | None = None
            for data in _lines(connection):
                if letter is None:
                    letter = Letter(data, connection)
                    self._take(letter)
                elif data.get("stop"):
                    letter.stop()
            if letter is not None:
                letter.withdrawn = True


class Sent:
    """
    A letter on its way.

    Args:
        home: P8's home.
        owner: the name of the store of whoever holds the session.
        session, text, key: what is said, and where.

    Raises:
        Conflict: that process takes no letters.
    """

    def __init__(self, home: Path, owner: str, session: str, text: str, key: str) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(CONNECT_S)
        try:
            with _beneath(home / FOLDER) as place:
                self._connection.connect(f"{place}/{_name(owner)}")
            self._send(session=session, text=text, key=key)
        except OSError as error:
            self._connection.close()
            raise Conflict(
                f"session {session} is open in another p8 that takes no messages", "take it over, or fork it"
            ) from error
        self._connection.settimeout(None)

    def replies(self) -> Iterator[dict[str, Any]]:
        """Yield what is told of it, until it is done or the other process is gone."""
        with self._connection:
            yield from _lines(self._connection)

    def stop(self) -> None:
        """Ask for the answer to end. From any thread."""
        with contextlib.suppress(OSError):
            self._send(stop=True)

    def leave(self) -> None:
        """Wait no longer; what is recorded is answered all the same. From any thread."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _send(self, **said: Any) -> None:
        self._connection.sendall(json.dumps(said).encode() + b"\n")


def known(manager: SessionManager, key: str) -> tuple[int, bool] | None:
    """
    Return the number of a message that was recorded with this key in the current session, and whether it was answered.

    Raises:
        StoreError: the database is out of reach.
    """
    session = manager.current
    if session is None or not key:
        return None
    if any(message.get("letter") == key for message in fresh(session.conversation_history)):
        manager.store.drain()
    found: tuple[int, bool] | None = None
    recent = manager.store.sessions.entries(session.session_id, kinds=(Kind.MESSAGE,), limit=RECENT, newest=True)
    for entry in recent:
        if entry.data.get("letter") == key:
            found = entry.seq, False
        elif found is not None and entry.role == "assistant":
            found = found[0], True
    return found


def _name(owner: str) -> str:
    return f"p8-{owner}.sock"


@contextlib.contextmanager
def _beneath(folder: Path) -> Iterator[str]:
    """Lend a short path to a folder: a socket's address has 107 bytes at most."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def _lines(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Yield objects, a line each; ends where the other side does, or says something else."""
    held = b""
    with contextlib.suppress(OSError, ValueError):
        while len(held) <= LARGEST and (block := connection.recv(65536)):
            *whole, held = (held + block).split(b"\n")
            for line in whole:
                data = json.loads(line)
                if not isinstance(data, dict):
                    return
                yield data


def _user(connection: socket.socket) -> int:
    pid_uid_gid = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", pid_uid_gid)[1])


def _tidy(folder: Path) -> None:
    """Remove the sockets of processes that are gone."""
    with contextlib.suppress(OSError), _beneath(folder) as place:
        for path in folder.glob(_name("*")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
                tried.settimeout(CONNECT_S)
                try:
                    tried.connect(f"{place}/{path.name}")
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)
                except OSError:
                    continue
