"""The doctor: what is wrong with everything P8 keeps, what to do about it and in which order, and a record of it.

First journals of dead processes, while they still are as they were left; then the database file; then entries, rows,
index, leases. Between the steps it looks again, because one repair often settles another finding. What cannot be set
right is kept, told once, and known from then on. Refuses: SQL, and to touch what a living process writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.core.custody import Custody
from p8.errors import Conflict, NotFound, P8Error, StoreError
from p8.model import Finding
from p8.store.manager import PersistenceManager, make_home

if TYPE_CHECKING:
    from p8.store.mending import Mender

Check = Callable[[], Iterable[Finding]]
ENTRIES = {"missing", "changed", "hash", "damage"}
ROWS = {"counts", "columns", "role", "list", "homeless"}


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor found, and what came of it."""

    findings: tuple[Finding, ...]  #: what is wrong now
    known: tuple[Finding, ...] = ()  #: what was told before and cannot be set right
    looked_at: dict[str, int] = field(default_factory=dict)  #: how many sessions, entries and journal files
    done: tuple[str, ...] = ()  #: what was repaired, a line each
    failed: tuple[str, ...] = ()  #: what could not be, and why
    kept: str = ""  #: folder in which everything is kept that was replaced
    salvaged: tuple[str, ...] = ()  #: files with what can be read of sessions that are not whole

    @property
    def clean(self) -> bool:
        """Return whether nothing is wrong that has not been told before."""
        return not self.findings


class Doctor:
    """
    Examines and repairs a home.

    Args:
        store: the store.
        custody: marks sessions abandoned whose process is gone.
        extra_checks: further things to look at, each yielding findings: snapshots.
        finish_purge: completes a purge that was interrupted.
        progress: told how far it is.
    """

    def __init__(
        self,
        store: PersistenceManager,
        custody: Custody,
        extra_checks: Sequence[Check] = (),
        finish_purge: Callable[[], Any] | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> None:
        self._store = store
        self._custody = custody
        self._checks = tuple(extra_checks)
        self._finish_purge = finish_purge
        self._progress = progress

    def examine(self, session: str = "") -> Report:
        """Look, and change nothing. `session` is looked at alone, with whom it was forked from."""
        from p8.store.doctor import Examiner

        store = self._store
        if not store.home.exists():
            return Report(())
        examiner = Examiner(store.home, self._folders(), store.keeper.wal, store.clock, self._progress)
        found = examiner.run(session)
        for check in self._checks if not session else ():
            try:
                found += check()
            except P8Error as error:
                found.append(Finding("check", f"could not be made: {error}", level="error"))
        known = tuple(f for f in found if f.level == "known")
        return Report(tuple(f for f in found if f.level != "known"), known, dict(examiner.counted))

    def named(self, words: str) -> str:
        """
        Return the session that an id or a part of one names; it is looked for without folding or repairing anything.

        Raises:
            NotFound, Conflict: none fits, or several do.
        """
        from p8.store.doctor import Examiner

        names = Examiner(self._store.home, [], self._store.keeper.wal, self._store.clock).names()
        fitting = [name for name in names if name == words] or [name for name in names if words in name]
        if len(fitting) > 1:
            raise Conflict(f"{words!r} fits several sessions", ", ".join(fitting[:4]))
        if not fitting:
            raise NotFound(f"no session {words}", "p8 session list --all shows their ids")
        return fitting[0]

    def _folders(self) -> list[Path]:
        journal = self._store.journal
        return list(dict.fromkeys([self._store.home / "journal", journal.folder, *([journal.spill] if journal.spill
                                                                                   else [])]))  # fmt: skip

    def repair(self, session: str = "") -> Report:
        """
        Set right what can be, keep what cannot, and look once more.

        Args:
            session: repair only what is wrong with this one.

        Raises:
            StoreError: the home cannot be written to.
        """
        from p8.store.mending import Mender

        before = self.examine(session)
        if before.clean:
            return before
        store = self._store
        make_home(store.home)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(store.clock() // 1_000_000))
        mender = Mender(store.home, self._folders(), store.keeper, store.home / "damaged" / stamp)
        done: list[str] = []
        failed: list[str] = []
        now = before
        for step in (self._journals, self._file, self._fold, self._entries, self._rows, self._index, self._rest):
            if now.clean:
                break
            try:
                said = step(mender, now.findings)
            except (StoreError, OSError) as error:
                failed.append(error.message if isinstance(error, StoreError) else f"{error.filename}: {error.strerror}")
                continue
            done += said
            if said:
                now = self.examine(session)
        return self._settled(mender, now, done, failed)

    def _settled(self, mender: Mender, now: Report, done: list[str], failed: list[str]) -> Report:
        """Keep what can be read of sessions that are not whole, and remember what was told."""
        lost = [f for f in now.findings if f.key and f.level == "error"]
        files: list[Path] = []
        if lost:
            try:
                files = mender.salvage({f.session for f in lost if f.session})
                mender.acknowledge({f.key for f in lost})
            except (StoreError, OSError) as error:
                failed.append(str(error))
        kept = str(mender.kept) if mender.kept.exists() else ""
        report = Report(
            tuple(f for f in now.findings if f not in lost or failed), (*now.known, *lost), now.looked_at,
            tuple(done), tuple(failed), kept, tuple(map(str, files)),
        )  # fmt: skip
        if kept:
            mender.write("report.json", _as_json(report))
        return report

    # the steps, each returning what it did

    def _journals(self, mender: Mender, findings: Sequence[Finding]) -> list[str]:
        paths = [f.what["path"] for f in _of(findings, {"journal"})]
        said = mender.journals(paths)
        return said + [mender.left(f.what["path"]) for f in _of(findings, {"left"})]

    def _file(self, mender: Mender, findings: Sequence[Finding]) -> list[str]:
        said = [mender.replace()] if _of(findings, {"replace"}) else []
        return said + ([mender.reindex()] if _of(findings, {"reindex"}) and not said else [])

    def _fold(self, mender: Mender, findings: Sequence[Finding]) -> list[str]:
        waiting = _of(findings, {"fold", "journal"})
        if not self._store.drain():
            raise StoreError("the database cannot be written to now", "try again when nothing else uses it")
        return [f"{f.file}: what dead processes left was moved into the database" for f in waiting[:1]]

    def _entries(self, mender: Mender, findings: Sequence[Finding]) -> list[str]:
        wrong = [f for f in _of(findings, ENTRIES) if "problem" in f.what]
        return mender.entries(wrong) if wrong else []

    def _rows(self, mender: Mender, findings: Sequence[Finding]) -> list[str]:
        said: list[str] = []
        for _ in range(3):  # a session that is listed again has counters to be counted
            wrong = _of(findings, ROWS)
            if not wrong:
                break
            said += mender.rows(wrong)
            findings = self.examine().findings
        return said

    def _index(self, mender: Mender, findings: Sequence[Finding]) -> list[str]:
        return [mender.index()] if _of(findings, {"index"}) else []

    def _rest(self, mender: Mender, findings: Sequence[Finding]) -> list[str]:
        held = _of(findings, {"lease"})
        said = [mender.lease(f.session) for f in held if not f.what["active"]]
        if any(f.what["active"] for f in held):
            said += [f"{name} was marked abandoned" for name in self._custody.recover()]
            self._store.drain()
        for finding in _of(findings, {"call"}):
            said += finding.what["run"](mender.kept)
        if _of(findings, {"purge"}) and self._finish_purge is not None:
            self._finish_purge()
            said.append("a purge that was interrupted was finished")
        return said


def plain(finding: Finding) -> dict[str, Any]:
    """Return a finding as `--json` prints it."""
    return {name: getattr(finding, name) for name in ("area", "level", "session", "seq", "file", "text", "repair")}


def _of(findings: Sequence[Finding], ops: set[str]) -> list[Finding]:
    return [f for f in findings if isinstance(f.what, dict) and f.what.get("op") in ops]


def _as_json(report: Report) -> bytes:
    import json

    data = {
        "done": report.done, "failed": report.failed, "left": [plain(f) for f in report.findings],
        "known": [plain(f) for f in report.known], "salvaged": report.salvaged,
    }  # fmt: skip
    return json.dumps(data, indent=2).encode() + b"\n"
