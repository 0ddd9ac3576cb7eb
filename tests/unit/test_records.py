from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import NamedTuple

import pytest

from p8.records import Record


class Place(Record):
    """Where something is."""

    name: str
    row: int = 1
    column: int = 2

    @property
    def label(self) -> str:
        return f"{self.name}@{self.row}"


class Named(NamedTuple):
    name: str
    row: int = 1
    column: int = 2


class Nothing(Record):
    """No fields."""


def test_it_behaves_as_a_named_tuple_does() -> None:
    mine, theirs = Place("a", column=5), Named("a", column=5)
    assert mine == theirs == ("a", 1, 5)
    assert repr(mine) == repr(theirs).replace("Named", "Place")
    assert mine._asdict() == theirs._asdict()
    assert mine._replace(row=7) == theirs._replace(row=7)
    assert type(mine._replace(row=7)) is Place
    assert Place._fields == Named._fields
    assert Place._field_defaults == Named._field_defaults
    assert Place._make([1, 2, 3]) == Named._make([1, 2, 3])  # type: ignore[list-item]
    assert hash(mine) == hash(theirs)
    assert (mine.name, mine.label) == ("a", "a@1")
    assert Nothing() == ()


def test_the_first_one_made_and_the_second_are_alike() -> None:
    class Fresh(Record):
        a: int
        b: int = 0

    assert [Fresh(1), Fresh(1), Fresh(a=1, b=0)] == [(1, 0)] * 3


def test_it_is_copied_pickled_and_matched() -> None:
    mine = Place("a")
    assert pickle.loads(pickle.dumps(mine)) == copy.deepcopy(mine) == mine
    match mine:
        case Place(name="a", row=row):
            assert row == 1
        case _:
            pytest.fail("it did not match")


def test_wrong_fields_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Place\.__new__\(\) missing 1 required"):
        Place()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword"):
        Place("a", depth=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="Place has no depth"):
        Place("a")._replace(depth=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Place("a").name = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Place("a").other = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="Odd: a field without a default"):
        type(Record)("Odd", (Record,), {"__annotations__": {"a": int, "b": int}, "a": 1})


def test_a_list_imports_none_of_what_it_does_not_need() -> None:
    code = (
        "import sys, os; from p8.cli import main; main(['session', 'list']);"
        "print(sorted({'typing', 'dataclasses', 'inspect', 'argparse', 'orjson', 'json', 'shutil', 'xxhash',"
        " 'p8.store.journal', 'p8.store.fold', 'p8.store.keeper', 'p8.session'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-m", "p8", "session", "list"], check=True, capture_output=True)  # makes the store
    done = subprocess.run([sys.executable, "-S", "-c", "import sys; sys.path[:] = " + repr(sys.path) + ";" + code],
                          check=True, capture_output=True, text=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
