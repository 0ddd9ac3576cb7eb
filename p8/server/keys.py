"""Who may come in: the token in a file only its owner reads, one-use login links, a browser's cookie.

A cookie is checked against the token and not remembered, so it outlives a restart of the server. It is worth nothing
without the CSRF token beside it: browsers show cookies to every port of a host, storage only to this one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from p8.errors import ConfigError

LINK_S = 600.0  #: a login link is good for so long
COOKIE_S = 12 * 3600.0
LINKS = 20  #: outstanding at a time; the oldest goes first


class Keys:
    """
    What opens the server.

    Args:
        token: 64 hexadecimal digits.
        clock: seconds since 1970.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode("ascii")
        self._clock = clock
        self._links: dict[str, float] = {}

    def is_token(self, given: str) -> bool:
        """Return whether it is the token; takes as long for any other of its length."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def link(self) -> str:
        """Return the code of a new login link; it opens once."""
        now = self._clock()
        self._links = {code: until for code, until in self._links.items() if until > now}
        while len(self._links) >= LINKS:
            self._links.pop(next(iter(self._links)))
        code = secrets.token_urlsafe(32)
        self._links[self._digest("link", code)] = now + LINK_S
        return code

    def use_link(self, code: str) -> tuple[str, str] | None:
        """Return a cookie and its CSRF token for a code that is good, once; else None."""
        until = self._links.pop(self._digest("link", code), 0.0)
        if until <= self._clock():
            return None
        body = f"{secrets.token_urlsafe(16)}.{int(self._clock() + COOKIE_S)}"
        cookie = f"{body}.{self._digest('cookie', body)}"
        return cookie, self._digest("csrf", cookie)

    def is_cookie(self, cookie: str, csrf: str) -> bool:
        """Return whether a cookie is one of ours, in time, and comes with its CSRF token."""
        body, _, mark = cookie.rpartition(".")
        fits = hmac.compare_digest(mark.encode("utf-8", "replace"), self._digest("cookie", body).encode())
        paired = hmac.compare_digest(csrf.encode("utf-8", "replace"), self._digest("csrf", cookie).encode())
        until = body.rpartition(".")[2]
        return fits and paired and until.isdecimal() and int(until) > self._clock()

    def _digest(self, what: str, text: str) -> str:
        said = f"{what}:{text}".encode("utf-8", "surrogateescape")
        return hmac.new(self._token, said, hashlib.sha256).hexdigest()


def folder_of(home: Path) -> Path:
    """
    Return the folder of the token and the socket, private to the user; made where there is none.

    Raises:
        ConfigError: it cannot be made, is a link, or is open to others.
    """
    folder = home / "server"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = os.lstat(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}", "set P8_HOME to a folder you can write to") from error
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise ConfigError(f"{folder} is a link, not yours, or open to others", f"chmod 700 {folder}, or move it away")
    return folder


def token_of(folder: Path) -> str:
    """
    Return the token; made where there is none.

    Raises:
        ConfigError: its file cannot be had, is open to others, or holds something else.
    """
    path = folder / "token"
    with contextlib.suppress(FileExistsError):
        young = folder / f"token.{os.getpid()}"
        number = os.open(young, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(number, secrets.token_hex(32).encode() + b"\n")
            os.fsync(number)
            os.link(young, path)
        finally:
            os.close(number)
            young.unlink()
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            state, text = os.fstat(number), os.read(number, 200).decode("ascii", "replace").strip()
        finally:
            os.close(number)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "delete it, and a new one is made") from error
    if state.st_mode & 0o077 or state.st_uid != os.getuid():
        raise ConfigError(f"{path} can be read by others", "delete it, and a new one is made")
    if len(text) != 64 or not all(c in "0123456789abcdef" for c in text):
        raise ConfigError(f"{path} holds no token", "delete it, and a new one is made")
    return text
