"""The one network of an installation: out into the world, and no way from one container to another.

The engine takes any number of networks of one name and then refuses that name as ambiguous: so one process at a time
makes it, and it is named by its id. Refuses: networks of anybody else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

from p8.containers.base import INSTALLATION, MANAGED


class Bridge:
    """
    The network.

    Args:
        installation: whose.
        home: P8's home; a file in it keeps other processes from making another one meanwhile.
    """

    def __init__(self, installation: str, home: Path) -> None:
        self._installation = installation
        self._lock_file = home / "states" / "network.lock"
        self._lock = Lock()
        self._id = ""

    def id(self, api: Any) -> str:
        """Return the engine's id of it; it is made where there is none."""
        with self._lock:
            if not self._id:
                with self._alone():
                    self._id = self._found(api) or self._made(api)
            return self._id

    def is_lost(self, said: str) -> bool:
        """Return whether an engine's refusal says that it is gone; then it is made anew when it is asked for."""
        with self._lock:
            lost = self._id != "" and f"network {self._id} not found" in said
            self._id = "" if lost else self._id
            return lost

    @property
    def _name(self) -> str:
        return f"p8-{self._installation[:12]}"

    def _found(self, api: Any) -> str:
        """Return the oldest one of its name, or ""."""
        own = {"label": f"{INSTALLATION}={self._installation}"}
        found = [one for one in api.networks(names=[self._name], filters=own) if one["Name"] == self._name]
        return min(((one["Created"], one["Id"]) for one in found), default=("", ""))[1]

    def _made(self, api: Any) -> str:
        made = api.create_network(
            self._name, driver="bridge", labels={MANAGED: "1", INSTALLATION: self._installation},
            options={"com.docker.network.bridge.enable_icc": "false"},
        )  # fmt: skip
        return str(made["Id"])

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        number = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            yield
        finally:
            os.close(number)
