"""Which engines can mount this machine's directories, and what is said where their library is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p8.containers.docker import Docker
from p8.containers.endpoint import Address
from p8.errors import ConfigError, ContainerError


@pytest.mark.parametrize(
    ("endpoint", "sharing", "local"),
    [
        ("unix:///var/run/docker.sock", "auto", True), ("npipe:////./pipe/docker_engine", "auto", True),
        ("tcp://127.0.0.1:2375", "auto", False), ("ssh://me@there", "auto", False),
        ("https://10.0.0.2:2376", "auto", False), ("unix:///run/other.sock", "sync", False),
        ("tcp://127.0.0.1:2375", "bind", True),
    ],
)  # fmt: skip
def test_an_engine_is_elsewhere_by_its_address_or_as_it_is_said(endpoint: str, sharing: str, local: bool) -> None:
    assert Address(sharing=sharing).is_local(endpoint) is local


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="container_sync is 'maybe'"):
        Address(sharing="maybe").is_local("unix:///var/run/docker.sock")


@pytest.mark.parametrize(
    "use", [Docker.engine, Docker.list, Docker.connection, lambda engine: engine.inspect("x"),
            lambda engine: engine.has_image("x"), lambda engine: engine.act("x", "stop")],
)  # fmt: skip
def test_without_its_library_it_is_said_how_to_get_it(
    use: Callable[[Docker], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ContainerError, match="containers need docker, which is not installed") as refused:
        use(Docker("one", tmp_path, tmp_path))
    assert refused.value.hint == "pip install 'p8[containers]'"
