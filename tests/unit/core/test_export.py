from __future__ import annotations

import base64
import html
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from p8.core.archive import read_archive, restore_archive
from p8.core.export import all_rows, redactions, redactor_for, write_archive, write_readable
from p8.core.sessions import SessionManager
from p8.errors import FormatError
from p8.formats.redact import Redactor
from p8.store.manager import PersistenceManager
from support.planted import Planted, planted

READABLE = ("md", "jsonl", "html")
HOME = Path("/home/ann")
PLACE = "/home/ann/work/demo"


def plant(manager: SessionManager, secrets: list[Planted]) -> None:
    """Let every secret be typed, answered, printed, dumped, traced back and said about the session."""
    manager.start_session("demo", directory=PLACE, branch="main")
    for one in secrets:
        manager.record_message({"role": "user", "content": f"look at this:\n{one.text}\nwhat is it?"})
        manager.record_message({
            "role": "assistant", "content": f"```\n{one.text}\n```", "thought": one.text,
            "tools": [{"title": "env", "input": {"cmd": one.text}, "output": [{"type": "text", "text": one.text}]}],
        })  # fmt: skip
        manager.record_command(f"!echo {one.text}")
        manager.record_execution("env", output=f"HOME=/x\n{one.text}\n", exit_code=0, note={"deep": [one.text]})
        trace = f'Traceback (most recent call last):\n  File "a.py", line 1\n{one.text}\nValueError: {one.text}'
        manager.record_execution(f"python -c '{one.text}'", output=trace, exit_code=1)
        manager.record("checkpoint", {"id": "x", "name": one.text, "git": {"branch": one.text}})
        manager.record("event", {"text": one.text, "raw": one.text.encode()})
    manager.annotate(title=secrets[0].text, tags=[secrets[1].text], note=secrets[2].text)
    manager.save_session()


def everything_in(path: Path) -> str:
    """Return all that stands in a file, unpacked and unescaped in every way its readers would."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            raw = "\n".join(archive.read(name).decode() for name in archive.namelist())
    else:
        raw = path.read_text("utf-8")
    seen = [raw, html.unescape(raw), raw.replace("\\", "")]
    for line in raw.splitlines():
        if line.startswith("{"):
            try:
                seen += texts(json.loads(line))
            except ValueError:
                continue
    return "\n".join(seen)


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            return [value, base64.b64decode(value, validate=True).decode("latin-1")]
        except ValueError:
            return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for one in inner for text in texts(one)]


@pytest.mark.parametrize("form", [*READABLE, "p8"])
def test_no_planted_secret_is_left(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path, form: str
) -> None:
    secrets = planted()
    plant(manager, secrets)
    rows = all_rows(store, None, False)
    redactor = redactor_for(store, rows, HOME, {})
    path = tmp_path / ("x.zip" if form == "p8" else f"x.{form}")
    if form == "p8":
        write_archive(store, path, rows, redactor=redactor)
    else:
        write_readable(store, path, rows, form, redactor=redactor)
    seen = everything_in(path)

    assert [one.shape for one in secrets if one.secret in seen] == []
    assert "[redacted: github token 1]" in seen
    assert sum(found.secrets for found in redactor.found) >= 40
    assert sum(found.places for found in redactor.found) > 10 * len(secrets)


def test_the_control_without_redaction_has_them_all(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path
) -> None:
    secrets = planted()
    plant(manager, secrets)
    rows = all_rows(store, None, False)
    write_archive(store, tmp_path / "x.zip", rows)
    write_readable(store, tmp_path / "x.md", rows, "md")

    for name in ("x.zip", "x.md"):
        seen = everything_in(tmp_path / name)
        left = [one.shape for one in secrets if one.secret not in seen and "\x1b" not in one.text]
        assert left == [], name


def test_a_redacted_archive_is_taken_in(manager: SessionManager, store: PersistenceManager, tmp_path: Path) -> None:
    secrets = planted()
    plant(manager, secrets)
    rows = all_rows(store, None, False)
    write_archive(store, tmp_path / "x.zip", rows, redactor=Redactor())
    other = PersistenceManager(tmp_path / "other", background=False)
    restore_archive(other, read_archive(tmp_path / "x.zip"))

    assert other.sessions.get(rows[0].id).messages == rows[0].messages
    assert other.notices() == []
    other.close()
    blob = b"".join(p.read_bytes() for p in (tmp_path / "other").rglob("*") if p.is_file())
    assert [one.shape for one in secrets if one.secret.encode() in blob] == []


def test_a_title_cut_in_the_middle_of_a_secret_gives_nothing_away(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path
) -> None:
    secret = next(one.secret for one in planted() if one.shape == "jwt")
    manager.start_session("demo")
    manager.record_message({"role": "user", "content": f"why is this token refused? it is {secret}"})
    row = store.sessions.get(manager.current.session_id)
    assert secret[:20] in row.title
    assert secret not in row.title
    write_readable(store, tmp_path / "x.md", [row], "md", redactor=Redactor())

    assert secret[:12] not in (tmp_path / "x.md").read_text()


def test_paths_become_relative(manager: SessionManager, store: PersistenceManager, tmp_path: Path) -> None:
    store.drain()
    store.projects.save({"id": "demo-12345678", "name": "demo", "root": PLACE})
    manager.start_session("demo", directory=f"{PLACE}/src", project="demo-12345678")
    manager.record_message({"role": "user", "content": f"see {PLACE}/src/a.py and /home/ann/.bashrc, not /home/anna/x"})
    rows = all_rows(store, None, False)
    for form in READABLE:
        path = tmp_path / f"x.{form}"
        write_readable(store, path, rows, form, redactor=redactor_for(store, rows, HOME, {}))
        seen = path.read_text()
        assert "see src/a.py and ~/.bashrc, not /home/anna/x" in seen
        assert "/home/ann/" not in seen
    write_readable(store, tmp_path / "y.md", rows, "md")
    assert f"see {PLACE}/src/a.py" in (tmp_path / "y.md").read_text()


def test_the_machine_that_recorded_is_not_named(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path
) -> None:
    manager.start_session("demo")
    rows = all_rows(store, None, False)
    write_readable(store, tmp_path / "x.jsonl", rows, "jsonl", redactor=Redactor())
    write_archive(store, tmp_path / "x.zip", rows, redactor=Redactor())
    for name in ("x.jsonl", "x.zip"):
        assert store.leases.me.boot not in everything_in(tmp_path / name)


def test_forks_are_written_with_what_they_share(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path
) -> None:
    manager.start_session("demo")
    manager.record_message({"role": "user", "content": "shared"})
    child = manager.fork_session()
    manager.record_message({"role": "user", "content": "own"})
    row = store.sessions.get(child.session_id)
    made = write_readable(store, tmp_path / "x.md", [row], "md")
    seen = (tmp_path / "x.md").read_text()

    assert seen.index("shared") < seen.index("A fork begins here") < seen.index("own")
    assert made.entries == 4


def test_large_and_damaged_entries_are_written(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path
) -> None:
    manager.start_session("demo")
    manager.record_message({"role": "user", "content": "x" * 200_000 + "END"})
    manager.record_message({"role": "user", "content": "gone"})
    manager.record_message({"role": "user", "content": "after"})
    store.drain()
    store.keeper.write(lambda db: db.execute("UPDATE entries SET data = '{' WHERE data LIKE '%gone%'"))
    rows = all_rows(store, None, False)
    for form in READABLE:
        write_readable(store, tmp_path / f"x.{form}", rows, form, redactor=Redactor())
        seen = (tmp_path / f"x.{form}").read_text().replace("\\", "")
        assert "xEND" in seen
        assert "[this entry is damaged]" in seen
        assert "after" in seen


def test_files_are_private_and_whole(manager: SessionManager, store: PersistenceManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    rows = all_rows(store, None, False)
    path = tmp_path / "x.md"
    path.write_text("old")
    path.chmod(0o644)
    link = tmp_path / "link.md"
    link.symlink_to(path)
    write_readable(store, link, rows, "md")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert link.is_symlink()
    assert path.read_text().startswith("# ")
    for bad in (tmp_path, tmp_path / "none" / "x.md", Path("/proc/x.md")):
        with pytest.raises(FormatError):
            write_readable(store, bad, rows, "md")
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_an_error_while_writing_leaves_what_was_there(
    manager: SessionManager, store: PersistenceManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.start_session("demo")
    rows = all_rows(store, None, False)
    path = tmp_path / "x.md"
    path.write_text("old")
    monkeypatch.setattr("p8.formats.markdown.title_of", lambda _row: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_readable(store, path, rows, "md")

    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_what_was_taken_out_is_said() -> None:
    redactor = Redactor()
    assert redactions(redactor) == "No secret was found in it."
    redactor.text("ghp_" + "a1B2" * 9)
    assert redactions(redactor) == "1 secret redacted: github token 1."
    assert redactions(None) == "Nothing was redacted."


def test_all_rows_are_in_order_with_archived_ones(manager: SessionManager, store: PersistenceManager) -> None:
    ids = [manager.start_session("demo").session_id for _ in range(4)]
    manager.annotate(ids[1], archived=True)
    manager.annotate(ids[2], trashed=True)

    assert [row.id for row in all_rows(store, None, False)] == [ids[0], ids[1], ids[3]]
    assert [row.id for row in all_rows(store, None, True)] == ids
    assert all_rows(store, "another", True) == []
