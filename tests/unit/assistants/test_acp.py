"""Agents over the protocol, against one made with the SDK: what comes, what is asked, and all that can go wrong."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p8.assistants.acp import AcpAgent, Launch
from p8.assistants.base import Asks, Assistant, Cancel, Chunk, ChunkKind, Decision
from p8.assistants.protocol import HANDOVER_CHARACTERS, chunk_of, outcome, prompt, scope
from p8.errors import AssistantError

pytest.importorskip("acp")
SUPPORT = Path(__file__).parents[2]
Made = Callable[..., AcpAgent]


@pytest.fixture
def made(tmp_path: Path, directory: Path) -> Iterator[Made]:
    agents: list[AcpAgent] = []

    def make(*flags: str, argv: tuple[str, ...] = (), cwd: Path = directory, **options: Any) -> AcpAgent:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SUPPORT), "AGENT_STATE": str(tmp_path / "state")}
        words = argv or (sys.executable, "-m", "support.acp_agent", *flags)
        launch = Launch(words, env, str(cwd), secrets=("sk-secret-value",))
        agents.append(AcpAgent("tester", lambda: launch, **options))
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def log(tmp_path: Path, word: str) -> list[str]:
    lines = (tmp_path / "state" / "log").read_text().splitlines()
    return [line for line in lines if line.startswith(word)]


def said(chunks: list[Chunk]) -> str:
    return "".join(c.text for c in chunks if c.kind is ChunkKind.TEXT)


def answer(agent: AcpAgent, *conversation: dict[str, Any] | str, decision: Decision = Decision.ONCE) -> list[Chunk]:
    chunks = []
    messages = [user(m) if isinstance(m, str) else m for m in conversation]
    for chunk in agent.stream(messages, Cancel()):
        chunks.append(chunk)
        if chunk.kind is ChunkKind.PERMISSION:
            agent.permit(chunk.data["request"], decision)
    return chunks


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_running(pid)


def test_it_streams_text_in_order_and_tells_its_session(made: Made) -> None:
    agent = made()
    chunks = answer(agent, "say one two three")

    assert isinstance(agent, Assistant)
    assert isinstance(agent, Asks)
    assert [c.text for c in chunks if c.kind is ChunkKind.TEXT] == ["one ", "two ", "three "]
    assert chunks[0].kind is ChunkKind.SESSION
    assert agent.about["version"] == "1.2.3"


def test_thoughts_and_plans_come_as_such(made: Made) -> None:
    chunks = answer(made(), "plan")

    assert [c.text for c in chunks if c.kind is ChunkKind.THOUGHT] == ["hm, ", "well"]
    plans = [c.data for c in chunks if c.kind is ChunkKind.PLAN]
    assert [p["entries"][0]["status"] for p in plans] == ["pending", "completed"]
    assert {p["id"] for p in plans} == {"plan"}


def test_an_edit_that_is_allowed_happens_and_one_that_is_not_does_not(
    made: Made, directory: Path, tmp_path: Path
) -> None:
    agent = made()
    chunks = answer(agent, "edit a.txt new")
    (question,) = [c.data for c in chunks if c.kind is ChunkKind.PERMISSION]
    tools = [c.data for c in chunks if c.kind is ChunkKind.TOOL]
    refused = answer(agent, "edit b.txt new", decision=Decision.NO)

    assert (directory / "a.txt").read_text() == "new"
    assert question["title"] == "Edit a.txt"
    assert question["scope"] == "edit"
    assert question["choices"] == ["once", "always", "no", "never"]
    assert question["content"][0]["new"] == "new"
    assert [t.get("status") for t in tools] == ["pending", None, "completed"]
    assert len({t["id"] for t in tools}) == 1
    assert not (directory / "b.txt").exists()
    assert said(refused).endswith("not done")
    assert log(tmp_path, "answer") == ["answer the-allow_once", "answer the-reject_once"]


@pytest.mark.parametrize("decision", [Decision.ALWAYS, Decision.ONCE])
def test_always_is_p8s_to_remember_and_never_the_agents(made: Made, tmp_path: Path, decision: Decision) -> None:
    answer(made(), "edit a.txt new", decision=decision)

    assert log(tmp_path, "answer") == ["answer the-allow_once"]


def test_its_session_goes_on_without_repeating_what_it_knows(made: Made) -> None:
    agent = made()
    first = answer(agent, "say hello")
    mark = {"role": "assistant", "content": "hello", "agent_session": first[0].data}
    recalled = answer(agent, "say hello", mark, user("recall"))

    assert json.loads(said(recalled)) == ["say hello"]


def test_what_was_said_elsewhere_meanwhile_is_handed_over(made: Made) -> None:
    agent = made()
    first = answer(agent, "say hello")
    mark = {"role": "assistant", "content": "hello", "agent_session": first[0].data}
    other = {"role": "assistant", "content": "seven is prime"}
    answer(agent, "say hello", mark, user("is seven prime?"), other, user("say yes"))
    latest = {"role": "assistant", "content": "yes", "agent_session": first[0].data}
    recalled = answer(agent, "say hello", mark, user("is seven prime?"), other, "say yes", latest, "recall")
    _, handed = json.loads(said(recalled))

    assert "since your last answer" in handed
    assert "Assistant: seven is prime" in handed
    assert "hello" not in handed
    assert handed.endswith("say yes")


@pytest.mark.parametrize("flag", ["--load", "--resume"])
def test_a_new_process_goes_on_with_the_old_session(made: Made, tmp_path: Path, flag: str) -> None:
    agent = made(flag)
    first = answer(agent, "say hello")
    agent.close()
    mark = {"role": "assistant", "content": "hello", "agent_session": first[0].data}
    chunks = answer(agent, "say hello", mark, user("recall"))

    assert json.loads(said(chunks)) == ["say hello"]  # what was replayed is no part of the answer
    assert chunks[0].data == first[0].data
    assert log(tmp_path, flag[2:]) == [f"{flag[2:]} {first[0].data['session']}"]


@pytest.mark.parametrize("flags", [(), ("--load",)])
def test_a_session_that_is_lost_is_handed_over_and_told(made: Made, tmp_path: Path, flags: tuple[str, ...]) -> None:
    agent = made(*flags)
    first = answer(agent, "say hello")
    agent.close()
    (tmp_path / "state" / f"{first[0].data['session']}.jsonl").unlink()
    mark = {"role": "assistant", "content": "hello there", "agent_session": first[0].data}
    chunks = answer(agent, "say hello", mark, user("say more"))
    later = {"role": "assistant", "content": "more", "agent_session": chunks[1].data}
    recalled = answer(agent, "say hello", mark, user("say more"), later, "recall")
    (handed,) = json.loads(said(recalled))

    assert chunks[0].kind is ChunkKind.NOTICE
    assert "handed over" in chunks[0].text
    assert "User: say hello\n\nAssistant: hello there\n" in handed
    assert handed.endswith("say more")


def test_another_directory_is_another_session(made: Made, tmp_path: Path, directory: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    here = directory
    agent = made()
    launches = agent._launch()
    agent._launch = lambda: Launch(launches.argv, launches.env, str(here))
    first = answer(agent, "say hello")
    here = other
    mark = {"role": "assistant", "content": "hello", "agent_session": first[0].data}
    second = answer(agent, "say hello", mark, user("edit c.txt x"))

    assert second[0].data["session"] != first[0].data["session"]
    assert (other / "c.txt").read_text() == "x"
    assert len(log(tmp_path, "start")) == 1


def test_cancelling_stops_it_and_the_session_goes_on(made: Made, tmp_path: Path) -> None:
    agent, cancel, chunks = made(), Cancel(), []
    for chunk in agent.stream([user("slow")], cancel):
        chunks.append(chunk)
        if len(chunks) == 4:
            cancel.set()
    mark = {"role": "assistant", "content": said(chunks), "agent_session": chunks[0].data}

    assert len(chunks) == 4
    assert len(log(tmp_path, "cancel")) == 1
    assert json.loads(said(answer(agent, "slow", mark, user("recall")))) == ["slow"]
    assert len(log(tmp_path, "start")) == 1


def test_leaving_it_while_it_asks_answers_the_question_with_cancelled(
    made: Made, tmp_path: Path, directory: Path
) -> None:
    agent = made()
    for chunk in agent.stream([user("edit a.txt x")], Cancel()):
        if chunk.kind is ChunkKind.PERMISSION:
            break

    until = time.monotonic() + 5
    while not log(tmp_path, "answer") and time.monotonic() < until:
        time.sleep(0.05)
    assert log(tmp_path, "answer") == ["answer cancelled"]
    assert not (directory / "a.txt").exists()
    assert said(answer(agent, "say on")) == "on "


def test_one_that_does_not_stop_is_ended(made: Made, tmp_path: Path) -> None:
    agent, cancel = made(cancel_timeout_s=0.3), Cancel()
    for chunk in agent.stream([user("deaf")], cancel):
        if chunk.kind is ChunkKind.TEXT:
            cancel.set()
    pid = int(log(tmp_path, "start")[0].split()[1])

    assert gone(pid)
    assert said(answer(agent, "say back")) == "back "


def test_one_that_dies_is_told_with_its_last_words_but_no_secret(made: Made) -> None:
    agent: AcpAgent = made()
    chunks: list[Chunk] = []
    with pytest.raises(AssistantError) as caught:
        chunks.extend(agent.stream([user("die")], Cancel()))

    assert caught.value.message == "tester ended with status 3: Error: out of cheese …"
    assert "/retry" in caught.value.hint
    assert said(chunks) == "half "
    assert said(answer(agent, "say back")) == "back "


def test_one_that_is_killed_is_told(made: Made, tmp_path: Path) -> None:
    agent = made()

    def kill() -> None:
        time.sleep(0.3)
        os.kill(int(log(tmp_path, "start")[0].split()[1]), 9)

    answer(agent, "say hi")
    threading.Thread(target=kill).start()
    with pytest.raises(AssistantError, match=r"^tester was killed \(SIGKILL\)"):
        answer(agent, "slow")


def test_an_error_it_answers_is_one_line(made: Made) -> None:
    with pytest.raises(AssistantError, match=r"^tester failed: Internal error: quota of … is used up \("):
        answer(made(), "fail")


def test_a_reason_to_stop_is_told(made: Made) -> None:
    assert [c.text for c in answer(made(), "refuse") if c.kind is ChunkKind.NOTICE] == ["tester stopped: refusal"]


def test_noise_between_messages_is_skipped(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(answer(made(), "noise")) == "after the noise"
    assert capfd.readouterr() == ("", "")


def test_updates_of_no_known_shape_are_skipped(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(answer(made(), "odd")).endswith("odd, but well")
    assert capfd.readouterr() == ("", "")


def test_a_message_of_megabytes_arrives(made: Made) -> None:
    assert len(said(answer(made(), "big"))) == 3_000_000


@pytest.mark.parametrize(
    ("flags", "argv", "wanted"),
    [
        (("--garbage",), (), "tester does not speak the Agent Client Protocol: it printed 'Welcome to something else"),
        (("--dies",), (), "tester ended with status 1: Error: no such model"),
        (("--newer",), (), "tester speaks version 99 of the protocol; P8 speaks 1"),
        (("--silent",), (), "tester did not answer (initialize) in 2 s"),
        (("--signed-out",), (), "tester wants you to sign in: Authentication required: no key, no session"),
        ((), ("/nowhere/agent",), "tester cannot be started: there is no program /nowhere/agent"),
        ((), ("/etc",), "tester cannot be started: /etc: Permission denied"),
        ((), ("true",), "tester ended with status 0"),
        ((), ("cat",), "tester does not begin a conversation: Method not found"),
        ((), ("echo", "{}"), "tester does not speak the Agent Client Protocol: it printed '{}'"),
    ],
)  # fmt: skip
def test_one_that_does_not_start_is_one_clear_line(
    made: Made, flags: tuple[str, ...], argv: tuple[str, ...], wanted: str, capfd: pytest.CaptureFixture[str]
) -> None:
    agent = made(*flags, argv=argv, start_timeout_s=2.0 if "--silent" in flags else 30.0)
    with pytest.raises(AssistantError) as caught:
        answer(agent, "say hi")

    assert caught.value.message.startswith(wanted)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_directory_that_is_gone_is_named(made: Made, tmp_path: Path) -> None:
    with pytest.raises(AssistantError, match=f"no directory {tmp_path}/gone"):
        answer(made(cwd=tmp_path / "gone"), "say hi")


def test_it_signs_in_by_the_method_that_is_set(made: Made, tmp_path: Path) -> None:
    assert said(answer(made("--signed-out", auth="a-key"), "say in")) == "in "
    assert log(tmp_path, "authenticate") == ["authenticate a-key"]


def test_cancelling_while_it_starts_ends_it(made: Made, tmp_path: Path) -> None:
    agent, cancel = made("--silent"), Cancel()

    def stop() -> None:
        while not (tmp_path / "state" / "log").exists():
            time.sleep(0.05)
        cancel.set()

    threading.Thread(target=stop, daemon=True).start()

    assert list(agent.stream([user("say hi")], cancel)) == []
    assert gone(int(log(tmp_path, "start")[0].split()[1]))


def test_closing_leaves_no_process_behind(made: Made, tmp_path: Path) -> None:
    agent = made("--child")
    answer(agent, "say hi")
    pids = [int(log(tmp_path, word)[0].split()[1]) for word in ("start", "child")]
    assert all(map(is_running, pids))
    agent.close()
    agent.close()

    assert all(map(gone, pids))
    assert not [t for t in threading.enumerate() if t.name.startswith("p8-agent")]


def test_tokens_and_what_the_turn_cost_are_counted(made: Made) -> None:
    agent = made()
    first = answer(agent, "usage 0.25")
    mark = {"role": "assistant", "content": "counted", "agent_session": first[0].data}
    second = answer(agent, "usage 0.25", mark, user("usage 0.35"))
    counts = [c.data for chunks in (first, second) for c in chunks if c.kind is ChunkKind.USAGE]

    assert counts[0] == {"tokens_in": 7, "tokens_out": 5, "context_used": 100, "context_size": 2000, "cost": 0.25}
    assert counts[1]["cost"] == 0.1


def test_it_is_given_the_environment_of_its_launch_and_no_more(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-for-it")
    answer(made(), "say hi")

    assert "ANTHROPIC" not in log(tmp_path, "start")[0]


def test_a_launch_goes_into_a_container_with_names_and_no_values() -> None:
    launch = Launch(("codex-acp", "-x"), {"PATH": "/bin", "KEY": "v", "HOME": "/h"}, "/host/project")
    inner = launch.inside(("docker", "exec", "-i", "box"), "/workspace", ("KEY", "ABSENT"))

    assert inner.argv == ("docker", "exec", "-i", "-e", "KEY", "box", "codex-acp", "-x")
    assert (inner.cwd, inner.outside) == ("/workspace", True)


def test_in_a_container_it_has_another_session_and_back_on_the_host_its_first_one(made: Made) -> None:
    agent = made("--load")
    here = plain = agent._launch()
    agent._launch = lambda: here
    first = answer(agent, "say hello")
    mark = {"role": "assistant", "content": "hello", "agent_session": first[0].data}
    here = replace(plain, argv=("env", *plain.argv), outside=True, note="it works in a container")
    chunks = answer(agent, "say hello", mark, user("say more"))
    inside = {"role": "assistant", "content": "more", "agent_session": chunks[1].data}
    here = plain
    back = answer(agent, "say hello", mark, user("say more"), inside, user("say on"))
    latest = {"role": "assistant", "content": "on", "agent_session": back[0].data}
    recalled = answer(agent, "say hello", mark, user("say more"), inside, user("say on"), latest, "recall")
    greeted, handed = json.loads(said(recalled))

    assert (chunks[0].kind, chunks[0].text) == (ChunkKind.NOTICE, "it works in a container")
    assert chunks[1].data["inside"] is True
    assert chunks[1].data["session"] != first[0].data["session"] == back[0].data["session"]
    assert greeted == "say hello"
    assert "Assistant: more" in handed


def test_one_behind_another_command_works_on_paths_of_its_own(made: Made, tmp_path: Path) -> None:
    agent = made(argv=("env", sys.executable, "-m", "support.acp_agent"))
    plain = agent._launch()
    agent._launch = lambda: Launch(plain.argv, plain.env, "/only/inside", outside=True)

    assert said(answer(agent, "say hi")) == "hi "
    assert log(tmp_path, "new")[0].endswith(" /only/inside")


@pytest.mark.parametrize(
    ("kinds", "decision", "wanted"),
    [
        (("allow_always", "allow_once"), Decision.ONCE, "allow_once"),
        (("allow_always",), Decision.ONCE, None),
        (("allow_always",), Decision.ALWAYS, "allow_always"),
        (("reject_always",), Decision.NO, "reject_always"),
        (("allow_once",), Decision.NO, None),
        (("allow_once", "reject_once"), Decision.CANCEL, None),
        (("allow_once", "reject_once"), Decision.NEVER, "reject_once"),
    ],
)
def test_a_decision_never_grants_more_than_it_says(
    kinds: tuple[str, ...], decision: Decision, wanted: str | None
) -> None:
    answered = outcome([{"kind": kind, "optionId": kind, "name": kind} for kind in kinds], decision)["outcome"]

    assert answered.get("optionId") == wanted
    assert answered["outcome"] == ("selected" if wanted else "cancelled")


def test_always_covers_one_command_and_not_all_of_them() -> None:
    assert scope({"kind": "execute", "input": {"command": "make test"}}) == "execute make test"
    assert scope({"kind": "execute", "input": {"command": ["rm", "-r"]}}) == "execute rm -r"
    assert scope({"kind": "execute", "title": "ls"}) == "execute ls"
    assert scope({"kind": "edit", "title": "Edit x"}) == "edit"
    assert scope({"kind": "other", "title": "Frobnicate"}) == "Frobnicate"


def test_content_that_is_no_text_is_marked() -> None:
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "image", "data": "…"}}
    chunk = chunk_of(update)

    assert chunk is not None
    assert chunk.text == "[image]"


def test_a_prompt_holds_what_fits_and_always_the_question() -> None:
    long = [user("x" * HANDOVER_CHARACTERS), {"role": "assistant", "content": "kept"}, user("last")]
    blocks = prompt(long, 0)

    assert blocks[-1]["text"] == "last"
    assert "kept" in blocks[0]["text"]
    assert "left out" in blocks[0]["text"]
    assert len(blocks[0]["text"]) < 500


def test_a_retry_asks_the_last_question_again() -> None:
    conversation = [user("one"), {"role": "assistant", "content": "1", "agent_session": {}}]

    assert prompt(conversation, 2) == [{"type": "text", "text": "one"}]
