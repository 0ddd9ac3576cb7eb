"""A store is closed while other threads still read and fold: they end in an answer or an error, never in a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import contextlib, sys, threading
from p8 import PersistenceManager, SessionManager
from p8.errors import P8Error
for number in range(4):
    manager = SessionManager(PersistenceManager(f"{sys.argv[1]}/{number}"))
    session = manager.start_session("p")
    def work():
        with contextlib.suppress(P8Error):
            for _ in range(40):
                manager.store.sessions.entries(session.session_id)
                manager.store.drain(1)
    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        manager.record_message({"role": "user", "content": "x" * 500})
    manager.close()
    for thread in threads:
        thread.join(20)
print("whole")
"""


def test_closing_waits_for_who_still_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "whole\n"
