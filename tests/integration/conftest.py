"""What is slow to make and serves several files: a second engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.engine import Second, second_engine, session_image


@pytest.fixture(scope="session")
def second(tmp_path_factory) -> Iterator[Second]:
    with second_engine(session_image(tmp_path_factory.mktemp("image"))) as made:
        yield made
