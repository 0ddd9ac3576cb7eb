"""P8's archive: a bundle with one file of journal lines a session.

Entries are carried as the bytes they were recorded as, so nothing is lost on the way; a line that is too long or has no
end makes the whole archive refused. Refuses: to know what entries mean (`core/archive.py` does).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from p8.formats import bundle
from p8.formats.bundle import Bundle, Kind, Refused, refusing
from p8.model import Status

FORMAT, VERSION = "p8-archive", 1
MEMBER = re.compile(r"sessions/\d{8}-\d{6}-\d{6}-[0-9a-f]{4}(?:~[0-9a-z]{1,32})?\.jsonl", re.ASCII)
LINE_BYTES = 256 << 20  #: one entry


class Row(msgspec.Struct):
    """What lists say of a session; `meta` may hold what JSON cannot, in the store's plain form."""

    id: str
    title: str = ""
    title_source: str = ""
    project: str = ""
    project_name: str = ""
    status: Status = Status.PAUSED
    created_us: int = 0
    last_us: int = 0
    ended_us: int | None = None
    directory: str = ""
    branch: str = ""
    commit: str = ""
    model: str = ""
    pinned: bool = False
    archived: bool = False
    trashed_us: int | None = None
    tags: list[str] = []
    parent: str | None = None
    fork_seq: int | None = None
    meta: dict[str, Any] = {}


class Carried(msgspec.Struct):
    """A session of the archive: its entries are in `sessions/ID.jsonl`."""

    row: Row
    entries: int  #: how many
    last: int  #: the highest sequence number, 0 where there is none
    head: str  #: the hash of that entry, 16 hexadecimal digits
    partial: bool = False  #: only as far as a fork of it needs
    broken: list[int] = []  #: entries that do not fit the chain of hashes: they were damaged when they were exported
    missing: list[int] = []  #: entries that could not be read when they were exported

    @property
    def member(self) -> str:
        """Return the name of the file of its entries."""
        return f"sessions/{self.row.id}.jsonl"


class ProjectRow(msgspec.Struct):
    """A project of the archive."""

    id: str
    name: str = ""
    root: str = ""
    root_commit: str = ""
    remote: str = ""
    created: int = 0
    last: int = 0
    meta: dict[str, Any] = {}


class Manifest(Bundle):
    """What an archive holds."""

    made_us: int = 0
    by: str = ""
    scope: str = ""
    redacted: bool = False
    sessions: list[Carried] = msgspec.field(default_factory=list)
    projects: list[ProjectRow] = msgspec.field(default_factory=list)


def _check_sessions(manifest: Manifest) -> None:
    if sorted(carried.member for carried in manifest.sessions) != sorted(member.name for member in manifest.members):
        raise Refused("its sessions do not fit its members")


KIND = Kind(FORMAT, VERSION, Manifest, MEMBER, _check_sessions)


class Reader(bundle.Reader[Manifest]):
    """Reads an archive; its members by line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, KIND)

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield a member's lines with their ends; at the last one it is known whether all had the right checksum."""
        with refusing(self.path):
            begun, length = list[bytes](), 0
            for block in self.pieces(name):
                first, *lines = block.split(b"\n")
                begun.append(first)
                length += len(first)
                if length > LINE_BYTES:
                    raise Refused(f"{name} has a line that is too long")
                for line in lines:
                    yield b"".join(begun) + b"\n"
                    begun, length = [line], len(line)
            if length:
                raise Refused(f"{name} ends in the middle of a line")
