"""Which engines can mount this machine's directories."""

from __future__ import annotations

import pytest

from p8.containers.endpoint import Address
from p8.errors import ConfigError


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
