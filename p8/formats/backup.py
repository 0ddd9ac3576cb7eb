"""P8's backup: a bundle of an archive of sessions, configuration, and the files of a state folder under numbers.

The manifest says where each file belongs; a path that leads out of the folder, or through a link, makes the whole
backup refused. Refuses: to know what an instance or a session is (`core/backup.py` does).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import quote, unquote_to_bytes

import msgspec

from p8.formats import bundle
from p8.formats.bundle import MOST_MEMBERS, Bundle, Kind, Refused

FORMAT, VERSION, SUFFIX = "p8-backup", 1, ".p8-backup.zip"
SESSIONS, CONFIG, TEMPLATE = "sessions.p8.zip", "instance.yml", "template.yml"
MEMBER = re.compile(r"sessions\.p8\.zip|instance\.yml|template\.yml|state/\d{6}", re.ASCII)
MOST_FILES = MOST_MEMBERS - 10
MOST_NODES = 1_000_000
PATH_BYTES = 4096
PLAIN = "/ !#$&'()*+,:;=@[]{}^`|<>?\"\\"  #: beside letters and digits; what else a name has stands as %XX


class Node(msgspec.Struct):
    """One thing in a state folder. Its path, and a link's target, are `encoded`."""

    path: str
    kind: Literal["file", "folder", "link"]
    mode: int = 0  #: permissions, nine bits
    size: int = 0
    sha256: str = ""
    target: str = ""
    modified_us: int = 0
    member: str = ""  #: a file's place in the zip


class Backup(Bundle):
    """What a backup holds."""

    kind: Literal["instance", "session"] = "session"
    name: str = ""  #: the instance's or the session's id
    made_us: int = 0
    by: str = ""
    instance: dict[str, Any] | None = None  #: its row
    sessions: list[str] = msgspec.field(default_factory=list)
    state: str = ""  #: hash of the state folder, see `hash_of`; empty where there was none
    nodes: list[Node] = msgspec.field(default_factory=list)
    changed: list[str] = msgspec.field(default_factory=list)  #: files that changed while they were read


def encoded(path: bytes) -> str:
    """Return a path of any bytes as text."""
    return quote(path, safe=PLAIN)


def decoded(text: str) -> str:
    """Return a path as this system takes it."""
    return os.fsdecode(unquote_to_bytes(text))


def hash_of(nodes: Sequence[Node]) -> str:
    """Return the hash of a state folder: names, kinds, permissions, contents and links; not times and owners."""
    digest = hashlib.sha256()
    for node in sorted(nodes, key=lambda one: one.path):
        line = [node.path, node.kind, node.mode, node.size, node.sha256, node.target]
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()


def _check_nodes(manifest: Backup) -> None:
    """Refuse a state folder that could not have been one, or would be made anywhere else."""
    if len(manifest.nodes) > MOST_NODES:
        raise Refused(f"it lists {len(manifest.nodes):,} files")
    members = {member.name: member for member in manifest.members}
    folders, seen, used = {""}, set[str](), set[str]()
    for node in manifest.nodes:
        why = _odd_path(node.path)
        if not why and node.path in seen:
            why = "is there twice"
        if not why and node.path.rpartition("/")[0] not in folders:
            why = "does not lie in a folder before it"
        if not why and not 0 <= node.mode <= 0o777:
            why = "has permissions that are none"
        if not why and not 0 <= node.modified_us < 1 << 60:
            why = "has a time that is none"
        if not why and node.kind == "link" and (not node.target or "%00" in node.target or len(node.target) > 8192):
            why = "is a link to nothing"
        if not why and node.kind == "file":
            member = members.get(node.member)
            ours = member is not None and node.member.startswith("state/") and node.member not in used
            if not ours or member is None or (member.size, member.sha256) != (node.size, node.sha256):
                why = "does not fit its member"
        if why:
            raise Refused(f"{node.path[:80]!r} in its state {why}")
        seen.add(node.path)
        used.update({node.member} if node.kind == "file" else ())
        folders.update({node.path} if node.kind == "folder" else ())
    left = {name for name in members if name.startswith("state/")} - used
    if left:
        raise Refused(f"nothing says where {min(left)} belongs")
    if (hash_of(manifest.nodes) if manifest.state else "") != manifest.state or (manifest.nodes and not manifest.state):
        raise Refused("the hash of its state is another")


def _odd_path(path: str) -> str:
    raw = unquote_to_bytes(path)
    if not raw or len(raw) > PATH_BYTES or encoded(raw) != path or b"\0" in raw:
        return "has a name that is none"
    if any(part in {b"", b".", b".."} or len(part) > 255 for part in raw.split(b"/")):
        return "leads out of it"
    return ""


KIND = Kind(FORMAT, VERSION, Backup, MEMBER, _check_nodes)


class Reader(bundle.Reader[Backup]):
    """
    Reads a backup.

    Args:
        path: what it is called.
        file: open already; closed by whoever opened it.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        super().__init__(path, KIND, file)
