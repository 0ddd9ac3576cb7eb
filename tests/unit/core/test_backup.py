"""Backups of instances and sessions: made, wiped, restored; refused where they are not sound."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p8.app import App
from p8.commands.registry import Confirm
from p8.core.backup import Backups
from p8.core.blueprint import Places
from p8.core.roster import InstanceStatus
from p8.core.statefolder import state_hash
from p8.errors import Conflict, FormatError, NotFound, P8Error
from p8.testing import FakeRuntime, make_app
from support.door import run

NAME = "here-shell"


def opened(tmp_path: Path, home: str = "home") -> App:
    (tmp_path / "here").mkdir(exist_ok=True)
    app = make_app(tmp_path / home, tmp_path / "here")
    app.__dict__["runtime"] = FakeRuntime()
    return app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = opened(tmp_path)
    yield app
    app.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[App]:
    app = opened(tmp_path, "other")
    app.store.start()
    yield app
    app.close()


def fill(app: App, name: str) -> str:
    """Put into a state folder what may be in one; return its hash."""
    state = Places.of(app.config.home, name).state
    (state / "deep" / "er").mkdir(parents=True, exist_ok=True)
    (state / "deep" / "er" / "notes %41 ü.txt").write_text("words\n" * 1000)
    (state / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (state / "deep" / "run.sh").chmod(0o755)
    (state / "zeros").write_bytes(bytes(20 << 20))
    (state / "empty").mkdir()
    (state / "out").symlink_to("/etc/passwd")
    (state / "dangling").symlink_to("../../nowhere")
    Path(os.fsdecode(os.fsencode(state) + b"/not utf-8 \xff\n")).write_bytes(b"\xff\x00")
    (state / "locked").mkdir()
    (state / "locked" / "read only").write_text("x")
    (state / "locked").chmod(0o500)
    os.mkfifo(state / "pipe")
    return state_hash(state)


def session(app: App) -> str:
    made = app.ensure_session()
    app.settle_project()
    app.sessions.record_message({"role": "user", "content": "the parser fails"})
    app.sessions.record_message({"role": "assistant", "content": "it does"})
    app.sessions.end_session()
    app.store.drain()
    return made.session_id


@pytest.fixture
def backed(app: App) -> tuple[Path, str, str]:
    """A backup of an instance; the file, the state's hash, the session."""
    name = session(app)
    app.instances.start("here", app.directory, "shell", wait_s=0)
    hashed = fill(app, NAME)
    result = run(app, f"backup {NAME} -o it.zip")
    assert result.data["state"] == hashed
    assert result.data["left_out"] == ["pipe"]
    assert result.data["changed"] == []
    return app.directory / "it.zip", hashed, name


def test_an_instance_wiped_and_restored_is_the_same(app: App, other: App, backed: tuple[Path, str, str]) -> None:
    path, hashed, name = backed
    app.instances.files.set(app.instances.roster.get(NAME), "shell", "resources.memory.limit", "300Mi")
    path = Path(run(app, f"backup {NAME} -o it.zip --yes").data["path"])
    before = [(e.kind, e.data) for e in app.sessions.store.sessions.entries(name)]

    asked = run(other, f"restore {path}")
    assert isinstance(asked.effect, Confirm)
    assert other.store.instances.all() == []
    assert not Places.of(other.config.home, NAME).state.exists()
    done = run(other, asked.effect.command)

    assert done.data["added"] == [name]
    assert done.data["state"] == hashed == state_hash(Places.of(other.config.home, NAME).state)
    assert [(e.kind, e.data) for e in other.store.sessions.entries(name)][: len(before)] == before
    one = other.instances.roster.get(NAME)
    assert one.status is InstanceStatus.STOPPED
    assert one.project_path == app.directory
    assert other.instances.roster.settings_of(one).resources.memory_bytes == 300 << 20
    assert other.instances.start("here", app.directory, "shell", wait_s=0).instance.id == NAME
    assert list(Places.of(other.config.home, NAME).state.parent.glob("home.*")) == []


def test_a_running_instance_is_frozen_and_goes_on(app: App, backed: tuple[Path, str, str]) -> None:
    runtime = app.runtime
    assert [verb for verb, _ in runtime.acts] == ["pause", "unpause"]
    assert app.instances.roster.get(NAME).status is InstanceStatus.RUNNING
    with pytest.raises(Conflict, match="running"):
        run(app, f"restore {backed[0]} --yes")


def test_what_differs_is_asked_about_and_kept(app: App, backed: tuple[Path, str, str]) -> None:
    path, hashed, _ = backed
    app.instances.stop(NAME)
    state = Places.of(app.config.home, NAME).state
    (state / "deep" / "run.sh").write_text("newer")
    config = app.instances.files.path(NAME)
    config.write_text(config.read_text() + "# mine\n")

    backups = Backups(app.instances)
    found = backups.preview(path)
    assert found.replaces == (f"the state folder of {NAME}", f"configs/{NAME}.yml")
    with pytest.raises(Conflict, match="would replace"):
        backups.restore(found)
    assert state_hash(state) != hashed
    done = backups.restore(found, overwrite=True)
    assert state_hash(state) == hashed
    assert sorted(one.name.split(".before-")[0] for one in done.kept) == [f"{NAME}.yml", "home"]
    kept = next(one for one in done.kept if one.is_dir())
    assert (kept / "deep" / "run.sh").read_text() == "newer"
    again = backups.preview(path)
    assert again.replaces == ()
    assert backups.restore(again).kept == []


def test_a_session_and_its_state_come_back(app: App, other: App) -> None:
    name = session(app)
    hashed = fill(app, name)
    path = run(app, f"backup --session {name}").data["path"]
    assert path.endswith(f"_{name}.p8-backup.zip")
    run(other, f"restore --from-backup {path.removesuffix('.p8-backup.zip')} --yes")
    assert state_hash(Places.of(other.config.home, name).state) == hashed
    other.sessions.resume_session(name)
    said = [entry.data.get("content") for entry in other.store.sessions.entries(name)]
    assert [text for text in said if text] == ["the parser fails", "it does"]


def test_a_configuration_that_makes_no_sense_here_changes_nothing(
    app: App, other: App, backed: tuple[Path, str, str]
) -> None:
    config = app.instances.files.path(NAME)
    text = config.read_text()
    config.write_text(text + "  nonsense: [\n")
    bad = run(app, f"backup {NAME} -o bad.zip").data["path"]
    with pytest.raises(P8Error):
        run(other, f"restore {bad} --yes")
    assert other.store.instances.all() == []
    assert not other.instances.files.path(NAME).exists()
    assert not Places.of(other.config.home, NAME).state.exists()
    app.directory.rename(app.directory.with_name("gone"))
    with pytest.raises(NotFound, match="project's directory"):
        run(other, f"restore {app.directory.with_name('gone') / 'it.zip'} --yes")
    (app.directory.with_name("elsewhere")).mkdir()
    moved = app.directory.with_name("gone") / "it.zip"
    run(other, f"restore {moved} --yes --project {app.directory.with_name('elsewhere')}")
    assert other.instances.roster.get(NAME).project_path == app.directory.with_name("elsewhere")
    app.directory.with_name("gone").rename(app.directory)


def test_a_backup_that_fails_leaves_the_one_before(app: App, backed: tuple[Path, str, str], monkeypatch) -> None:
    before = backed[0].read_bytes()
    monkeypatch.setattr("p8.formats.backup.Reader.check", lambda _self: (_ for _ in ()).throw(FormatError("read", "")))
    with pytest.raises(FormatError):
        run(app, f"backup {NAME} -o it.zip --yes")
    assert backed[0].read_bytes() == before
    assert [one.name for one in app.directory.iterdir()] == ["it.zip"]
    assert app.instances.roster.get(NAME).status is InstanceStatus.RUNNING


# hostile

Edit = Callable[[dict], None]


def rewritten(path: Path, edit: Edit, more: dict[str, bytes] | None = None) -> Path:
    """Write a backup anew with another manifest, every checksum right that the edit does not touch."""
    bad = path.with_name("bad.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
        manifest = json.loads(old.read("manifest.json"))
        edit(manifest)
        for info in old.infolist():
            if info.filename != "manifest.json":
                new.writestr(info, old.read(info))
        for name, body in (more or {}).items():
            new.writestr(name, body)
        new.writestr("manifest.json", json.dumps(manifest))
    return bad


def node(manifest: dict, kind: str) -> dict:
    return next(one for one in manifest["nodes"] if one["kind"] == kind)


HOSTILE: dict[str, Edit] = {
    "up": lambda m: node(m, "file").update(path="../../up"),
    "absolute": lambda m: node(m, "file").update(path="/etc/cron.d/x"),
    "through a link": lambda m: m["nodes"].append({**node(m, "file"), "path": "out/x"}),
    "twice": lambda m: m["nodes"].append(node(m, "folder")),
    "encoded": lambda m: node(m, "file").update(path="%2e%2e/x"),
    "nul": lambda m: node(m, "file").update(path="a%00b"),
    "setuid": lambda m: node(m, "file").update(mode=0o4755),
    "device": lambda m: node(m, "file").update(kind="device"),
    "size": lambda m: node(m, "file").update(size=1),
    "hash": lambda m: m.update(state="0" * 64),
    "name": lambda m: m.update(name="../../x"),
    "row id": lambda m: m["instance"].update(id="another"),
    "row path": lambda m: m["instance"].update(project_path="relative"),
    "row more": lambda m: m["instance"].update(container="abc"),
    "row text": lambda m: m["instance"].update(mode="a\nb"),
    "template": lambda m: m["instance"]["meta"].update(template="../../x"),
    "no row": lambda m: m.update(instance=None),
    "newer": lambda m: m.update(version=99),
    "another format": lambda m: m.update(format="p8-archive"),
    "sessions": lambda m: m.update(sessions=["20250101-000000-000000-abcd"]),
    "member": lambda m: m["members"].pop(),
    "sum": lambda m: m["members"][0].update(sha256="0" * 64),
}


def test_hostile_backups_are_refused_whole_in_one_line(app: App, other: App, backed: tuple[Path, str, str]) -> None:
    path = backed[0]
    clean = rewritten(path, lambda _m: None)
    assert Backups(other.instances).preview(clean).manifest.name == NAME
    cases = [(name, rewritten(path, edit).rename(path.with_name(f"{name}.zip"))) for name, edit in HOSTILE.items()]
    extra = rewritten(path, lambda _m: None, {"../../escape": b"x"})
    cases.append(("extra", extra))
    for name, size in (("cut", path.stat().st_size // 2), ("empty", 0)):
        path.with_name(f"{name}.zip").write_bytes(path.read_bytes()[:size])
        cases.append((name, path.with_name(f"{name}.zip")))
    for name, bad in cases:
        with pytest.raises(FormatError) as refused:
            run(other, f"restore '{bad}' --yes")
        assert "\n" not in refused.value.message, name
        assert other.store.instances.all() == [], name
        assert not (other.config.home / "states" / NAME).exists(), name
        assert list((other.config.home / "cache").glob("backup-*")) == [], name
    shutil.rmtree(app.directory)
    app.directory.mkdir()


def test_every_flipped_byte_is_noticed_or_harmless(app: App, other: App) -> None:
    app.instances.start("here", app.directory, "shell", wait_s=0)
    state = Places.of(app.config.home, NAME).state
    (state / "a").write_bytes(struct.pack(">64I", *range(64)))
    path = Path(run(app, f"backup {NAME} -o it.zip").data["path"])
    whole, good = path.read_bytes(), Backups(other.instances).preview(path)
    refused = 0
    for at in range(0, len(whole), len(whole) // 100):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            found = Backups(other.instances).preview(path)
        except P8Error:
            refused += 1
        else:
            same = (found.manifest.nodes, found.manifest.instance, found.config)
            assert same == (good.manifest.nodes, good.manifest.instance, good.config)
    assert refused > 50
