"""Definitions with faults, values that do not fit, quoting that holds, and where actions come from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p8.containers.yamlfile import Document
from p8.core.actions import BUILT_IN, Action, Book, Parameter, actions_in, read_actions, signals_of, values_of
from p8.errors import ConfigError, Conflict, NotFound, UsageError


def defined(text: str, source: str = "user") -> Action:
    found, problems = actions_in(Document("f.yaml", text), source)
    assert problems == []
    return found[0]


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\n", 1, "needs `run`"),
        ("A B:\n  run: x\n", 1, "is no name"),
        ("a:\n  run: x\n  rum: y\n", 3, "'rum'"),
        ("a:\n  run: []\n", 2, "`run` must"),
        ("a:\n  run:\n    - ok\n    - 3\n", 4, "lines of text"),
        ("a:\n  run: |\n    one\n    two\n", 2, "lines of text"),
        ("a:\n  help: x\n  run: echo {who}\n", 3, "{who} is no parameter"),
        ('a:\n  run: echo "{who}"\n  parameters: {who: text}\n', 2, "within quotes"),
        ("a:\n  run: echo '{who}'\n  parameters: {who: text}\n", 2, "within quotes"),
        ("a:\n  run: echo `ls {who}`\n  parameters: {who: text}\n", 2, "within quotes"),
        ("a:\n  run: x\n  parameters:\n    n: {type: float}\n", 4, "'float' is no type"),
        ("a:\n  run: x\n  parameters:\n    n:\n      type: int\n      min: low\n", 6, "`min` must"),
        (
            "a:\n  run: x\n  parameters:\n    n:\n      type: int\n      max: 3\n      default: 9\n",
            7,
            "default does not",
        ),
        ("a:\n  run: x\n  parameters:\n    n:\n      pattern: '('\n", 5, "`pattern`"),
        ("a:\n  run: x\n  parameters:\n    n: {type: choice}\n", 4, "`choices`"),
        ("a:\n  run: x\n  parameters:\n    n: {type: text, least: 3}\n", 4, "'least'"),
        ("a:\n  run: x\n  parameters:\n    N: text\n", 4, "no name of a parameter"),
        ("a:\n  run: x\n  when: [dirty, tired]\n", 3, "'tired' is no signal"),
    ],
)
def test_a_fault_in_a_definition_is_told_with_its_line_and_costs_only_itself(text: str, line: int, said: str) -> None:
    found, problems = actions_in(Document("f.yaml", f"{text}fine:\n  run: echo fine\n"), "user")
    assert [action.name for action in found] == ["fine"]
    assert len(problems) == 1
    assert problems[0].startswith(f"f.yaml, line {line}: ")
    assert said in problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "- a\n", "a\n", "a: [1\n", "a: 1\na: 2\n", "a: &x {run: y}\nb: [*x",
        "a: !!python/object/apply:os.system [id]\n", "\ta: 1\n", "a: \x00",
        "[" * 20_000, "{a: " * 16_000, "- " * 32_000 + "x", "#" * 70_000, "a: \xe9",
    ],
)  # fmt: skip
def test_a_file_that_is_no_sound_yaml_is_told_and_costs_nothing_else(text: str, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(text.encode("latin-1"))
    found, problems = read_actions(file, "project")
    assert found == []
    assert len(problems) == 1
    assert "f.yaml" in problems[0]


def test_an_empty_file_a_pipe_and_none_at_all_hold_no_actions(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert read_actions(tmp_path / "empty.yaml", "user") == ([], [])
    assert read_actions(tmp_path / "missing.yaml", "user") == ([], [])
    assert len(read_actions(tmp_path / "pipe.yaml", "user")[1]) == 1


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ({"type": "int", "low": 1, "high": 9}, ["1", 9, " 5 "], ["0", "10", "x", "1.5", "", "1e1", "９x"]),
        ({"type": "number"}, ["1.5", "-2", "1e3"], ["nan", "inf", "", "one"]),
        ({"type": "bool"}, ["yes", "FALSE", "0", True], ["", "maybe"]),
        ({"type": "choice", "choices": ("a", "b")}, ["a"], ["", "c", "A"]),
        ({"type": "path"}, ["a/b", "./-x"], ["-rf", ""]),
        ({"type": "path", "must_exist": True}, ["."], ["nowhere"]),
        ({"type": "text", "pattern": "[a-z]+"}, ["abc"], ["", "a1", "a\nb", "a\0"]),
        ({"type": "text"}, ["", "anything $(at) all"], ["two\nlines", "a\rb", "nul\0"]),
    ],
)
def test_values_are_checked_by_type(kind: dict, good: list, bad: list, tmp_path: Path) -> None:
    parameter = Parameter("p", **kind, where="f.yaml, line 3")
    for value in good:
        assert "\n" not in parameter.value(value, tmp_path)
    for value in bad:
        with pytest.raises(UsageError) as caught:
            parameter.value(value, tmp_path)
        assert "p=" in caught.value.message
        assert "f.yaml, line 3" in caught.value.hint


def test_nothing_is_made_of_words_that_do_not_fit(tmp_path: Path) -> None:
    action = defined("a:\n  run: [echo one, 'echo {n} {who}']\n  parameters: {n: int, who: {default: me}}\n")
    assert action.lines({"n": "3"}, tmp_path) == ("!echo one", "!echo 3 me")
    for values in ({}, {"n": "x"}, {"n": 1, "other": 2}):
        with pytest.raises(UsageError):
            action.lines(values, tmp_path)
    assert values_of(["3", "you", "all"], action) == {"n": "3", "who": "you all"}
    assert values_of(["who=you", "4"], action) == {"n": "4", "who": "you"}
    with pytest.raises(UsageError, match="does not take"):
        values_of(["n=1", "who=2", "more"], action)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=60))
@settings(max_examples=150)
def test_a_value_reaches_the_program_as_it_is_and_nothing_else_happens(text: str) -> None:
    action = defined("a:\n  run: printf '%s|' {x} \\{x} ${x}, # {x}\n  parameters: {x: text}\n")
    (line,) = action.lines({"x": text}, Path())
    done = subprocess.run(["/bin/sh", "-c", line[1:]], capture_output=True, env={"x": "env"}, check=True)
    assert done.stdout.decode() == f"{text.strip()}|{{x}}|env,|"


def test_later_sources_replace_earlier_ones_and_faults_are_collected(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    write(home / "configs" / "actions", "mine.yaml", "test:\n  run: my test\nonly-mine:\n  run: x\n")
    write(home / "configs" / "actions", "broken.yaml", "a: [\n")
    write(root / ".ai-sessions" / "actions", "a.yaml", "only-mine:\n  run: theirs\n")
    write(root / ".ai-sessions" / "actions", "notes.txt", "not: read")
    book = Book(home, root)

    assert book.get("test").run == ("my test",)
    assert (book.get("only-mine").run, book.get("only-mine").source) == (("theirs",), "project")
    assert book.get("commit").source == "built in"
    assert len(book.problems) == 1
    assert "broken.yaml, line 2" in book.problems[0]
    with pytest.raises(NotFound) as caught:
        book.get("comit")
    assert "commit" in caught.value.hint
    assert book.is_current()
    write(root / ".ai-sessions" / "actions", "b.yaml", "new:\n  run: x\n")
    assert not book.is_current()


def test_agreement_is_to_the_projects_files_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / ".ai-sessions" / "actions"
    assert Book(tmp_path / "home", tmp_path).fingerprint() == ""
    write(folder, "a.yaml", "a:\n  run: x\n")
    one = Book(tmp_path / "home", tmp_path).fingerprint()
    write(folder, "b.yaml", "")
    two = Book(tmp_path / "home", tmp_path).fingerprint()
    write(folder, "a.yaml", "a:\n  run: y\n")
    three = Book(tmp_path / "home", tmp_path).fingerprint()
    assert len({one, two, three, ""}) == 4


def test_those_that_come_along_are_sound() -> None:
    found, problems = read_actions(BUILT_IN, "built in")
    assert problems == []
    assert len(found) > 12
    assert all(action.help.endswith(".") for action in found)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("!git push", "push"), ("!git push --force", ""), ("!python -m pytest -q", "test"),
        ("!python -m pytest -q tests/unit", "test"), ("!python -m pytest -quick", ""),
        ("!git commit -am 'x y'", "commit"),
        ("!git commit -amend", ""), ("/checkpoint create before", "checkpoint"), ("!ls", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_line_typed_by_hand_is_known_as_its_action(line: str, name: str, tmp_path: Path) -> None:
    assert Book(tmp_path, tmp_path).named(line) == name


def test_ones_own_actions_are_kept_replaced_and_removed(tmp_path: Path) -> None:
    book = Book(tmp_path, tmp_path)
    book.save("serve", {"run": "serve {port}", "parameters": {"port": {"type": "int", "default": 80}}})
    assert Book(tmp_path, tmp_path).get("serve").lines({}, tmp_path) == ("!serve 80",)
    with pytest.raises(Conflict):
        book.save("serve", {"run": "x"})
    book.save("serve", {"run": "x"}, replace=True)
    for name, definition in (("../x", {"run": "x"}), ("x", {"run": "echo {y}"}), ("x", {"run": []})):
        with pytest.raises(ConfigError):
            book.save(name, definition)
    assert Book(tmp_path, tmp_path).get("serve").run == ("x",)
    assert book.remove("serve").exists()
    with pytest.raises(NotFound):
        Book(tmp_path, tmp_path).get("serve")
    for name in ("serve", "../../x", "test"):
        with pytest.raises(NotFound):
            book.remove(name)


def test_a_projects_pattern_is_not_tried_before_it_is_trusted() -> None:
    text = "a:\n  run: x {p}\n  parameters:\n    p: {default: '" + "a" * 40 + "!', pattern: '(a+)+$'}\n"
    assert defined(text, "project").name == "a"


def test_signals_say_how_things_stand() -> None:
    assert signals_of({"changed": 2, "last_exit": 1, "budget": 0.8, "checkpoint_s": 4000}, ["pyproject.toml"]) == {
        "dirty", "failing", "budget", "stale-checkpoint", "python",
    }  # fmt: skip
    assert signals_of({"changed": 0, "last_exit": 0, "ahead": 1}) == {"clean", "passing", "ahead"}
    assert signals_of({}) == frozenset()


def test_tab_completes_names_and_values(tmp_path: Path) -> None:
    text = (
        "go-to:\n  run: x {where} {fast}\n  parameters:\n    where: {type: choice, choices: [a, b]}\n    fast: bool\n"
    )
    write(tmp_path / "configs" / "actions", "a.yaml", text)
    book = Book(tmp_path, tmp_path)
    assert "go-to" in [text for text, _ in book.completions("go")]
    assert [text for text, _ in book.completions("go-to where=a f")] == [
        "go-to where=a fast=true",
        "go-to where=a fast=false",
    ]
    assert book.completions("nothing x") == []
