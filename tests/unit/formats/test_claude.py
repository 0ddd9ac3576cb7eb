"""Claude Code's sessions, as it wrote them and as they may be damaged."""

from __future__ import annotations

from pathlib import Path

from p8.core.sessions import SessionManager
from p8.formats import claude
from p8.formats.foreign import Conversation
from p8.model import from_us
from support.imports import (
    ANSWER,
    ASKED,
    DATA,
    TALK,
    every_cut,
    jsonl,
    records_of,
    said,
    talk,
    twice_adds_nothing,
)

FILE = next((DATA / "claude").rglob("*.jsonl"))


def read(path: Path) -> Conversation:
    (found,) = claude.read(path)
    return found


def user(uuid: str, parent: str | None, content: object, **more: object) -> dict[str, object]:
    return {"type": "user", "uuid": uuid, "parentUuid": parent, "sessionId": "s", "timestamp": "2026-11-21T07:00:00Z",
            "message": {"role": "user", "content": content}, **more}  # fmt: skip


def model(uuid: str, parent: str, *blocks: object, id: str = "") -> dict[str, object]:
    message = {"id": id or f"msg-{uuid}", "role": "assistant", "model": "m", "content": list(blocks)}
    return {"type": "assistant", "uuid": uuid, "parentUuid": parent, "sessionId": "s", "message": message}


def words(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def test_a_session_that_claude_code_wrote() -> None:
    assert claude.detect(FILE)
    found = read(FILE)
    assert found.id == FILE.stem
    assert found.directory == "/home/ada/demo"
    assert (found.branch, found.model, found.bad) == ("master", "claude-sonnet-4-5", 0)
    assert talk(found) == TALK
    times = [item.time_us for item in found.items]
    assert times == sorted(times)
    assert from_us(times[0]).isoformat() == "2026-11-21T07:28:30.579000+00:00"
    look = found.items[1]
    assert (look.tokens_in, look.tokens_out) == (200, 25)
    (call,) = look.tools
    assert (call["title"], call["status"], call["content"]) == ("Bash: cat notes.txt", "completed", "hello")
    assert call["input"] == {"command": "cat notes.txt", "description": "Read the notes"}


def test_importing_it_twice_adds_nothing(manager: SessionManager) -> None:
    (session,) = twice_adds_nothing(manager, FILE)
    row = manager.store.sessions.get(session)
    assert row.title == ASKED
    assert row.meta["imported"]["id"] == FILE.stem
    assert (row.messages, row.tokens_out) == (5, 75)
    assert [entry.role for entry in said(manager, session)] == ["user", "assistant", "assistant", "user", "assistant"]


def test_titles_given_by_hand_go_before_those_of_the_model(tmp_path: Path) -> None:
    records = [*records_of(FILE), {"type": "ai-title", "aiTitle": "By the model", "sessionId": "s"}]
    assert read(jsonl(tmp_path / "a.jsonl", records)).title == "By the model"
    records.append({"type": "custom-title", "customTitle": "By hand", "sessionId": "s"})
    found = read(jsonl(tmp_path / "a.jsonl", records))
    assert (found.title, found.named) == ("By hand", True)


def test_a_summary_counts_for_its_own_session_only(tmp_path: Path) -> None:
    other = {"type": "summary", "summary": "Another one", "leafUuid": "not-here"}
    own = {"type": "summary", "summary": "This one", "leafUuid": records_of(FILE)[2]["uuid"]}
    assert read(jsonl(tmp_path / "a.jsonl", [other, *records_of(FILE)])).title == ""
    assert read(jsonl(tmp_path / "a.jsonl", [own, other, *records_of(FILE)])).title == "This one"


def test_a_prompt_that_was_taken_back_is_left_out_and_counted(tmp_path: Path) -> None:
    found = read(jsonl(tmp_path / "a.jsonl", [
        user("1", None, "first"), model("2", "1", words("one")), user("3", "2", "wrong"), model("4", "3", words("no")),
        user("5", "2", "right"), model("6", "5", words("yes")),
    ]))  # fmt: skip
    assert [text for _, text in talk(found)] == ["first", "one", "right", "yes"]
    assert found.more["taken_back"] == 2


def test_tools_that_ran_side_by_side_all_keep_their_results(tmp_path: Path) -> None:
    def use(name: str) -> dict[str, object]:
        return {"type": "tool_use", "id": name, "name": "Read", "input": {"file_path": name}}

    def result(name: str, **more: object) -> list[object]:
        return [{"type": "tool_result", "tool_use_id": name, "content": [words(f"in {name}")], **more}]

    found = read(jsonl(tmp_path / "a.jsonl", [
        user("1", None, "both"), model("2", "1", use("a"), id="m"), model("3", "2", use("b"), id="m"),
        user("4", "2", result("a")), user("5", "3", result("b", is_error=True)), model("6", "5", words("done")),
    ]))  # fmt: skip
    assert [(c["title"], c["status"], c["content"]) for c in found.items[1].tools] == [
        ("Read: a", "completed", "in a"), ("Read: b", "failed", "in b"),
    ]  # fmt: skip
    assert [text for _, text in talk(found)] == ["both", "", "done"]


def test_commands_shell_lines_and_what_the_tool_put_in(tmp_path: Path) -> None:
    found = read(jsonl(tmp_path / "a.jsonl", [
        user("1", None, "Caveat: not typed", isMeta=True),
        user("2", "1", "<command-name>/model</command-name>\n<command-args>opus</command-args>"),
        user("3", "2", "<local-command-stdout>Set model</local-command-stdout>"),
        user("4", "3", "<bash-input>make test</bash-input>"),
        user("5", "4", "<bash-stdout>2 passed</bash-stdout><bash-stderr></bash-stderr>"),
        user("6", "5", "hello"),
        model("7", "6", {"type": "thinking", "thinking": "hm"}, words("hi")),
        {**user("8", "7", "aside"), "isSidechain": True},
        {"type": "system", "subtype": "compact_boundary", "uuid": "9", "parentUuid": None, "logicalParentUuid": "7",
         "content": "Conversation compacted"},
        user("10", "9", "Earlier: hello, hi", isCompactSummary=True),
        user("11", "10", [words("go on"), {"type": "image", "source": {"media_type": "image/png", "data": "AAAA"}}]),
    ]))  # fmt: skip
    assert talk(found) == [
        ("command", "/model opus"), ("notice", "Set model"), ("execution", "make test"), ("user", "hello"),
        ("assistant", "hi"), ("system", "Earlier: hello, hi"), ("user", "go on\n[image image/png]"),
    ]  # fmt: skip
    assert found.items[2].more["output"] == "2 passed"
    assert found.items[4].thought == "hm"
    assert found.more["subagent_records"] == 1


def test_a_bad_record_costs_that_record(tmp_path: Path) -> None:
    records: list[object] = list(records_of(FILE))
    at = next(n for n, r in enumerate(records) if isinstance(r, dict) and r.get("type") == "assistant")
    broken = [*records[:at], "{not json", *records[at + 1 :], "[1,2]"]
    found = read(jsonl(tmp_path / "a.jsonl", broken))
    assert found.bad == 2
    assert talk(found)[0] == ("user", ASKED)
    assert talk(found)[-1] == ("assistant", ANSWER)
    assert len(found.items) == 5  # the tool's record of the same message is still there


def test_a_record_whose_parent_is_lost_is_joined_to_the_one_before(tmp_path: Path) -> None:
    records = [user("1", None, "a"), model("2", "1", words("b")), user("4", "3", "c"), model("5", "4", words("d"))]
    assert [text for _, text in talk(read(jsonl(tmp_path / "a.jsonl", records)))] == ["a", "b", "c", "d"]


def test_odd_types_everywhere_are_survived(tmp_path: Path) -> None:
    odd: list[object] = [None, 7, [], {}, "x", True, -1.5, {"content": 7}, [[[]]], "\ud800"]
    records: list[object] = [user("0", None, "hello")]
    for number, value in enumerate(odd):
        records += [
            user(f"a{number}", "0", value, timestamp=value, cwd=value), {"type": "assistant", "uuid": f"b{number}",
             "message": value}, {"type": "assistant", "uuid": f"c{number}", "message": {"content": [value], "id": value,
             "usage": value, "model": value}}, {"type": value, "uuid": value, "parentUuid": value},
        ]  # fmt: skip
    found = read(jsonl(tmp_path / "a.jsonl", records))
    assert found.bad > 0
    assert ("user", "hello") in talk(found)


def test_a_file_cut_off_anywhere_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert every_cut(FILE, claude.read, tmp_path / "cut.jsonl") == 5


def test_other_files_are_not_taken_for_one(tmp_path: Path) -> None:
    for tool in ("codex", "gemini"):
        assert not any(claude.detect(file) for file in (DATA / tool).rglob("*.jsonl"))
    assert not claude.detect(jsonl(tmp_path / "agent-1.jsonl", records_of(FILE)))
    assert not claude.detect(jsonl(tmp_path / "x.jsonl", [{"type": "user"}]))
