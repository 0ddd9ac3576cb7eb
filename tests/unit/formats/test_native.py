"""Hostile archives: each is refused whole, in one line, before anything is taken from it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from p8.core.archive import read_archive, restore_archive
from p8.core.export import all_rows, write_archive
from p8.core.sessions import SessionManager
from p8.errors import FormatError
from p8.formats.bundle import RATIO_FLOOR
from p8.formats.native import LINE_BYTES, Reader
from p8.store.carry import Record, line_of
from p8.store.manager import PersistenceManager

NAME = "sessions/20260101-000000-000000-0000.jsonl"
OTHER = "sessions/20260101-000000-000000-0001.jsonl"
START = {"what": "started", "set": {"project_name": "demo"}}


def session(name: str) -> bytes:
    """Return the line of a session in which nothing was said."""
    return line_of(name[9:-6], Record(1, 1_795_000_000_000_000, "session", START, 0), 0)[0]


BODY = session(NAME)


def manifest(**members: bytes) -> bytes:
    listed = [
        {"name": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in members.items()
    ]
    sessions = [
        {"row": {"id": name[9:-6]}, "entries": 1, "last": 1, "head": body[6:22].decode("latin-1")}
        for name, body in members.items()
        if name.startswith("sessions/")
    ]
    return json.dumps({"format": "p8-archive", "version": 1, "members": listed, "sessions": sessions}).encode()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for info, body in members:
            archive.writestr(info, body)
    return out.getvalue()


def named(name: str, mode: int = stat.S_IFREG | 0o600) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def with_member(info: str | zipfile.ZipInfo, body: bytes = b"") -> bytes:
    """Return an archive with one good member and another one, both in the manifest."""
    name = info if isinstance(info, str) else info.filename
    body = body or session(name)
    return zipped((NAME, BODY), (info, body), ("manifest.json", manifest(**{NAME: BODY, name: body})))


def patched(raw: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in raw
    return raw.replace(old, new, count)


LISTED = manifest(**{NAME: BODY})
GOOD = zipped((NAME, BODY), ("manifest.json", LISTED))
STORED = zipped((NAME, BODY), ("manifest.json", LISTED), how=zipfile.ZIP_STORED)
BAD_NAMES = [
    "../evil.jsonl", "sessions/../../evil", "/etc/passwd", "//host/share", "C:\\evil", "C:evil", "..\\..\\evil", ".",
    "..", "sessions/", "sessions/evil.jsonl", "SESSIONS/20260101-000000-000000-0001.jsonl", "Manifest.json",
    "manifest.json/", "manifest.json ", "sessions/20260101-000000-000000-000G.jsonl", "./manifest.json",
    "sessions/20260101-000000-000000-0001.jsonl\n", "sessions/20260101-000000-000000-0001.jsonl/x",
    "sessions//20260101-000000-000000-0001.jsonl", "sessions/./20260101-000000-000000-0001.jsonl",
    "sessions/２0260101-000000-000000-0001.jsonl", "con", "nul.jsonl", "a" * 5000, "~/.ssh/authorized_keys",
    "sessions/20260101-000000-000000-0001.jsonl:stream", "sessions/20260101-000000-000000-0001~../x.jsonl",
    "\u202esessions", "sessions\\20260101-000000-000000-0001.jsonl", "p8.db", "journal/x.jsonl", "config.toml",
]  # fmt: skip
MODES = {
    "link": stat.S_IFLNK | 0o777, "directory": stat.S_IFDIR | 0o700, "character device": stat.S_IFCHR | 0o600,
    "block device": stat.S_IFBLK | 0o600, "pipe": stat.S_IFIFO | 0o600, "socket": stat.S_IFSOCK | 0o600,
}  # fmt: skip


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        return with_member(NAME)


def two_manifests() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        return zipped((NAME, BODY), ("manifest.json", manifest()), ("manifest.json", manifest(**{NAME: BODY})))


def bomb(mib: int, declared: bool = True) -> bytes:
    body = b"0" * (mib << 20)
    return zipped((NAME, body), ("manifest.json", manifest(**{NAME: body} if declared else {NAME: BODY})))


def overlapping() -> bytes:
    """Return a zip two of whose members are the same bytes."""
    raw = with_member(OTHER)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        second = archive.getinfo(OTHER).header_offset
    central = raw.index(b"PK\x01\x02")
    at = raw.index(b"PK\x01\x02", central + 4) + 42
    assert struct.unpack("<I", raw[at : at + 4]) == (second,)
    return raw[:at] + struct.pack("<I", 0) + raw[at + 4 :]


def many(count: int) -> bytes:
    """Return a zip whose last bytes speak of more members than there are."""
    return GOOD[:-14] + struct.pack("<HH", count, count) + GOOD[-10:]


def central(field: int, form: str, value: int, raw: bytes = GOOD) -> bytes:
    """Return an archive with one field of the first entry of its directory changed."""
    at = raw.index(b"PK\x01\x02") + field
    return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]


def local(field: int, form: str, value: int, raw: bytes = GOOD) -> bytes:
    at = raw.index(b"PK\x03\x04") + field
    return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]


def lying(change: Callable[[dict], object]) -> bytes:
    about = json.loads(manifest(**{NAME: BODY}))
    change(about)
    return zipped((NAME, BODY), ("manifest.json", json.dumps(about).encode()))


HOSTILE: dict[str, Callable[[], bytes]] = {
    **{f"named {name[:40]!r}": (lambda name=name: with_member(name)) for name in BAD_NAMES},
    **{f"is a {kind}": (lambda mode=mode: with_member(named(OTHER, mode))) for kind, mode in MODES.items()},
    "is a directory for DOS": lambda: with_member(_dos_directory()),
    "link as manifest": lambda: zipped((NAME, BODY), (named("manifest.json", stat.S_IFLNK), manifest(**{NAME: BODY}))),
    "member twice": twice,
    "manifest twice": two_manifests,
    "name with a zero byte": lambda: patched(with_member(OTHER), b"0001.jsonl", b"0001\0json"),
    "bomb": lambda: bomb(20),
    "bomb that says it is small": lambda: _small_size(bomb(20, declared=False)),
    "bomb of many members": lambda: _many_members(60, 1 << 19),
    "zip in a zip, as a session": lambda: with_member(OTHER, GOOD),
    "overlapping members": overlapping,
    "too many members said": lambda: many(0xFFFE),
    "members without number": lambda: many(0xFFFF),
    "something before": lambda: b"#!/bin/sh\nexit\n" + GOOD,
    "something after": lambda: GOOD + b"x",
    "a comment": lambda: GOOD[:-2] + b"\x05\0hello",
    "cut off": lambda: GOOD[:-30],
    "cut in half": lambda: GOOD[: len(GOOD) // 2],
    "first half missing": lambda: GOOD[len(GOOD) // 2 :],
    "empty": lambda: b"",
    "one byte": lambda: b"P",
    "no zip": lambda: b"hello\n" * 100,
    "tar": lambda: b"./\0" * 200 + b"ustar",
    "empty zip": lambda: zipped(),
    "no manifest": lambda: zipped((NAME, BODY)),
    "manifest only of names": lambda: zipped(("manifest.json", manifest(**{NAME: BODY}))),
    "member that is not listed": lambda: zipped((NAME, BODY), (OTHER, BODY), ("manifest.json", LISTED)),
    "size that is wrong": lambda: lying(lambda m: m["members"][0].update(size=5)),
    "checksum that is wrong": lambda: lying(lambda m: m["members"][0].update(sha256="0" * 64)),
    "listed twice": lambda: lying(lambda m: m["members"].append(m["members"][0])),
    "session twice": lambda: lying(lambda m: m["sessions"].append(m["sessions"][0])),
    "session without member": lambda: lying(lambda m: m["sessions"].clear()),
    "another format": lambda: lying(lambda m: m.update(format="zip")),
    "a newer version": lambda: lying(lambda m: m.update(version=2)),
    "version that is no number": lambda: lying(lambda m: m.update(version="1")),
    "members that are no list": lambda: lying(lambda m: m.update(members={"a": 1})),
    "negative size": lambda: lying(lambda m: m["members"][0].update(size=-1)),
    "entries without number": lambda: lying(lambda m: m["sessions"][0].update(entries=2**70)),
    "project that is none": lambda: lying(lambda m: m.update(projects=[{"id": "../../x"}])),
    "project of no time": lambda: lying(lambda m: m.update(projects=[{"id": "a-00000000", "created": 2**63 - 1}])),
    "manifest that is no JSON": lambda: zipped((NAME, BODY), ("manifest.json", b"{")),
    "manifest that is a list": lambda: zipped((NAME, BODY), ("manifest.json", b"[]")),
    "manifest that is deep": lambda: zipped((NAME, BODY), ("manifest.json", b"[" * 100_000)),
    "manifest that is binary": lambda: zipped((NAME, BODY), ("manifest.json", os.urandom(500))),
    "encrypted": lambda: central(8, "<H", 1),
    "strongly encrypted": lambda: central(8, "<H", 0x41),
    "patched data": lambda: central(8, "<H", 0x20),
    "packed with lzma": lambda: zipped((NAME, BODY), ("manifest.json", LISTED), how=zipfile.ZIP_LZMA),
    "packed with bzip2": lambda: zipped((NAME, BODY), ("manifest.json", LISTED), how=zipfile.ZIP_BZIP2),
    "packed with 99": lambda: central(10, "<H", 99),
    "stored, says deflated": lambda: central(10, "<H", 8, STORED),
    "checksum of the zip": lambda: central(16, "<I", 0),
    "packed size zero": lambda: central(20, "<I", 0),
    "packed size huge": lambda: central(20, "<I", 0xFFFFFFF0),
    "size zero": lambda: central(24, "<I", 0),
    "size huge": lambda: central(24, "<I", 0xFFFFFFF0),
    "size one more": lambda: central(24, "<I", len(BODY) + 1),
    "name that is long": lambda: central(28, "<H", 60_000),
    "extra that is long": lambda: central(30, "<H", 60_000),
    "comment that is long": lambda: central(32, "<H", 60_000),
    "place beyond the end": lambda: central(42, "<I", 0x7FFFFFFF),
    "place inside": lambda: central(42, "<I", 5),
    "zip64 sizes without zip64": lambda: central(24, "<I", 0xFFFFFFFF),
    "local name that differs": lambda: patched(GOOD, b"000000-0000.jsonl", b"000000-0001.jsonl", 1),
    "local name that is long": lambda: local(26, "<H", 60_000),
    "local signature": lambda: local(0, "<I", 0),
    "data that is no deflate": lambda: patched(GOOD, _deflated(BODY), b"\xff" * len(_deflated(BODY))),
    "data that is other": lambda: patched(STORED, BODY, BODY.replace(b"demo", b"Demo")),
    "lines that are no entries": lambda: with_member(OTHER, b'{"not":"an entry"}\n'),
    "another session's lines": lambda: with_member(OTHER, BODY),
}  # fmt: skip


def _dos_directory() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(OTHER)
    info.external_attr = 0x10
    return info


def _deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(-1, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


def _small_size(raw: bytes) -> bytes:
    return central(24, "<I", len(BODY), raw)


def _many_members(count: int, size: int) -> bytes:
    bodies = {f"sessions/20260101-000000-{n:06d}-0000.jsonl": b"0" * size for n in range(count)}
    return zipped(*bodies.items(), ("manifest.json", manifest(**bodies)))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_whole_with_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.zip"
    path.write_bytes(HOSTILE[name]())
    before = sorted(tmp_path.rglob("*"))
    started = time.monotonic()
    with pytest.raises(FormatError) as caught:
        read_archive(path)

    assert "\n" not in caught.value.message + caught.value.hint
    assert len(caught.value.message) < 400
    assert caught.value.message.startswith(("hostile.zip: ", "its manifest ", "an entry ", "entry "))
    assert not name.startswith(("named", "is a")) or "member" in caught.value.message
    assert sorted(tmp_path.rglob("*")) == before
    assert time.monotonic() - started < 10


def test_there_are_many_of_them_and_they_are_refused_for_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "good.zip"
    for good in (GOOD, STORED, with_member(OTHER), with_member(named(OTHER))):
        path.write_bytes(good)
        assert read_archive(path).entries >= 1
    assert len(HOSTILE) >= 100


def test_a_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(bomb(40))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="would become"):
            read_archive(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["directory", "pipe", "missing", "device"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        holder = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(FormatError):
        read_archive(path)
    if kind == "pipe":
        os.close(holder)


def test_noise_is_refused(tmp_path: Path, manager: SessionManager, store: PersistenceManager) -> None:
    manager.start_session("demo")
    manager.record_message({"role": "user", "content": "alpha"})
    path = tmp_path / "a.zip"
    store.drain()
    write_archive(store, path, all_rows(store, None, True))
    good, rnd = path.read_bytes(), random.Random(8)
    whole = {m.sha256 for m in read_archive(path).manifest.members}
    for _ in range(400):
        raw = bytearray(good)
        for _ in range(rnd.randint(1, 6)):
            at, n = rnd.randrange(len(raw)), rnd.randint(0, 12)
            raw[at : at + n] = rnd.randbytes(rnd.randint(0, 12))
        path.write_bytes(raw)
        try:
            found = read_archive(path)
        except FormatError:
            continue
        assert {m.sha256 for m in found.manifest.members} == whole


def test_what_is_refused_leaves_the_store_alone(tmp_path: Path, store: PersistenceManager) -> None:
    store.drain()
    path = tmp_path / "x.zip"
    before = {p: p.stat().st_mtime_ns for p in store.home.rglob("*") if p.is_file()}
    for make in HOSTILE.values():
        path.write_bytes(make())
        with pytest.raises(FormatError):
            restore_archive(store, read_archive(path))
    assert {p: p.stat().st_mtime_ns for p in store.home.rglob("*") if p.is_file()} == before


def test_a_member_is_read_in_bounded_memory(tmp_path: Path) -> None:
    body = (b'{"x":"' + b"y" * 500 + b'"}\n') * 40_000
    path = tmp_path / "x.zip"
    path.write_bytes(zipped((NAME, body), ("manifest.json", manifest(**{NAME: body})), how=zipfile.ZIP_STORED))
    assert len(body) > RATIO_FLOOR
    tracemalloc.start()
    try:
        with Reader(path) as reader:
            assert sum(1 for _ in reader.lines(NAME)) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LINE_BYTES >= 128 << 20
    monkeypatch.setattr("p8.formats.native.LINE_BYTES", 3 << 20)
    body = os.urandom(5 << 20).replace(b"\n", b"x") + b"\n"
    path = tmp_path / "x.zip"
    path.write_bytes(zipped((NAME, body), ("manifest.json", manifest(**{NAME: body}))))
    with Reader(path) as reader, pytest.raises(FormatError, match="too long"):
        list(reader.lines(NAME))
