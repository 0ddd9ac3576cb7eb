"""Configuration of instances: what can be said, how it is laid over each other, and at which line it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from p8.containers import quantities, templates
from p8.containers.settings import HealthRules, Resources, Settings, read_defaults, read_settings, tree
from p8.containers.yamlfile import Document
from p8.errors import ConfigError, NotFound
from support.document_two import EXAMPLE


def read(text: str, base: Settings | None = None) -> Settings:
    return read_settings(Document("x.yml", text), base or Settings())


def test_the_documents_example_is_understood() -> None:
    settings = read(EXAMPLE)

    assert settings.id == "project-a-claude"
    assert settings.resources == Resources(1 << 30, 800 << 20, 950 << 20, 0.5, 0.4, 0.48, 256, 64 << 20)
    assert settings.health == HealthRules()
    assert settings.networking[:2] == (9001, (9000, 9999))
    assert settings.ai_of("claude") == {"model": "claude-3-5-sonnet-20241022", "max_tokens": 4096, "temperature": 0.7}
    assert settings.ai_of("gemini")["max_output_tokens"] == 8192


def test_what_is_written_back_is_read_the_same() -> None:
    from p8.containers.yamlfile import written

    settings = read(EXAMPLE)

    assert read(written(tree(settings))) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resources:\n  memory:\n    limt: 1Gi\n", "line 3: resources.memory.limt: there is no such setting"),
        ("resources:\n  memory:\n    limit: lots\n", "line 3: resources.memory.limit: an amount of memory"),
        ("resources:\n  cpu:\n    limit: 500x\n", "line 3: resources.cpu.limit: processors"),
        ("\n\nhealth:\n  check_interval: soon\n", "line 4: health.check_interval: a time"),
        ("health:\n  max_retries: 0\n", "line 2: health.max_retries: a whole number"),
        ("health:\n  max_retries: yes\n", "line 2: health.max_retries: a whole number"),
        ("networking:\n  port_range: [9999, 9000]\n", "line 2: networking.port_range: the lower port"),
        ("networking:\n  preferred_port: 80\n", "line 2: networking.preferred_port: a port from 1024"),
        ("networking:\n  network: host\n", "line 2: networking.network: none or bridge"),
        ("ai_config:\n  claude:\n    temperature: 3\n", "line 3: ai_config.claude.temperature: a temperature"),
        ("resources:\n  memory:\n    limit: 1Gi\n    warning_threshold: 2Gi\n", "line 2: resources.memory: warning"),
        ("instance: 3\n", "line 1: instance: names with values"),
        ("- a\n- b\n", "line 1: names with values"),
        ("a: 1\na: 2\n", "line 2: a stands there twice"),
        ("resources:\n  memory: [1\n", "line 3: expected"),
        ("environment:\n  'A B': 1\n", "line 2: environment.A B: a variable's name"),
        ('environment:\n  A: "a\\nb"\n', "line 2: environment.A: a text on one line"),
        ("instance:\n  workspace: ../x\n", "line 2: instance.workspace: a path from / on"),
        ("instance:\n  user: root\n", "line 2: instance.user: numbers such as 1000:1000"),
        ("mounts:\n  - source: x\n", "line 1: mounts: mounts are a list of"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text)

    assert said in error.value.message


def test_a_misspelt_name_is_guessed() -> None:
    with pytest.raises(ConfigError) as error:
        read("health:\n  timout: 5s\n")

    assert error.value.hint == "did you mean timeout?"


def test_a_document_that_grows_by_aliases_is_refused() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)
    )

    with pytest.raises(ConfigError, match="too much"):
        read(text)


def test_a_new_limit_keeps_the_thresholds_share() -> None:
    resources = read("resources:\n  memory: 1Gi\n  cpu: 2\n").resources

    assert resources.memory_bytes == 1 << 30
    assert resources.memory_warning == pytest.approx((1 << 30) * 435 / 512, abs=2)
    assert (resources.cpu_warning, resources.cpu_critical) == (1.6, 1.92)


def test_the_documents_defaults_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "default.yml"
    file.write_text(
        'defaults:\n  resources:\n    memory_limit: "1Gi"\n    cpu_limit: "500m"\n  health:\n    check_interval: 30s\n'
        '    timeout: "5s"\n  networking:\n    port_range: [9000, 9999]\n\nglobal:\n  max_instances: 10\n'
        '  auto_cleanup: true\n  log_retention: "7d"\n'
    )
    settings, everywhere = read_defaults(file)

    assert settings.resources.memory_bytes == 1 << 30
    assert everywhere == (10, True, 7 * 86400.0)


# templates

#: document 1's own example
TEMPLATE = """\
name: "Development Environment"
resources:
  memory: "1Gi"
  cpu: "1.0"
  disk: "500Mi"

context:
  auto_index: true
  sync_frequency: "30s"
  backup_enabled: true

tools:
  - node: "18"
  - python: "3.11"
  - docker: "latest"

mounts:
  - type: "project"
    source: "."
    target: "/app"
  - type: "cache"
    source: "~/.npm"
    target: "/root/.npm"
"""


def test_the_documents_template_is_understood(tmp_path: Path) -> None:
    folder = tmp_path / "configs" / "templates"
    folder.mkdir(parents=True)
    (folder / "development.yml").write_text(TEMPLATE)
    settings = templates.apply("development", tmp_path, None, Settings())

    assert (settings.resources.memory_bytes, settings.resources.cpus) == (1 << 30, 1.0)
    assert settings.tools == (("node", "18"), ("python", "3.11"), ("docker", "latest"))
    assert [bind.type for bind in settings.mounts] == ["project", "cache"]
    assert dict(settings.context)["auto_index"] is True


@pytest.mark.parametrize(
    "asked",
    [
        "pass_environment: [AWS_SECRET_ACCESS_KEY]\n",
        "mounts:\n  - {type: bind, source: ~/.ssh, target: /x}\n",
        "mounts:\n  - {type: project, source: ../.., target: /x}\n",
        "instance:\n  protect_git: false\n",
        'instance:\n  user: "0"\n',
    ],
)
def test_a_template_that_comes_with_a_project_gets_nothing_of_the_persons(tmp_path: Path, asked: str) -> None:
    folder = tmp_path / "project" / ".ai-sessions" / "templates"
    folder.mkdir(parents=True)
    (folder / "theirs.yml").write_text(asked)
    with pytest.raises(ConfigError, match="comes with the project"):
        templates.apply("theirs", tmp_path / "home", tmp_path / "project", Settings())


def test_the_persons_own_template_comes_before_the_projects(tmp_path: Path) -> None:
    for folder, memory in (("home/configs/templates", "100Mi"), ("project/.ai-sessions/templates", "200Mi")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dev.yml").write_text(f"resources:\n  memory: {memory}\n")

    assert (
        templates.apply("dev", tmp_path / "home", tmp_path / "project", Settings()).resources.memory_bytes == 100 << 20
    )


@pytest.mark.parametrize("name", ["nope", "../../etc/passwd", "", "a/b"])
def test_an_unknown_template_is_named_with_those_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound) as error:
        templates.apply(name, tmp_path, None, Settings())

    assert "claude" in error.value.hint


# one value in a file


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        ("a:\n  b: 1  # why\n", "a.b", "a:\n  b: 2  # why\n"),
        ("# top\na:\n  c: 1\n", "a.b", "# top\na:\n  b: 2\n  c: 1\n"),
        ("", "a.b", "a:\n  b: 2\n"),
        ("c: 1\n", "a.b.d", "a:\n  b:\n    d: 2\nc: 1\n"),
        ("a: {b: 1, c: 3}\n", "a.b", "a: {b: 2, c: 3}\n"),
        ("a:\n  b: [1, 2]\n", "a.b", "a:\n  b: 2\n"),
        ("a:\n  b:\n  c: 1\n", "a.b", "a:\n  b: 2\n  c: 1\n"),
        ("a:\n  c: 'é'\n  b: 'x'", "a.b", "a:\n  c: 'é'\n  b: 2\n"),
    ],
)
def test_one_value_is_set_and_the_rest_stays(before: str, key: str, after: str) -> None:
    changed = Document("x", before).with_value(tuple(key.split(".")), "2")

    assert changed == after
    found = Document("x", changed).values
    for name in key.split("."):
        found = found[name]
    assert found == 2


def test_a_value_is_not_put_under_a_value() -> None:
    with pytest.raises(ConfigError, match="line 1"):
        Document("x", "a: 1\n").with_value(("a", "b"), "2")
    with pytest.raises(ConfigError, match="has names under it"):
        Document("x", "a:\n  b: 1\n").with_value(("a",), "2")


@pytest.mark.parametrize("amount", [6 << 20, 512 << 20, 1 << 30, 3 << 30])
def test_amounts_are_read_as_they_are_shown(amount: int) -> None:
    assert quantities.memory(quantities.show_memory(amount)) == amount


@pytest.mark.parametrize("seconds", [0.25, 1, 30, 90, 300, 7200, 604800])
def test_times_are_read_as_they_are_shown(seconds: float) -> None:
    assert quantities.duration(quantities.show_duration(seconds)) == seconds
