from __future__ import annotations

import os
import random
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p8.formats.redact import DETECTORS, Found, Redactor, has_detectors
from p8.formats.secret_shapes import RULES
from support.planted import Planted, planted

LINES = 100_000
SHAPES = planted()


def test_there_are_forty_shapes_and_each_text_holds_its_secret() -> None:
    assert len({p.shape for p in SHAPES}) >= 40
    assert all(p.secret in p.text for p in SHAPES)


@pytest.mark.parametrize("detectors", [True, False], ids=["with-detectors", "own-rules"])
@pytest.mark.parametrize("one", SHAPES, ids=[p.shape.replace(" ", "-") for p in SHAPES])
def test_takes_out_a_secret_of_each_shape(one: Planted, detectors: bool) -> None:
    redactor = Redactor(detectors=detectors)
    out = redactor.text(one.text)

    assert one.secret not in out
    assert "[redacted: " in out
    assert sum(f.places for f in redactor.found) >= 1


@pytest.mark.parametrize("seed", range(20))
def test_takes_out_other_secrets_of_the_same_shapes(seed: int) -> None:
    left = [p.shape for p in planted(seed) if p.secret in Redactor().text(p.text)]
    assert left == []


@pytest.mark.parametrize("one", SHAPES, ids=[p.shape.replace(" ", "-") for p in SHAPES])
def test_takes_out_a_secret_wherever_it_stands(one: Planted) -> None:
    for text in (f"{one.text}\n{one.text}", f"x = '''{one.text}'''", f"> {one.text}\n", f"```\n{one.text}\n```"):
        assert one.secret not in Redactor().text(text)
    data = {"role": "tool", "content": [{"type": "text", "text": one.text}], "tools": [{"input": {"a": [one.text]}}]}
    assert one.secret not in repr(Redactor().data(data))
    assert one.secret.encode() not in Redactor().data({"raw": b"\xff" + one.text.encode()})["raw"]


def test_the_detectors_that_are_named_exist() -> None:
    if not has_detectors() and not os.environ.get("CI"):
        pytest.skip("needs detect-secrets: pip install 'p8[redact]'")
    assert has_detectors()
    assert len(DETECTORS) >= 15


def test_few_lines_of_code_are_changed() -> None:
    files = [f for root in ("stdlib", "purelib") for f in sorted(Path(sysconfig.get_paths()[root]).rglob("*.py"))]
    random.Random(8).shuffle(files)
    count, changed = 0, []
    for file in files:
        text = file.read_text("utf-8", "replace")
        redactor = Redactor()
        redactor.learn(text)
        before, after = text.split("\n"), redactor.text(text).split("\n")
        count += len(before)
        if len(before) != len(after):
            changed += [f"{file.name}: {len(before)} lines became {len(after)}"] * abs(len(before) - len(after))
        changed += [f"{file.name}: {a} -> {b}" for a, b in zip(before, after, strict=False) if a != b]
        if count >= LINES:
            break
    print(f"{len(changed)} of {count} lines changed", file=sys.stderr)

    assert count >= LINES
    assert len(changed) < count / 1000, changed[:20]


@pytest.mark.parametrize(
    "text",
    [
        "token = get_token(request)",
        'password = os.environ["DB_PASSWORD"]',
        "API_KEY=$OTHER_KEY",
        "export TOKEN=${TOKEN}",
        'api_key: str = ""',
        "secret_key = settings.SECRET_KEY",
        'token_type = "bearer"',
        'password="password"',
        "https://user:password@example.org/",
        "postgres://user:$PASSWORD@host/db",
        "Authorization: Bearer <token>",
        "Authorization: Bearer $TOKEN",
        'headers = {"Authorization": f"Bearer {token}"}',
        "commit 514a1b6b46d1f7d1a5a1f4d9cf5b8c2e0a9b7c6d",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "id = '550e8400-e29b-41d4-a716-446655440000'",
        "the key is under the mat",
        "use --token TOKEN to log in",
        "tokens_out: 1234567890",
        "session 20261121-093000-123456-ab12",
        "class SecretKeyDetector(KeywordDetector):",
        "integrity sha512-z5mXK0m8/1wYBQm1nkh1ld0GYzqUUJuS+yZdMzZ3uYc7p2bC0GgJ7FZf8VYIu3a1Pqmd5ZgAQ0oDqz9fuUo4pQ==",
        "image: data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "curl -u $USER:$PASS https://example.org",
        "PWD=/home/me/project",
    ],
)
def test_leaves_what_is_no_secret(text: str) -> None:
    assert Redactor().text(text) == text


def test_the_same_secret_has_the_same_number() -> None:
    one, two = SHAPES[5].secret, planted(9)[5].secret
    redactor = Redactor()

    assert redactor.text(f"{one} {two} {one}") == (
        "[redacted: github token 1] [redacted: github token 2] [redacted: github token 1]"
    )
    assert redactor.text(f"again {two}") == "again [redacted: github token 2]"
    assert redactor.found == [Found("github token", 2, 4)]


def test_what_was_learnt_later_is_taken_out_earlier() -> None:
    texts = ["it is Zk81bQp3xT, see below", 'password = "Zk81bQp3xT"']
    redactor = Redactor()
    for text in texts:
        redactor.learn(text)

    assert redactor.found == []
    assert redactor.text(texts[0]) == "it is [redacted: secret 1], see below"
    assert redactor.found == [Found("secret", 1, 1)]


def test_known_values_are_taken_out_by_name() -> None:
    redactor = Redactor({"correct horse battery": "VAULT_PASSWORD", "short": "NO", "/usr/bin/key": "SSH_KEY"})

    assert redactor.text("say correct horse battery now") == "say [redacted: VAULT_PASSWORD 1] now"
    assert redactor.text("short /usr/bin/key") == "short /usr/bin/key"


@pytest.mark.parametrize("name", ["api_key", "clientSecret", "DB_PASSWORD", "x-auth-token", "GITHUB_TOKEN"])
def test_a_field_that_is_named_a_secret_is_one(name: str) -> None:
    assert Redactor().data({"args": {name: "q8Xv2LmP0r"}}) == {"args": {name: "[redacted: secret 1]"}}


@pytest.mark.parametrize("name", ["tokens", "key_count", "token", "password"])
@pytest.mark.parametrize("value", [17, None, "the", "", " a few words ", "******", True])
def test_a_field_without_a_secret_stays(name: str, value: object) -> None:
    assert Redactor().data({name: value}) == {name: value}


def test_a_secret_cut_by_colours_and_invisible_letters_is_found() -> None:
    secret = "ghp_" + "a1B2" * 9
    for cut in ("\x1b[31m", "\u200b", "\x1b]8;;x\x1b\\", "\u00ad"):
        out = Redactor().text(f"a {secret[:9]}{cut}{secret[9:]} b")
        assert out == "a [redacted: github token 1] b"
    assert Redactor().text("ghp\\_" + secret[4:]) == "[redacted: github token 1]"


def test_colours_stay_where_nothing_is_hidden() -> None:
    assert Redactor().text("\x1b[1mbold\x1b[0m and a\\_b") == "\x1b[1mbold\x1b[0m and a\\_b"


def test_paths_are_made_relative() -> None:
    redactor = Redactor(places={"/home/ann/work/demo": "", "/home/ann": "~"})

    assert redactor.text("/home/ann/work/demo/src/a.py:3") == "src/a.py:3"
    assert redactor.text("cd /home/ann/work/demo && ls") == "cd . && ls"
    assert redactor.text("/home/ann/work/demo2/x /home/anna/y") == "~/work/demo2/x /home/anna/y"
    assert redactor.text("file:///home/ann/x '/home/ann'") == "file://~/x '~'"
    assert redactor.text("/mnt/home/ann/x") == "/mnt/home/ann/x"
    assert redactor.text("/srv/home/ann") == "/srv/home/ann"
    assert redactor.found == []


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text("=:'\"/@-_. \n\\[]{}$sktokenpassword:AKIA0123ghp_BEGINPRIVATE", max_size=300))
def test_any_text_is_redacted_once_and_for_all(text: str) -> None:
    once = Redactor().text(text)
    assert Redactor().text(once) == once


@pytest.mark.parametrize("unit", ["a", "password=", "-----BEGIN PRIVATE KEY-----\n", "eyJa.", "://a:", "A" * 64 + "\n"])
def test_long_repetitions_take_no_time(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    Redactor().text(text)


def test_every_rule_has_hints_that_its_pattern_needs() -> None:
    assert all(rule.hints and all(hint == hint.lower() for hint in rule.hints) for rule in RULES)
