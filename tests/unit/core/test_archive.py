from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p8.core.archive import Archive, Restored, read_archive, restore_archive
from p8.core.export import all_rows, write_archive
from p8.core.sessions import SessionManager
from p8.errors import FormatError, StoreError
from p8.model import ID_PATTERN, Kind, Status
from p8.store.carry import Carrier, Record, line_of
from p8.store.manager import PersistenceManager
from p8.store.pack import pack_one
from p8.testing import fixed_clock

TEXT = st.text(max_size=40) | st.sampled_from(["caf\udce9 \ud800", "\0", "\x1b[31m", "x" * 70_000, "$p8", "…"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"]), "content": TEXT},
    optional={
        "tokens_in": st.integers(0, 9),
        "cost": st.floats(0, 1),
        "unknown": VALUE,
        "model": TEXT,
        "$large": VALUE,
    },
)
STEP = st.one_of(
    st.tuples(st.just("message"), MESSAGE),
    st.tuples(st.just("run"), TEXT),
    st.tuples(st.just("command"), TEXT),
    st.tuples(st.just("checkpoint"), TEXT),
    st.tuples(st.just("event"), st.dictionaries(st.text(max_size=8), VALUE, max_size=3)),
    st.tuples(st.just("about"), st.dictionaries(st.sampled_from(["title", "tags", "pinned", "odd"]), TEXT, max_size=2)),
    st.tuples(st.just("next"), st.sampled_from(["start", "fork", "resume", "end"])),
    st.tuples(st.just("aside"), st.sampled_from(["pinned", "archived", "trashed"])),
)


def live(manager: SessionManager, steps: list[tuple[str, Any]]) -> None:
    """Make a history of sessions."""
    manager.start_session("demo", project="demo-12345678", directory="/home/me/demo")
    for name, value in steps:
        if name == "message":
            manager.record_message(value)
        elif name == "run":
            manager.record_execution(value, exit_code=1, output=value)
        elif name == "command":
            manager.record_command(value)
        elif name == "checkpoint":
            manager.record(
                Kind.CHECKPOINT, {"id": "20260101-000000-000000-0000", "name": value, "git": {"branch": value}}
            )
        elif name == "event":
            manager.record(Kind.EVENT, value)
        elif name == "about":
            changes = {k: [v] if k == "tags" else bool(v) if k == "pinned" else v for k, v in value.items()}
            manager.annotate(**changes)
        elif name == "aside":
            others = [i for i in manager.list_all_sessions() if i != manager.current.session_id]
            if others:
                manager.annotate(others[0], **{value: True})
        elif value == "start":
            manager.start_session("other")
        elif value == "fork":
            manager.fork_session()
        elif value == "resume":
            manager.resume_session(manager.list_all_sessions()[0])
        else:
            manager.end_session()
            manager.start_session("after")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[PersistenceManager]:
    store = PersistenceManager(tmp_path / "other", background=False)
    yield store
    store.close()


def export(store: PersistenceManager, path: Path, *ids: str, **how: Any) -> Archive:
    rows = [store.sessions.get(i) for i in ids] if ids else all_rows(store, None, True)
    write_archive(store, path, rows, **how)
    return read_archive(path)


def contents(store: PersistenceManager) -> dict[str, list[Record]]:
    store.drain()
    rows = all_rows(store, None, True)
    return {row.id: list(Carrier(store).records(row.id)) for row in rows}


def rows_of(store: PersistenceManager) -> dict[str, dict[str, Any]]:
    return {row.id: row._asdict() for row in all_rows(store, None, True)}


def same(a: Any, b: Any) -> bool:
    """Compare with NaN equal to itself."""
    return repr(a) == repr(b) if isinstance(a, dict | list | tuple | float) else bool(a == b)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_what_is_exported_and_taken_in_is_the_same(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        one = PersistenceManager(here / "one", background=False, clock=fixed_clock())
        two = PersistenceManager(here / "two", background=False)
        manager = SessionManager(one)
        live(manager, steps)
        archive = export(one, here / "a.p8.zip")
        done = restore_archive(two, archive)
        before, after = rows_of(one), rows_of(two)

        assert sorted(done.added) == sorted(before)
        assert done.folded
        assert contents(one) == contents(two)
        for name, row in before.items():
            assert one.sessions.head(name) == two.sessions.head(name)
            assert [e.data.get("content") for e in one.sessions.entries(name, whole=True)] == [
                e.data.get("content") for e in two.sessions.entries(name, whole=True)
            ]
            expected = row | {"status": Status.PAUSED} if row["status"] is Status.ACTIVE else row
            different = {k: (v, after[name][k]) for k, v in expected.items() if not same(v, after[name][k])}
            assert different == {}
        assert two.notices() == []
        assert two.read("SELECT * FROM leases") == []
        assert two.read("SELECT * FROM damage") == []

        again = restore_archive(two, archive)
        assert (again.added, again.copied, again.entries) == ((), {}, 0)
        assert contents(one) == contents(two)
        export(two, here / "b.p8.zip")
        assert [m.sha256 for m in archive.manifest.members] == [
            m.sha256 for m in read_archive(here / "b.p8.zip").manifest.members
        ]
        manager.close()
        two.close()


def talk(manager: SessionManager, *texts: str) -> str:
    session = manager.current or manager.start_session("demo", project="demo-12345678")
    for text in texts:
        manager.record_message({"role": "user", "content": text})
    return session.session_id


def said(store: PersistenceManager, session: str) -> list[str]:
    return [e.text for e in store.sessions.entries(session, kinds=("message",))]


def test_packed_and_large_entries_are_carried(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, *(f"line {n} " + os.urandom(700).hex() for n in range(1700)), "y" * 300_000)
    manager.end_session()
    store.drain()
    assert store.keeper.write(lambda db: None) is None
    with store.keeper._working(1, 1) as db:
        assert pack_one(db, store.keeper.codec, store.clock(), quiet_us=-1) > 1000
    archive = export(store, tmp_path / "a.zip", name)
    restore_archive(other, archive)

    assert contents(store) == contents(other)
    assert other.sessions.get(name) == store.sessions.get(name)


def test_a_restored_session_goes_on(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one")
    restore_archive(other, export(store, tmp_path / "a.zip"))
    second = SessionManager(other)
    second.resume_session(name)
    talk(second, "two")
    second.end_session()

    assert said(other, name) == ["one", "two"]
    assert other.notices() == []
    assert [hit.snippet for hit in other.search("one")] != []


def test_a_session_that_went_on_goes_on_here(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one")
    restore_archive(other, export(store, tmp_path / "a.zip"))
    talk(manager, "two")
    manager.end_session()
    newer = export(store, tmp_path / "b.zip")
    done = restore_archive(other, newer)

    assert (done.continued, done.added, done.copied) == ((name,), (), {})
    assert contents(store) == contents(other)
    assert other.sessions.get(name).status is Status.COMPLETED
    older = restore_archive(other, read_archive(tmp_path / "a.zip"))
    assert older.known == (name,)
    assert contents(store) == contents(other)


def test_a_session_that_went_another_way_comes_as_a_copy_once(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one")
    manager.pause_session()
    restore_archive(other, export(store, tmp_path / "a.zip"))
    second = SessionManager(other)
    second.resume_session(name)
    talk(second, "there")
    second.pause_session()
    manager.resume_session(name)
    talk(manager, "here")
    manager.pause_session()
    child = manager.fork_session(name)
    talk(manager, "in the fork")
    manager.pause_session()
    archive = export(store, tmp_path / "b.zip")
    done = restore_archive(other, archive)
    copy = done.copied[name]

    assert ID_PATTERN.fullmatch(copy)
    assert said(other, name) == ["one", "there"]
    assert said(other, copy) == ["one", "here"]
    assert said(other, child.session_id) == ["one", "here", "in the fork"]
    assert other.sessions.get(child.session_id).parent == copy
    assert other.read("SELECT * FROM damage") == []
    before = contents(other)
    again = restore_archive(other, archive)
    assert (again.entries, set(again.known)) == (0, {copy, child.session_id})
    assert contents(other) == before
    second.close()


def test_a_fork_brings_its_parents_as_far_as_it_needs_them(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    parent = talk(manager, "one", "two", "three")
    child = manager.fork_session(parent, 3)
    talk(manager, "other")
    grandchild = manager.fork_session()
    talk(manager, "last")
    manager.end_session()
    archive = export(store, tmp_path / "a.zip", grandchild.session_id)
    partial = {c.row.id: c.partial for c in archive.sessions}
    restore_archive(other, archive)

    assert partial == {parent: True, child.session_id: True, grandchild.session_id: False}
    assert said(other, grandchild.session_id) == ["one", "two", "other", "last"]
    assert said(other, parent) == ["one", "two"]
    done = restore_archive(other, export(store, tmp_path / "b.zip"))
    assert set(done.continued) == {parent, child.session_id}
    assert said(other, parent) == ["one", "two", "three"]
    assert contents(store) == contents(other)


def test_a_session_open_here_is_not_gone_on_with(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one")
    manager.pause_session()
    restore_archive(other, export(store, tmp_path / "a.zip"))
    manager.resume_session(name)
    talk(manager, "two")
    newer = export(store, tmp_path / "b.zip")
    second, third = SessionManager(other), PersistenceManager(other.home, background=False)
    second.resume_session(name)  # adds an entry of its own, which the other side does not have
    copied = restore_archive(third, newer)
    assert list(copied.copied) == [name]
    second.close()
    third.close()


def test_a_session_held_by_another_process_is_left(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one")
    restore_archive(other, export(store, tmp_path / "a.zip"))
    talk(manager, "two")
    newer = export(store, tmp_path / "b.zip")
    third = PersistenceManager(other.home, background=False)
    third.leases.acquire(name)

    assert restore_archive(other, newer).held == (name,)
    assert said(other, name) == ["one"]
    third.close()


def test_projects_come_along_and_meet_their_like(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    store.drain()
    store.projects.save({"id": "demo-12345678", "name": "demo", "remote": "github.com/a/b", "root": "/x"})
    store.projects.save({"id": "new-12345678", "name": "new", "root_commit": "c" * 40, "meta": {"k": [1]}})
    one = talk(manager, "one")
    manager.end_session()
    manager.start_session("new", project="new-12345678")
    two = talk(manager, "two")
    other.drain()
    other.projects.save({"id": "theirs-00000000", "name": "theirs", "remote": "github.com/a/b"})
    restore_archive(other, export(store, tmp_path / "a.zip"))

    assert other.sessions.get(one).project == "theirs-00000000"
    assert other.sessions.get(two).project == "new-12345678"
    assert other.projects.get("new-12345678") == store.projects.get("new-12345678")
    assert other.projects.get("demo-12345678") is None


def test_a_branch_written_by_two_processes_comes_in_as_one(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one")
    store.drain()
    rival = SessionManager(PersistenceManager(store.home, background=False))
    rival.resume_session(name, take_over=True)
    rival.record_message({"role": "user", "content": "rival"})
    rival.store.drain()
    store.record(name, "message", {"role": "user", "content": "mine"})
    store.drain()
    rival.close()
    branch = next(row.id for row in all_rows(store, None, True) if "~" in row.id)
    archive = export(store, tmp_path / "a.zip")
    done = restore_archive(other, archive)

    assert set(done.added) == {name, branch}
    assert ID_PATTERN.fullmatch(branch)
    assert said(other, branch) == said(store, branch)
    assert restore_archive(other, archive).entries == 0


def test_damage_is_carried_as_what_it_is(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one", "two", "three")
    manager.end_session()
    store.drain()
    num = store.read("SELECT num FROM streams WHERE id = ?", (name,))[0][0]
    store.keeper.write(lambda db: db.execute("UPDATE entries SET data = '{\"role\":' WHERE id = ?", (num << 32 | 3,)))
    store.keeper.write(
        lambda db: db.execute(
            "UPDATE entries SET data = replace(data, 'three', 'THREE') WHERE id = ?", (num << 32 | 4,)
        )
    )
    written = write_archive(store, tmp_path / "a.zip", [store.sessions.get(name)])
    archive = read_archive(tmp_path / "a.zip")

    assert written.damaged == 2
    assert (archive.sessions[0].missing, archive.sessions[0].broken) == ([3], [4])
    restore_archive(other, archive)
    assert said(other, name) == ["one", "THREE"]
    assert other.sessions.head(name) == store.sessions.head(name)


def test_a_redacted_archive_has_chains_of_its_own(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    from p8.formats.redact import Redactor

    secret = "ghp_" + "a1B2" * 9
    name = talk(manager, "one", f"it is {secret}")
    manager.annotate(title=f"about {secret}", tags=[secret], note={"token": secret})
    child = manager.fork_session(name)
    talk(manager, secret)
    manager.end_session()
    redactor = Redactor()
    archive = export(store, tmp_path / "a.zip", redactor=redactor)
    done = restore_archive(other, archive)

    assert archive.manifest.redacted
    assert set(done.added) == {name, child.session_id}
    assert said(other, child.session_id) == ["one", "it is [redacted: github token 1]", "[redacted: github token 1]"]
    assert other.sessions.get(name).tags == ("[redacted: github token 1]",)
    assert secret not in repr(contents(other)) + repr(rows_of(other))
    assert other.read("SELECT * FROM damage") == []
    begin = next(iter(Carrier(other).records(child.session_id)))
    assert int(begin.data["chained_to"], 16) == other.sessions.hash_at(name, begin.data["set"]["fork_seq"])


def test_a_crash_before_the_end_leaves_nothing(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path, monkeypatch: Any
) -> None:
    name = talk(manager, "one")
    archive = export(store, tmp_path / "a.zip")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("p8.store.carry.os.fsync", fail)
        with pytest.raises(StoreError, match="No space left"):
            restore_archive(other, archive)
    assert rows_of(other) == {}
    assert list((other.home / "journal").glob("import-*")) == []
    (other.home / "journal" / "import-left-by-a-killed-one.new").write_bytes(b"x")
    assert restore_archive(other, archive).added == (name,)
    assert list((other.home / "journal").glob("*.new")) == []


def test_an_import_nobody_folded_is_folded_by_the_next_start(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, "one")
    export(store, tmp_path / "a.zip")
    home = tmp_path / "fresh"
    first = PersistenceManager(home, background=False)
    first.drain()
    lines = [line_of(name, record, 0, record.digest)[0] for record in Carrier(store).records(name)]
    Carrier(first).stage(lines).commit()
    first.close()
    second = PersistenceManager(home, background=False)

    assert second.drain()
    assert said(second, name) == ["one"]
    second.close()


# archives that lie


def repack(path: Path, target: Path, change: Any) -> Path:
    """Write an archive again with what `change(name, body)` makes of its members, and a manifest that fits."""
    with zipfile.ZipFile(path) as old:
        bodies = {info.filename: old.read(info) for info in old.infolist()}
    manifest = json.loads(bodies.pop("manifest.json"))
    bodies = {name: change(name, body) for name, body in bodies.items()}
    for member in manifest["members"]:
        body = bodies[member["name"]]
        member |= {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    manifest = change("manifest", manifest)
    with zipfile.ZipFile(target, "w") as new:
        for name, body in bodies.items():
            new.writestr(name, body)
        new.writestr("manifest.json", json.dumps(manifest))
    return target


def chain(stream: str, *entries: tuple[str, dict[str, Any]], first: int = 1, at: int = 1_795_000_000_000_000) -> bytes:
    lines, head = [], 0
    for number, (kind, data) in enumerate(entries, first):
        line, head = line_of(stream, Record(number, at, kind, data, 0), head)
        lines.append(line)
    return b"".join(lines)


def forged(tmp_path: Path, body: bytes, name: str = "20260101-000000-000000-0000", **row: Any) -> Path:
    """Write an archive of one session whose manifest is right about everything but what it says."""
    lines = body.splitlines()
    last = {"q": 1, "h": "0" * 16}
    with contextlib.suppress(ValueError, RecursionError, TypeError):
        last |= json.loads(lines[-1])
    member = f"sessions/{name}.jsonl"
    manifest = {
        "format": "p8-archive", "version": 1,
        "sessions": [{"row": {"id": name, **row}, "entries": len(lines), "last": last["q"], "head": last["h"]}],
        "members": [{"name": member, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}],
    }  # fmt: skip
    path = tmp_path / "forged.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(member, body)
        out.writestr("manifest.json", json.dumps(manifest))
    return path


NAME = "20260101-000000-000000-0000"
VICTIM = "20260101-000000-000000-1111"
START = ("session", {"what": "started", "set": {"project_name": "x"}})


def test_a_forged_archive_that_is_right_is_taken(tmp_path: Path, other: PersistenceManager) -> None:
    path = forged(tmp_path, chain(NAME, START, ("message", {"role": "user", "content": "hi"})))
    assert restore_archive(other, read_archive(path)).added == (NAME,)
    assert said(other, NAME) == ["hi"]


@pytest.mark.parametrize(
    "entry",
    [
        {"what": "annotated", "about": VICTIM, "set": {"trashed": 1}},
        {"what": "annotated", "about": {"$p8": "text", "base64": "MjAyNjAxMDEtMDAwMDAwLTAwMDAwMC0xMTEx"}, "set": {}},
        {"what": "x", "chained_to": {"$p8": "int", "text": "1"}},
        {"what": "x", "lease": "released", "owner": {"a": 1}},
        {"what": "started", "lease": {"owner": "a"}},
        {"what": "started", "lease": {"owner": "a", "pid": "1", "started": "", "boot": "", "host": ""}},
        {"what": "started", "lease": {"owner": "a", "pid": 2**63, "started": "", "boot": "", "host": ""}},
        {"what": ["started"]},
        {"what": "x", "set": {"status": "dancing"}},
        {"what": "x", "set": {"ended": 2**63 - 1}},
        {"what": "x", "set": {"trashed": -(2**63)}},
        {"what": "x", "set": {"fork_seq": -1}},
        {"what": "x", "set": {"parent": "../../etc"}},
        {"what": "x", "set": {"tags": [{"a": 1}]}},
        {"what": "x", "set": {"y": {"$p8": "float", "text": "no number"}}},
        {"what": "x", "y": {"$p8": "text", "base64": "a"}},
        {"what": "x", "y": {"$p8": "int"}},
    ],
    ids=lambda entry: json.dumps(entry)[:50],
)
def test_entries_that_would_harm_are_refused(tmp_path: Path, other: PersistenceManager, entry: dict[str, Any]) -> None:
    other.drain()
    path = forged(tmp_path, chain(NAME, START, ("session", entry)))
    with pytest.raises(FormatError) as caught:
        restore_archive(other, read_archive(path))
    assert "\n" not in caught.value.message
    assert rows_of(other) == {}
    assert other.drain()


@pytest.mark.parametrize(
    "body",
    [
        chain(NAME, START, first=2**32),
        chain(NAME, START, at=2**62),
        chain(NAME, ("not a kind!", {})),
        chain(NAME, ("message", {"role": "user", "tokens_in": -(2**62)})),
        chain(NAME, ("message", {"role": "user", "cost": 1e300})),
        chain(VICTIM, START),
        chain(NAME, START) + chain(NAME, START),
        chain(NAME, START).replace(b'"q":1', b'"q": 1'),
        chain(NAME, START).replace(b'{"h"', b'{"x":1,"h"'),
        chain(NAME, START).replace(b'"d":{', b'"d":{"a":1,"a":2,'),
        b"[]\n",
        b"not json\n",
        b'{"h":"0"}\n',
        chain(NAME, START)[:-1],
        chain(NAME, START) + b"\n",
        b'{"h":"0000000000000000","s":"' + NAME.encode() + b'","q":1,"t":1,"k":"message","d":' + b"[" * 2000 + b"\n",
    ],
    ids=lambda body: body[:90].decode("utf-8", "replace"),
)
def test_lines_that_are_none_are_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(FormatError):
        read_archive(forged(tmp_path, body))


@pytest.mark.parametrize(
    "row",
    [
        {"status": "dancing"}, {"created_us": 2**62}, {"trashed_us": 2**70}, {"tags": "abc"}, {"title": 5},
        {"parent": "../x", "fork_seq": 1}, {"parent": NAME, "fork_seq": 1}, {"fork_seq": -1}, {"pinned": "yes"},
        {"meta": {"a": {"$p8": "float", "text": "x"}}}, {"meta": []},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_rows_that_would_harm_are_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        read_archive(forged(tmp_path, chain(NAME, START), **row))


def test_circles_of_forks_are_refused(manager: SessionManager, store: PersistenceManager, tmp_path: Path) -> None:
    one = talk(manager, "one")
    two = manager.fork_session().session_id
    export(store, tmp_path / "a.zip")

    def change(name: str, body: Any) -> Any:
        if name == "manifest":
            for session in body["sessions"]:
                session["row"]["parent"] = two if session["row"]["id"] == one else one
                session["row"]["fork_seq"] = 1
        return body

    with pytest.raises(FormatError, match="fork of itself"):
        read_archive(repack(tmp_path / "a.zip", tmp_path / "b.zip", change))


@pytest.mark.parametrize("what", ["flip", "drop", "swap", "add", "head", "count"])
def test_changed_entries_are_noticed(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path, what: str
) -> None:
    talk(manager, "alpha", "beta", "gamma")
    export(store, tmp_path / "a.zip")

    def change(name: str, body: Any) -> Any:
        if name == "manifest":
            if what == "head":
                body["sessions"][0]["head"] = "0" * 16
            if what == "count":
                body["sessions"][0]["entries"] += 1
            return body
        lines = body.splitlines(keepends=True)
        if what == "flip":
            lines[2] = lines[2].replace(b"beta", b"BETA")
        elif what == "drop":
            del lines[1]
        elif what == "swap":
            lines[1], lines[2] = lines[2], lines[1]
        elif what == "add":
            lines.append(lines[-1])
        return b"".join(lines)

    with pytest.raises(FormatError):
        read_archive(repack(tmp_path / "a.zip", tmp_path / "b.zip", change))


def test_every_flipped_bit_is_noticed_or_changes_nothing(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path
) -> None:
    talk(manager, "alpha", "beta")
    manager.end_session()
    good = export(store, tmp_path / "a.zip")
    raw = (tmp_path / "a.zip").read_bytes()
    bad = tmp_path / "b.zip"
    noticed: list[str] = []
    for at in range(0, len(raw), 7):
        bad.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        try:
            found = read_archive(bad)
        except FormatError as error:
            noticed.append(error.message)
        else:
            assert [m.sha256 for m in found.manifest.members] == [m.sha256 for m in good.manifest.members]
    assert len(noticed) > len(raw) / 7 / 2
    assert not any("\n" in message for message in noticed)


def test_a_file_that_changes_between_reading_and_taking_is_refused(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    talk(manager, "alpha")
    archive = export(store, tmp_path / "a.zip")
    talk(manager, "beta")
    export(store, tmp_path / "a.zip")
    with pytest.raises(FormatError, match="changed while"):
        restore_archive(other, archive)
    assert rows_of(other) == {}


def test_a_disk_that_is_full_leaves_the_old_file(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path, monkeypatch: Any
) -> None:
    talk(manager, "alpha")
    export(store, tmp_path / "a.zip")
    before = (tmp_path / "a.zip").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("p8.formats.files.os.fsync", fail)
    with pytest.raises(FormatError, match="No space left"):
        export(store, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if ".part" in p.name) == []


def test_what_packs_too_well_is_stored_so_that_it_can_be_read(
    manager: SessionManager, store: PersistenceManager, other: PersistenceManager, tmp_path: Path
) -> None:
    name = talk(manager, *("z" * 4_000_000 for _ in range(8)))
    archive = export(store, tmp_path / "a.zip")
    restore_archive(other, archive)

    assert len(said(other, name)) == 8
    assert contents(store) == contents(other)


def test_nothing_said_is_an_archive_too(manager: SessionManager, store: PersistenceManager, tmp_path: Path) -> None:
    store.drain()
    write_archive(store, tmp_path / "a.zip", [])
    assert read_archive(tmp_path / "a.zip").sessions == []


def test_progress_is_told(manager: SessionManager, store: PersistenceManager, other: Any, tmp_path: Path) -> None:
    talk(manager, "alpha")
    told: list[float] = []
    write_archive(store, tmp_path / "a.zip", all_rows(store, None, True), progress=lambda f, _t: told.append(f))
    archive = read_archive(tmp_path / "a.zip", lambda f, _t: told.append(f))
    done: Restored = restore_archive(other, archive, lambda f, _t: told.append(f))
    assert done.entries == 2
    assert told.count(1.0) == 3
    assert all(0 <= f <= 1 and not math.isnan(f) for f in told)
    assert all(a <= b for a, b in itertools.pairwise(told) if b != 0)
