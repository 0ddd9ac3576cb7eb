"""`p8 export` and `p8 import` are each other's way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from p8.errors import FormatError, UsageError
from p8.testing import make_app
from support.door import run


def test_an_archive_comes_back_whole_and_only_once(tmp_path: Path) -> None:
    one, two = make_app(tmp_path / "one", tmp_path), make_app(tmp_path / "two", tmp_path)
    name = one.sessions.start_session("p").session_id
    one.sessions.record_message({"role": "user", "content": "carried away"})
    one.sessions.end_session()
    file = tmp_path / "everything.zip"
    run(one, f"export --all --format p8 -o {file}", "cli")
    dry = run(two, f"import {file} --dry-run", "cli")
    assert dry.data[0]["sessions"] == [name]
    assert two.store.sessions.page() == []
    assert run(two, f"import {file}", "cli").data[0]["added"] == [name]
    assert run(two, f"import {file}", "cli").data[0]["known"] == [name]
    assert [e.text for e in two.store.sessions.entries(name, kinds=("message",))] == ["carried away"]
    assert [r.id for r in two.store.sessions.page()] == [name]
    one.close()
    two.close()


def test_what_is_no_archive_of_ours_is_refused_in_one_line(tmp_path: Path) -> None:
    import zipfile

    app = make_app(tmp_path / "home", tmp_path)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("../../etc/passwd", "x")
    with pytest.raises(FormatError) as error:
        run(app, f"import {tmp_path / 'bad.zip'}", "cli")
    assert "\n" not in error.value.message
    with pytest.raises(UsageError):
        run(app, f"import {tmp_path / 'bad.zip'} {tmp_path}", "cli")
    app.close()
