"""What is never mounted."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from p8.containers.base import Mount, check_mounts
from p8.errors import ContainerError


@pytest.fixture
def world(tmp_path: Path) -> dict[str, Path]:
    made = {
        name: tmp_path / name
        for name in ("user", "user/work", "user/.p8", "user/.p8/states/x", "user/.p8/workspaces/x/repo", "run")
    }
    for path in made.values():
        path.mkdir(parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "run" / "d.sock"))
    listening.close()
    (tmp_path / "link").symlink_to(tmp_path / "user")
    return made | {"link": tmp_path / "link", "top": tmp_path, "missing": tmp_path / "missing"}


def check(world: dict[str, Path], source: Path) -> None:
    check_mounts([Mount(source, "/x")], world["user/.p8"], world["user"], [world["run"] / "d.sock"])


@pytest.mark.parametrize("name", ["user/work", "user/.p8/states/x", "user/.p8/workspaces/x/repo"])
def test_a_project_and_a_state_folder_are_mounted(world: dict[str, Path], name: str) -> None:
    check(world, world[name])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("user", "your home directory"), ("top", "your home directory"), ("link", "your home directory"),
        ("user/.p8", "P8's own home"), ("run", "the engine's socket"), ("missing", "cannot be mounted"),
    ],
)  # fmt: skip
def test_what_holds_more_than_a_project_is_refused(world: dict[str, Path], name: str, why: str) -> None:
    with pytest.raises(ContainerError, match=why):
        check(world, world[name])


def test_the_root_the_socket_itself_and_the_database_are_refused(world: dict[str, Path]) -> None:
    (world["user/.p8"] / "p8.db").touch()
    for source in (Path("/"), world["run"] / "d.sock", world["user/.p8"] / "p8.db"):
        with pytest.raises(ContainerError):
            check(world, source)
