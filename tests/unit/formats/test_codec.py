from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.errors import FormatError
from p8.formats.codec import decode, encode
from p8.model import Status
from p8.session import ExecutionHistory, Session

TIMES = st.datetimes(timezones=st.just(UTC))
TEXT = st.text(st.characters(exclude_categories=("Cs",)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SESSIONS = st.builds(
    Session, TEXT, TEXT, TIMES, st.sampled_from(Status), st.none() | TIMES,
    st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3), st.lists(TEXT, max_size=3),
    st.lists(st.builds(ExecutionHistory, TEXT, TIMES, st.none() | st.integers(-99, 99)), max_size=2),
    st.dictionaries(TEXT, JSON, max_size=3), st.dictionaries(TEXT, JSON, max_size=2),
)  # fmt: skip


@given(SESSIONS)
def test_a_session_survives(session: Session) -> None:
    assert decode(encode(session)) == session


@pytest.mark.parametrize("data", [b"", b"\x90", b"nonsense", b"\x9a" + b"\xc0" * 10])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


def test_what_cannot_be_written_is_refused() -> None:
    session = Session("x", "x", datetime.now(UTC), metadata={"x": object()})  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        encode(session)


def test_fields_that_a_newer_version_appends_cost_nothing() -> None:
    session = Session("20261121-093000-123456-ab12", "demo", datetime(2026, 11, 21, tzinfo=UTC), Status.PAUSED)
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode(session)), "newer"])
    assert decode(longer) == session
