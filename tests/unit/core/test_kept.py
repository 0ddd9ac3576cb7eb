"""Kept files are examined with everything else, mended, and go with the sessions they belonged to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p8.errors import NotFound
from p8.testing import make_app
from p8.workspace.upkeep import Upkeep

WORD = "zymurgical-plans"


@pytest.fixture
def app(home: Path, directory: Path):
    app = make_app(home, directory)
    yield app
    app.close()


def test_a_flipped_bit_in_a_pack_is_found_named_and_mended(app, home: Path, directory: Path) -> None:
    for number in range(6):
        (directory / f"f{number}").write_bytes(os.urandom(3000))
    app.ensure_session()
    app.sessions.record_message({"role": "user", "content": "begin"})
    made = app.checkpoints.create("whole")
    before = {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}
    assert app.doctor.examine().clean
    pack = next(home.glob("snapshots/*.git/objects/pack/*.pack"))
    pack.chmod(0o644)
    raw = bytearray(pack.read_bytes())
    raw[len(raw) // 3] ^= 1
    pack.write_bytes(raw)
    found = [f for f in app.doctor.examine().findings if f.area == "snapshot"]

    assert {(f.session, f.seq) for f in found if f.session} == {(made.session_id, made.seq)}
    assert found[0].file.startswith("snapshots/")
    app.doctor.repair()
    snapshots = app.files.snapshots()
    readable = {p: snapshots.read(s) for p, s in snapshots.files(made.data["files"]["snapshot"]).items()
                if p not in Upkeep(snapshots).unreadable(made.data["files"]["snapshot"])}  # fmt: skip
    assert len(readable) >= 4
    assert all(before[path] == content for path, content in readable.items())
    (directory / "g").write_text("after")
    assert app.checkpoints.create("after").data["files"]["count"] == 7
    assert Upkeep(snapshots).unreadable(made.data["files"]["snapshot"]) == [], (
        "what the project still holds was kept anew"
    )
    assert list((home / "damaged").rglob("*.pack"))


def test_a_purge_takes_the_files_that_only_that_session_kept(app, home: Path, directory: Path) -> None:
    (directory / "shared").write_text("both know it")
    app.ensure_session()
    app.sessions.record_message({"role": "user", "content": "kept"})
    kept = app.checkpoints.create("kept")
    app.sessions.end_session()
    app.ensure_session()
    app.sessions.record_message({"role": "user", "content": "to be purged"})
    (directory / "secret").write_text(WORD)
    gone = app.checkpoints.create("secret")
    (directory / "secret").unlink()
    app.sessions.end_session()
    app.store.drain()
    app.sessions.annotate(gone.session_id, trashed=True)
    left = app.trash.purge([gone.session_id]).left

    assert left == ()
    snapshots = app.files.snapshots()
    with pytest.raises(NotFound):
        snapshots.files(gone.data["files"]["snapshot"])
    assert Upkeep(snapshots).unreadable(kept.data["files"]["snapshot"]) == []
    names = snapshots.objects.git("cat-file", "--batch-all-objects", "--batch-check").split(b"\n")
    contents = [snapshots.objects.git("cat-file", "-p", n.split()[0].decode()) for n in names if b" blob " in n]
    assert not any(WORD.encode() in content for content in contents)
    assert any(b"both know it" in content for content in contents)
