"""An instance on a real engine: backed up, wiped, restored; it starts, and its program finds its files."""

from __future__ import annotations

import shutil
from pathlib import Path

from p8.app import App, make_app
from p8.config import Config
from p8.core.blueprint import Places
from p8.core.roster import InstanceStatus
from p8.core.statefolder import state_hash
from support.door import run
from support.engine import IMAGE, inside, remove_all

NAME = "project-shell"


def test_backup_wipe_restore_and_the_instance_starts(app: App, home: Path, tmp_path: Path) -> None:
    session = app.ensure_session().session_id
    app.settle_project()
    app.sessions.record_message({"role": "user", "content": "remember me"})
    app.instances.start("project", app.directory, "shell")
    said, code = inside(app, NAME, "sh", "-c", "mkdir -p ~/a/b; echo kept > ~/a/b/c; ln -s a/b/c ~/l; chmod 700 ~/a")
    assert code == 0, said
    file = tmp_path / "it.zip"
    made = run(app, f"backup {NAME} -o {file}").data
    assert inside(app, NAME, "sh", "-c", "cat ~/l") == ("kept\n", 0)
    assert session in run(app, f"export {session} -o {tmp_path / 's.jsonl'}").data["sessions"]
    app.sessions.end_session()
    app.instances.stop(NAME)
    remove_all(app.runtime.installation)
    app.close()
    shutil.rmtree(home)

    fresh = make_app(Config(home=home, container_image=IMAGE), app.directory, background=False)
    try:
        fresh.store.start()
        assert fresh.store.instances.all() == []
        done = run(fresh, f"restore --from-backup {file} --yes").data
        assert done["added"] == [session]
        assert done["state"] == made["state"] == state_hash(Places.of(home, NAME).state)
        texts = [entry.data.get("content") for entry in fresh.store.sessions.entries(session)]
        assert "remember me" in texts
        one = fresh.instances.start("project", app.directory, "shell", NAME)
        assert one.instance.status is InstanceStatus.RUNNING
        assert one.verdict is not None
        assert one.verdict.healthy
        assert inside(fresh, NAME, "sh", "-c", "cat ~/l && echo more >> ~/a/b/c && cat ~/l") == (
            "kept\nkept\nmore\n",
            0,
        )
    finally:
        remove_all(fresh.runtime.installation)
        fresh.close()
