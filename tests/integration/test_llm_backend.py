"""The llm library's models, against a server on loopback: well behaved, slow, hanging, refusing, cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.openai_server import Server, openai_server

RUN = [sys.executable, "-m", "p8"]


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server() as server:
        yield server


@pytest.fixture
def env(server: Server, home: Path, tmp_path: Path) -> dict[str, str]:
    user = tmp_path / "llm"
    user.mkdir()
    (user / "extra-openai-models.yaml").write_text(
        f"- model_id: loop\n  model_name: loop\n  api_base: {server.address}\n  api_key_name: loop\n"
    )
    (user / "keys.json").write_text('{"loop": "sk-secret-loop"}')
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("idle_timeout_s = 4\n")
    return {**os.environ, "LLM_USER_PATH": str(user), "P8_HOME": str(home)}


def p8(env: dict[str, str], *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *words], env=env, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
    )


def transcript(env: dict[str, str]) -> list[dict]:
    done = p8(env, "session", "show", "last", "--json")
    return [e for e in json.loads(done.stdout)["entries"] if e["kind"] == "message"]


def test_it_answers_with_the_users_key_and_counts_tokens(env: dict[str, str], server: Server) -> None:
    done = p8(env, "--model", "loop", "-p", "What is it?")
    question, answer = transcript(env)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Hello from the loopback."
    assert server.keys == ["Bearer sk-secret-loop"]
    assert question["content"] == "What is it?"
    assert (answer["model"], answer["tokens_in"], answer["tokens_out"]) == ("loop", 11, 4)
    assert not (Path(env["LLM_USER_PATH"]) / "logs.db").exists()


def test_the_conversation_goes_with_it(env: dict[str, str], server: Server) -> None:
    p8(env, "--model", "loop", "-p", "first")
    done = p8(env, "--model", "loop", "-c", "-p", "second")

    assert done.returncode == 0, done.stderr
    assert [(m["role"], m["content"].strip()) for m in server.asked[-1]["messages"]] == [
        ("user", "first"), ("assistant", "Hello from the loopback."), ("user", "second"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("401", "refused the key"),
        ("429", "rate-limited"),
        ("500", "failed with status 500"),
        ("garbage", "loop"),
    ],
)
def test_a_refusal_is_one_clear_line_and_the_question_stays(
    env: dict[str, str], server: Server, mode: str, wanted: str
) -> None:
    server.mode = mode
    done = p8(env, "--model", "loop", "-p", "What is it?")
    found = transcript(env)

    assert found[0]["content"] == "What is it?"
    assert "Traceback" not in done.stderr
    if mode != "garbage":
        assert done.returncode == 10
        assert wanted in done.stderr
        assert found[1]["error"]
    assert "sk-secret-loop" not in done.stderr


def test_a_backend_that_hangs_is_given_up_and_what_came_is_kept(env: dict[str, str], server: Server) -> None:
    server.mode = "hang"
    done = p8(env, "--model", "loop", "-p", "What is it?")
    found = transcript(env)

    assert done.returncode == 10
    assert "sent nothing for 4 s" in done.stderr
    assert found[1]["content"].strip() == "Hello from"


def test_a_connection_that_is_cut_keeps_what_came(env: dict[str, str], server: Server) -> None:
    server.mode = "cut"
    done = p8(env, "--model", "loop", "-p", "What is it?")
    found = transcript(env)

    assert "Traceback" not in done.stderr
    assert found[0]["content"] == "What is it?"
    assert found[1]["content"].strip().startswith("Hello from")


def test_a_server_that_is_not_there_is_named(env: dict[str, str], server: Server) -> None:
    server.shutdown()
    server.server_close()
    done = p8(env, "--model", "loop", "-p", "What is it?")

    assert done.returncode == 10
    assert "cannot be reached" in done.stderr
    assert len(transcript(env)) == 2
