"""A zip that P8 wrote: a manifest, and members of which it says the size and the SHA-256.

Reading trusts nothing: a zip with a name, a kind of member, a size or a checksum that this file would not have written
is refused whole. Nothing is ever unpacked to a path. Refuses: to know what the members are (`native.py`, `backup.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, Self, TypeVar

import msgspec

from p8.errors import FormatError

MANIFEST = "manifest.json"
MOST_MEMBERS = 200_000
MOST_BYTES = 64 << 30  #: unpacked, all members together
MANIFEST_BYTES = 256 << 20
RATIO, RATIO_FLOOR = 250, 16 << 20  #: more than so many bytes may not be packed tighter than this
STORED_RATIO, STORED_FLOOR = 200, 16 << 10  #: what packs tighter is stored unpacked, to stay clear of that
BLOCK = 1 << 20
FLAGS = 0x0002 | 0x0004 | 0x0008 | 0x0800  #: deflate's options, sizes behind the data, names in UTF-8


class Member(msgspec.Struct):
    """A file of the zip."""

    name: str
    size: int
    sha256: str


class Bundle(msgspec.Struct):
    """What every manifest says."""

    format: str
    version: int
    members: list[Member] = []


class Writer:
    """
    Writes a bundle into an open file.

    Args:
        file: where it goes.
        folder: where large members are collected first; on the disk that must hold the bundle anyway.
    """

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._folder = folder
        self._members: list[Member] = []

    def add(self, name: str, lines: Iterable[bytes]) -> Member:
        """Add a member, and return what the manifest will say of it."""
        digest, packer, packed, size = hashlib.sha256(), zlib.compressobj(1), 0, 0
        with tempfile.SpooledTemporaryFile(max_size=8 << 20, dir=str(self._folder)) as spool:
            for line in lines:
                spool.write(line)
                digest.update(line)
                packed += len(packer.compress(line))
                size += len(line)
            packed += len(packer.flush())
            spool.seek(0)
            tight = size > STORED_FLOOR and size > packed * STORED_RATIO
            with self._zip.open(_info(name, tight), "w", force_zip64=size > 1 << 31) as out:
                while block := spool.read(BLOCK):
                    out.write(block)
        self._members.append(Member(name, size, digest.hexdigest()))
        return self._members[-1]

    def finish(self, manifest: Bundle) -> None:
        """Add the manifest, which is the last member, and end the zip."""
        manifest.members = self._members
        body = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        with self._zip.open(_info(MANIFEST, len(body) > BLOCK), "w") as out:
            out.write(body)
        self._zip.close()


def _info(name: str, stored: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # no time: the same sessions give the same bytes
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    return info


M = TypeVar("M", bound=Bundle)


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """A format of bundles: what its manifest calls itself, how it reads, and what its members may be called."""

    format: str
    version: int  #: the newest that is understood
    manifest: type[M]
    names: re.Pattern[str]
    check: Callable[[M], None]  #: raises `Refused` where the manifest fits the members, and makes no sense


class Reader(Generic[M]):
    """
    Reads a bundle. Making one checks its directory and manifest; reading its members to their end checks the rest.

    Args:
        path: what it is called.
        kind: what it must be.
        file: open already; closed by whoever opened it.

    Raises:
        FormatError: it is no bundle of that kind, or one that is refused; so do all methods.
    """

    def __init__(self, path: Path, kind: Kind[M], file: BinaryIO | None = None) -> None:
        self.path = path
        with contextlib.ExitStack() as stack, refusing(path):
            opened = file if file is not None else stack.enter_context(path.open("rb"))
            size = _file_size(opened)
            count = _check_end(opened, size)
            opened.seek(0)
            self._zip = stack.enter_context(zipfile.ZipFile(opened))
            if len(self._zip.infolist()) != count:
                raise Refused(f"it says that it has {count:,} members, and has {len(self._zip.infolist()):,}")
            _check_members(self._zip, size, kind.names)
            self.manifest = self._read_manifest(kind)
            kind.check(self.manifest)
            self._sums = {member.name: member.sha256 for member in self.manifest.members}
            self._open = stack.pop_all()

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_manifest(self, kind: Kind[M]) -> M:
        info = self._zip.getinfo(MANIFEST)
        if info.file_size > MANIFEST_BYTES:
            raise Refused("its manifest is too large")
        body = self._zip.read(info)
        about = msgspec.json.decode(body, type=Bundle)
        if about.format != kind.format:
            raise Refused(f"its manifest says {about.format[:40]!r}, not {kind.format!r}")
        if about.version > kind.version:
            raise Refused("a newer P8 made it")
        known = {info.filename: info.file_size for info in self._zip.infolist() if info.filename != MANIFEST}
        listed = {member.name: member.size for member in about.members}
        if known != listed or len(listed) != len(about.members):
            odd = sorted(known.items() ^ listed.items())
            raise Refused(f"its manifest does not fit what is in it: {odd[0][0][:80] if odd else 'a name twice'!r}")
        return msgspec.json.decode(body, type=kind.manifest)

    def has(self, name: str) -> bool:
        """Return whether it has a member."""
        return name in self._sums

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a member's bytes; after the last it is known whether they had the right checksum."""
        with refusing(self.path):
            if name not in self._sums:
                raise Refused(f"it has no {name}")
            digest = hashlib.sha256()
            with self._zip.open(name) as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    yield block
            if digest.hexdigest() != self._sums[name]:
                raise Refused(f"{name} was changed: its SHA-256 is another")

    def check(self) -> None:
        """Read every member to its end and compare its checksum."""
        for name in self._sums:
            for _ in self.pieces(name):
                pass


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Make one line of whatever is wrong with a bundle: a FormatError."""
    hint = "the archive is refused whole; nothing was taken"
    try:
        yield
    except Refused as error:
        raise FormatError(f"{path.name}: {error}", hint) from error
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise FormatError(f"{path.name}: its manifest cannot be read: {error}", hint) from error
    except _ODD as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise FormatError(f"{path.name}: not a sound zip: {said}", hint) from error


class Refused(Exception):
    """Why a bundle is refused; becomes a FormatError."""


_ODD = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, KeyError, OverflowError, MemoryError,
)  # fmt: skip


def _file_size(file: BinaryIO) -> int:
    """Return the size of what must be a plain file."""
    state = os.fstat(file.fileno())
    if not stat.S_ISREG(state.st_mode):
        raise Refused("not a file")
    return state.st_size


def _check_end(file: BinaryIO, size: int) -> int:
    """Look at the zip's last bytes, before a directory of any length is read into memory; return how many members."""
    file.seek(max(size - 98, 0))
    tail = file.read(98)
    end = tail[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise Refused("not an archive of P8's" if b"PK" not in tail else "not a zip that ends where a zip ends")
    count, length = struct.unpack("<HI", end[10:16])
    if count == 0xFFFF or length == 0xFFFFFFFF:
        wide = tail[:56]
        if len(wide) < 56 or wide[:4] != b"PK\x06\x06":
            raise Refused("not a sound zip: its directory is not where it says")
        count, length = struct.unpack("<QQ", wide[32:48])
    if count > MOST_MEMBERS or length > count * 1000 or length > size:
        raise Refused(f"it says that it has {count:,} members in {length:,} bytes")
    return int(count)


def _check_members(archive: zipfile.ZipFile, size: int, allowed: re.Pattern[str]) -> None:
    """Refuse a zip with a member that P8 would not have written; `allowed` are the names beside the manifest's."""
    infos = archive.infolist()
    total, seen = 0, set()
    for info in infos:
        why = _oddity(info, allowed)
        if info.filename in seen:
            why = "is there twice"
        if why:
            raise Refused(f"member {info.orig_filename[:80]!r} {why}")
        seen.add(info.filename)
        total += info.file_size
    if MANIFEST not in seen:
        raise Refused("not an archive of P8's: it has no manifest")
    if total > MOST_BYTES or (total > RATIO_FLOOR and total > size * RATIO):
        raise Refused(f"{size:,} bytes would become {total:,}")
    at = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset < at or (at == 0 and info.header_offset != 0):
            raise Refused(f"member {info.orig_filename[:80]!r} lies where something else does")
        at = info.header_offset + 30 + len(info.orig_filename) + info.compress_size
    if at > archive.start_dir:
        raise Refused("its last member reaches into its directory")


def _oddity(info: zipfile.ZipInfo, allowed: re.Pattern[str]) -> str:
    """Return why a member cannot be one of P8's; "" where it can."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    checks: tuple[tuple[bool, str], ...] = (
        (info.filename != info.orig_filename, "has a name that is two"),
        (info.filename.endswith(("/", "\\")) or bool(info.external_attr & 0x10), "is a directory"),
        (kind == stat.S_IFLNK, "is a link"),
        (kind not in {0, stat.S_IFREG}, "is no file"),
        (info.filename != MANIFEST and allowed.fullmatch(info.filename) is None, "has a name P8 does not give"),
        (bool(info.flag_bits & ~FLAGS), "is encrypted, or packed in an unknown way"),
        (info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}, "is packed in an unknown way"),
        (info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size, "has two sizes"),
        (info.file_size > MOST_BYTES, "is too large"),
        (info.file_size > RATIO_FLOOR and info.file_size > info.compress_size * 1100, "is packed too tightly"),
    )
    return next((why for odd, why in checks if odd), "")
