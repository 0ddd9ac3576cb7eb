"""Backups of instances and sessions, and the way back (row M17): configuration, state folder, recorded sessions.

A backup takes its place only when it was read back whole. Restoring checks all of it first, says what it would do, and
does it so that it can be done again after a crash; what it replaces is kept beside. Refuses: a backup that is not
sound, to touch an instance that is up, and to overwrite what nobody agreed to lose.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p8 import __version__
from p8.core import archive, statefolder
from p8.core.archive import Archive, Progress, Restored, silent
from p8.core.blueprint import Places, user_of
from p8.core.export import all_rows, write_archive
from p8.core.remotes import is_remote
from p8.core.roster import UP, Instance, InstanceStatus, instance_of
from p8.errors import Conflict, FormatError, NotFound, StoreError
from p8.formats.backup import CONFIG, FORMAT, SESSIONS, TEMPLATE, VERSION, Backup, Reader, hash_of
from p8.formats.bundle import Writer
from p8.formats.files import replacing
from p8.model import ID_PATTERN, SessionRow

if TYPE_CHECKING:
    from p8.core.instances import InstanceManager

ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}", re.ASCII)
TEMPLATE_NAME = re.compile(r"[\w-]{0,80}", re.ASCII)
KEPT = ("template", "image", "memory_limit", "cpu_limit")  #: of a row's meta, what holds elsewhere too
ROW = ("id", "project_name", "project_path", "mode", "port", "created")
CONFIG_BYTES = 1 << 20
REFUSED = "the backup is refused whole; nothing was restored"


class Made(NamedTuple):
    """A backup that was written and read back."""

    path: Path
    kind: str  #: "instance" or "session"
    name: str
    sessions: int
    files: int
    state: str  #: the state folder's hash; empty where there is none
    size_bytes: int
    changed: Sequence[str]  #: files that changed while they were read
    left_out: Sequence[str]  #: sockets, devices, pipes


class Preview(NamedTuple):
    """What a backup holds, and what restoring it would do."""

    path: Path
    manifest: Backup
    archive: Archive | None
    config: str
    template: str
    project: Path | None  #: where an instance will work
    state: Path  #: where its state folder goes
    replaces: Sequence[str]  #: what is there already and differs, in words


class Done(NamedTuple):
    """What was restored."""

    name: str
    sessions: Restored | None
    state: str  #: the state folder's hash
    kept: Sequence[Path]  #: what was replaced, where it is now


class Backups:
    """
    Makes backups and restores them.

    Args:
        instances: the instances, their store and their files.
    """

    def __init__(self, instances: InstanceManager) -> None:
        self._instances = instances
        self._store = instances.store
        self._home = instances.store.home

    # making

    def of_instance(self, instance_id: str, path: Path, progress: Progress = silent) -> Made:
        """
        Back an instance up, with the sessions recorded in its project's directory. It is frozen meanwhile.

        Raises:
            NotFound, Conflict: there is none, or it is being started or stopped.
            FormatError, StoreError: it cannot be read or written; a file that was there is as it was.
            ContainerError: its state on an engine elsewhere cannot be brought here.
        """
        instance = self._instances.roster.get(instance_id)
        root = str(instance.project_path).rstrip("/")
        rows = [
            row for row in all_rows(self._store, None, False)
            if row.directory == root or row.directory.startswith(f"{root}/")
        ]  # fmt: skip
        with self._still(instance):
            about = {name: value for name, value in self._row(instance).items() if name in ROW}
            about["meta"] = {name: str(instance.meta[name]) for name in KEPT if instance.meta.get(name)}
            files = {CONFIG: self._instances.files.path(instance.id)}
            template = str(instance.meta.get("template") or "")
            own = self._home / "configs" / "templates" / f"{template}.yml"
            files |= {TEMPLATE: own} if template and TEMPLATE_NAME.fullmatch(template) else {}
            manifest = Backup(FORMAT, VERSION, [], "instance", instance.id, instance=about)
            return self._write(path, manifest, rows, files, progress)

    def of_session(self, row: SessionRow, path: Path, progress: Progress = silent) -> Made:
        """Back a session up: what is recorded of it, and its container's state folder. Raises as `of_instance`."""
        return self._write(path, Backup(FORMAT, VERSION, [], "session", row.id), [row], {}, progress)

    def _row(self, instance: Instance) -> dict[str, Any]:
        return self._store.instances.get(instance.id) or {}

    @contextlib.contextmanager
    def _still(self, instance: Instance) -> Iterator[None]:
        """Freeze a running instance, so that its files are of one moment."""
        if instance.status is InstanceStatus.INITIALIZING:
            raise Conflict(f"instance {instance.id} is being started", "wait a moment")
        if instance.status is not InstanceStatus.RUNNING:
            yield
            return
        self._instances.pause(instance.id)
        try:
            if is_remote(instance):
                self._instances.remotes.sync(instance)
            yield
        finally:
            self._instances.pause(instance.id, paused=False)

    def _write(
        self, path: Path, manifest: Backup, rows: Sequence[SessionRow], files: dict[str, Path], progress: Progress
    ) -> Made:
        """Write a backup and read it back before it takes the place of what was there."""
        state = Places.of(self._home, manifest.name).state
        manifest.made_us, manifest.by = self._store.clock(), f"p8 {__version__}"
        manifest.sessions = [row.id for row in rows]
        left_out: list[str] = []
        folder = Path(os.path.realpath(path)).parent
        with replacing(path) as file:
            writer = Writer(file, folder)
            if rows:
                with self._scratch() as scratch:
                    carried = scratch / SESSIONS
                    write_archive(self._store, carried, rows, progress=progress)
                    writer.add(SESSIONS, _blocks(carried))
            for name, source in files.items():
                with contextlib.suppress(FileNotFoundError):
                    writer.add(name, [source.read_bytes()])
            if state.is_dir():
                found = statefolder.scan(state, statefolder.into(writer, progress))
                manifest.nodes, manifest.changed, left_out = found.nodes, found.changed, found.left_out
                manifest.state = hash_of(found.nodes)
            writer.finish(manifest)
            file.flush()
            progress(0.95, "reading it back")
            with Reader(path, file) as reader:
                self._examine(reader)
                if reader.manifest != manifest:
                    raise FormatError(f"{path.name} does not read back as it was written", "try another disk")
        progress(1.0, "")
        count = sum(node.kind == "file" for node in manifest.nodes)
        return Made(
            path, manifest.kind, manifest.name, len(rows), count, manifest.state, path.stat().st_size, manifest.changed,
            left_out,
        )  # fmt: skip

    # looking

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        try:
            made = tempfile.TemporaryDirectory(prefix="backup-", dir=self._home / "cache")
        except OSError as error:
            raise StoreError(f"{self._home / 'cache'}: {error.strerror}", "P8's home must be writable") from error
        with made as name:
            yield Path(name)

    def _examine(self, reader: Reader, progress: Progress = silent) -> Archive | None:
        """Read a backup whole; return its archive of sessions, checked, whose file is gone then."""
        manifest = reader.manifest
        if not ID.fullmatch(manifest.name) or (manifest.kind == "session") != (manifest.instance is None):
            raise FormatError(f"{reader.path.name}: it is of {manifest.name[:60]!r}, which is no id", REFUSED)
        if manifest.instance is not None:
            _check_row(reader.path, manifest)
        elif not ID_PATTERN.fullmatch(manifest.name) or manifest.sessions != [manifest.name]:
            raise FormatError(f"{reader.path.name}: it is of no session", REFUSED)
        reader.check()
        if reader.has(SESSIONS) != bool(manifest.sessions):
            raise FormatError(f"{reader.path.name}: its sessions do not fit its manifest", REFUSED)
        if not manifest.sessions:
            return None
        with self._archive(reader) as path:
            found = archive.read_archive(path, progress)
        missing = set(manifest.sessions) - {carried.row.id for carried in found.sessions}
        if missing:
            raise FormatError(f"{reader.path.name}: session {min(missing)[:60]} is not in it", REFUSED)
        return found

    @contextlib.contextmanager
    def _archive(self, reader: Reader) -> Iterator[Path]:
        with self._scratch() as scratch:
            path = scratch / SESSIONS
            with path.open("wb") as out:
                for piece in reader.pieces(SESSIONS):
                    out.write(piece)
            yield path

    def preview(self, path: Path, project: Path | None = None, progress: Progress = silent) -> Preview:
        """
        Read a backup whole, check everything, and say what restoring it would do. Changes nothing.

        Args:
            path: the backup.
            project: where an instance is to work from now on; where it did, if None.
            progress: told how far it has come.

        Raises:
            FormatError: it is no backup, or not sound.
            Conflict: its instance is up.
            NotFound: its project's directory is not here.
        """
        with Reader(path) as reader:
            found = self._examine(reader, progress)
            texts = [_text(reader, name) for name in (CONFIG, TEMPLATE)]
            manifest = reader.manifest
        state = Places.of(self._home, manifest.name).state
        replaces, place = [], None
        here = statefolder.state_hash(state)
        if here and manifest.state and here != manifest.state:
            if manifest.kind == "session" and self._is_open(manifest.name):
                raise Conflict(f"session {manifest.name} is open, and has another state folder", "leave it first")
            replaces.append(f"the state folder of {manifest.name}")
        if manifest.instance is not None:
            place = (project or Path(manifest.instance["project_path"])).expanduser().absolute()
            replaces += self._differs(manifest, place, texts)
        progress(1.0, "")
        return Preview(path, manifest, found, texts[0], texts[1], place, state, tuple(replaces))

    def _is_open(self, session: str) -> bool:
        return self._store.leases.held(session) or self._store.leases.holder(session) is not None

    def _differs(self, manifest: Backup, place: Path, texts: Sequence[str]) -> Iterator[str]:
        row = manifest.instance or {}
        standing = self._store.instances.get(manifest.name)
        if standing is not None:
            if standing["status"] in UP or self._store.instances.busy(standing):
                raise Conflict(
                    f"instance {manifest.name} is {standing['status']}", f"ai-session stop {manifest.name} first"
                )
            if (standing["project_path"], standing["mode"]) != (str(place), row["mode"]):
                yield f"instance {manifest.name}, which is {standing['mode']} in {standing['project_path']}"
        if not place.is_dir():
            raise NotFound(f"its project's directory {place} is not here", "put it back, or name one with --project")
        for path, text in zip(self._configs(manifest), texts, strict=True):
            if text and path.exists() and path.read_bytes() != text.encode():
                yield f"{path.parent.name}/{path.name}"

    def _configs(self, manifest: Backup) -> tuple[Path, Path]:
        template = str((manifest.instance or {}).get("meta", {}).get("template") or "none")
        return self._instances.files.path(manifest.name), self._home / "configs" / "templates" / f"{template}.yml"

    # restoring

    def restore(self, preview: Preview, overwrite: bool = False, progress: Progress = silent) -> Done:
        """
        Restore what a preview showed: sessions, then state, then configuration, then the instance, which is stopped.

        Args:
            preview: from `preview`.
            overwrite: agreed to replace what is there.
            progress: told how far it has come.

        Raises:
            Conflict: something would be replaced and nobody agreed, or it changed since.
            FormatError, StoreError, ConfigError: nothing is half restored; what was taken in before stays, and doing
                it again takes in the rest.
        """
        manifest = preview.manifest
        self._agreed(preview, overwrite)
        place = Places.of(self._home, manifest.name).state
        young = place.with_name(f"home.young-{os.urandom(4).hex()}")
        with Reader(preview.path) as reader, self._configured(preview) as kept:
            if reader.manifest != manifest:
                raise FormatError(f"{preview.path.name}: it was changed while it was looked at", REFUSED)
            try:
                if manifest.state:
                    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    statefolder.unpack(reader, young, _owner(preview))
                sessions = self._sessions(reader, progress)
                name = sessions.copied.get(manifest.name, manifest.name) if sessions else manifest.name
                place = Places.of(self._home, name).state
                if manifest.state:
                    kept.extend(_swap(young, place))
            finally:
                if young.exists():
                    statefolder.discard(young)
            if manifest.instance is not None:
                self._record(preview)
        progress(1.0, "")
        return Done(name, sessions, statefolder.state_hash(place), kept)

    def _agreed(self, preview: Preview, overwrite: bool) -> None:
        now = self.preview(preview.path, preview.project)
        if now.manifest != preview.manifest or (set(now.replaces) - set(preview.replaces)):
            raise Conflict(f"{preview.path.name}, or what it would replace, changed meanwhile", "look again")
        if now.replaces and not overwrite:
            raise Conflict(f"this would replace {', '.join(now.replaces)}", "--yes does it; what was there is kept")

    def _sessions(self, reader: Reader, progress: Progress) -> Restored | None:
        if not reader.manifest.sessions:
            return None
        with self._archive(reader) as path:
            return archive.restore_archive(self._store, archive.read_archive(path), progress)

    @contextlib.contextmanager
    def _configured(self, preview: Preview) -> Iterator[list[Path]]:
        """Put the configuration in place; what makes no sense here is refused, and as it was where anything fails."""
        kept: list[Path] = []
        done: list[tuple[Path, list[Path]]] = []
        try:
            for path, text in zip(self._configs(preview.manifest), (preview.config, preview.template), strict=True):
                if text and not (path.is_file() and path.read_bytes() == text.encode()):
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    done.append((path, _aside(path)))
                    kept += done[-1][1]
                    with replacing(path) as file:
                        file.write(text.encode())
            if preview.manifest.instance is not None:
                self._instances.roster.settings_of(instance_of(_blank(preview)))
            yield kept
        except BaseException as error:
            for path, before in done:
                path.unlink(missing_ok=True)
                for one in before:
                    one.rename(path)
            if isinstance(error, OSError):
                raise StoreError(f"{error.filename}: {error.strerror}", "P8's home must be writable") from error
            raise

    def _record(self, preview: Preview) -> None:
        """Put the instance's row back."""
        name, row = preview.manifest.name, _blank(preview)
        if self._store.instances.get(name) is None:
            self._store.instances.insert({key: row[key] for key in (*ROW, "status", "meta")})
        else:
            same = {key: row[key] for key in ("project_name", "project_path", "mode", "status", "container")}
            self._store.instances.update(name, row["meta"] | {"error": "", "lost": False}, **same)
        self._instances.roster.export()
        about = {"what": "restored", "instance": name, "from": preview.path.name}
        self._instances.roster.tell("info", f"instance {name} restored", about)


def _blank(preview: Preview) -> dict[str, Any]:
    """Return the row of a restored instance, which is stopped."""
    row = dict(preview.manifest.instance or {}) | {"project_path": str(preview.project)}
    return {**row, "status": "stopped", "container": "", "started": 0, "checked": 0, "owner": ""}


def _owner(preview: Preview) -> tuple[int, int] | None:
    """Return whose the state folder is to be: as its container will run, where this process may say so."""
    if os.getuid() != 0:
        return None
    if preview.project is not None:
        return user_of(preview.project)
    carried = next((c for c in preview.archive.sessions if c.row.id == preview.manifest.name), None) if (
        preview.archive
    ) else None  # fmt: skip
    directory = Path(carried.row.directory) if carried is not None else Path("/nonexistent")
    return user_of(directory) if directory.is_dir() else None


def _swap(young: Path, place: Path) -> list[Path]:
    """Put a new folder in another's place; return where the other is kept, if it was another."""
    kept: list[Path] = []
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.exists():
            if statefolder.state_hash(place) == statefolder.state_hash(young):
                return []
            kept.append(place.with_name(f"home.before-{os.urandom(4).hex()}"))
            place.rename(kept[0])
        young.rename(place)
    except OSError as error:
        raise StoreError(f"{place}: {error.strerror}", "P8's home must be writable") from error
    return kept


def _aside(path: Path) -> list[Path]:
    """Move a file out of the way; return where it is kept, if it was there."""
    if not (path.exists() or path.is_symlink()):
        return []
    kept = path.with_name(f"{path.name}.before-{os.urandom(4).hex()}")
    path.rename(kept)
    return [kept]


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def _text(reader: Reader, name: str) -> str:
    if not reader.has(name):
        return ""
    body = b""
    for piece in reader.pieces(name):
        body += piece
        if len(body) > CONFIG_BYTES:
            raise FormatError(f"{reader.path.name}: {name} is too large", REFUSED)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{reader.path.name}: {name} is not text", REFUSED) from error


def _check_row(path: Path, manifest: Backup) -> None:
    """Refuse a row of an instance that P8 would not have recorded."""
    row = manifest.instance or {}
    meta = row.get("meta")
    words = [row.get(name) for name in ("id", "project_name", "project_path", "mode")]
    numbers = [row.get(name) for name in ("port", "created")]
    fits = (
        set(row) == {*ROW, "meta"} and isinstance(meta, dict) and set(meta) <= set(KEPT)
        and all(isinstance(word, str) and 0 < len(word) <= 4096 and word.isprintable() for word in words)
        and all(type(number) is int and 0 <= number < 1 << 60 for number in numbers) and row["port"] < 65536
        and all(isinstance(value, str) and len(value) <= 300 and value.isprintable() for value in meta.values())
        and row["id"] == manifest.name and ID.fullmatch(row["mode"]) and row["project_path"].startswith("/")
        and TEMPLATE_NAME.fullmatch(meta.get("template", ""))
    )  # fmt: skip
    if not fits:
        raise FormatError(f"{path.name}: what it says of its instance cannot be", REFUSED)
