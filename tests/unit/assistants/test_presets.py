from __future__ import annotations

import json
from pathlib import Path

import pytest

from p8.assistants.agents import PRESETS, Agents, Place, Places
from p8.assistants.catalog import Catalog
from p8.config import inherited, load_config
from p8.errors import AssistantError, ConfigError, NotFound
from p8.testing import make_app


@pytest.fixture
def bin_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with nothing in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, package: str = "", version: str = "") -> Path:
    """Put a program there as npm does: a link to a file in its package."""
    home = folder / "lib" / name
    (home / "dist").mkdir(parents=True)
    if package:
        (home / "package.json").write_text(json.dumps({"name": package, "version": version}))
    script = home / "dist" / "index.js"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (folder / name).symlink_to(script)
    return folder / name


def agents(settings: dict | None = None, places: Places | None = None, unasked: bool = False) -> Agents:
    return Agents(settings or {}, lambda: Path("/project"), places, unasked)


class Box:
    """A container that has every program."""

    def now(self, program: str) -> Place | None:
        return Place(("docker", "exec", "-i", "box"), "/workspace", "container box")

    settled = now

    def prepare(self, program: str) -> None:
        raise AssertionError


def test_each_preset_names_a_package_and_one_exact_version() -> None:
    for preset in PRESETS:
        assert preset.package
        assert preset.version.count(".") == 2
        assert preset.install == f"npm install -g {preset.package}@{preset.version}"


def test_the_version_installed_is_read_from_its_package(bin_: Path) -> None:
    known = agents()
    codex = known.get("codex")
    assert known.version(codex) == ""
    program(bin_, "codex-acp", codex.package, "9.9.9")
    program(bin_, "qwen")

    assert known.version(codex) == "9.9.9"
    assert known.version(known.get("qwen")) == ""


def test_one_that_is_not_installed_says_how_to_install_it(bin_: Path) -> None:
    with pytest.raises(AssistantError, match="codex is not installed: there is no program codex-acp") as caught:
        agents().launch("codex")

    assert caught.value.hint == agents().get("codex").install
    assert {info.name: info.ready for info in agents().infos()}["codex"] is False


def test_no_key_reaches_an_agent_that_is_not_named(bin_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bin_, "codex-acp")
    for name in ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DOCKER_HOST", "P8_HOME", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "secret-value")
    monkeypatch.setenv("LC_TIME", "C")
    plain = agents().launch("codex")
    named = agents({"codex": {"pass": ["OPENAI_API_KEY"], "env": {"X": "1"}}}).launch("codex")

    assert "secret-value" not in plain.env.values()
    assert plain.env["LC_TIME"] == "C"
    assert plain.secrets == ()
    assert {k for k, v in named.env.items() if v == "secret-value"} == {"OPENAI_API_KEY"}
    assert named.env["X"] == "1"
    assert named.secrets == ("secret-value",)
    assert "secret-value" not in repr(named)
    assert plain.argv == (str(bin_ / "codex-acp"),)
    assert plain.cwd == "/project"


def test_in_a_container_it_gets_what_is_named_and_what_the_container_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-value")
    monkeypatch.setenv("DOCKER_HOST", "unix:///x")
    known = agents({"codex": {"pass": ["OPENAI_API_KEY"]}}, Box())
    launch = known.launch("codex")

    assert launch.argv == (
        "docker", "exec", "-i", "-e", "INITIAL_AGENT_MODE", "-e", "CODEX_CONFIG", "-e", "OPENAI_API_KEY", "box",
        "codex-acp",
    )  # fmt: skip
    assert launch.env["DOCKER_HOST"] == "unix:///x"
    assert launch.env["INITIAL_AGENT_MODE"] == "read-only"
    assert launch.note == "codex works in container box."
    assert (launch.cwd, launch.outside) == ("/workspace", True)
    assert all(info.ready for info in known.infos())


def test_in_a_container_codex_asks_unless_the_settings_allow_or_say_otherwise() -> None:
    given = {"INITIAL_AGENT_MODE": "workspace-write", "CODEX_CONFIG": '{"model": "m"}'}
    own = {"codex": {"env": given}}
    config = json.loads(agents(own, Box()).launch("codex").env["CODEX_CONFIG"])

    assert agents({}, Box(), unasked=True).launch("codex").env["INITIAL_AGENT_MODE"] == "agent-full-access"
    assert agents(own, Box()).launch("codex").env["INITIAL_AGENT_MODE"] == "workspace-write"
    assert config["model"] == "m"
    assert "require_escalated" in config["developer_instructions"]
    assert "CODEX_CONFIG" not in agents().get("codex").env


def test_an_agent_of_ones_own_needs_a_command_only() -> None:
    known = agents({"mine": {"command": ["sh", "-c", "true"], "auth": "a-key"}})

    assert known.names()[-1] == "mine"
    assert known.launch("mine").argv[1:] == ("-c", "true")
    assert known.open("mine").name == "mine"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"mine": {}}, "has no command"),
        ({"mine": 5}, "must be a table"),
        ({"mine": {"command": "goose acp"}}, "command must be a list of texts, not 'goose acp'"),
        ({"mine": {"command": ["x"], "env": {"A": 1}}}, "env must be a table of texts"),
        ({"mine": {"command": ["x"], "keys": ["A"]}}, "no setting is called 'keys'"),
    ],
)
def test_settings_that_make_no_sense_are_named_and_cost_only_their_agent(settings: dict, wanted: str) -> None:
    known = agents(settings)
    with pytest.raises(ConfigError, match=wanted):
        known.open("mine")

    assert [info.ready for info in known.infos() if info.name == "mine"] == [False]


def test_one_that_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="claude, codex, gemini"):
        agents().open("nobody")


def test_the_catalog_offers_agents_beside_models(home: Path) -> None:
    catalog = Catalog(home, agents={"mine": {"command": ["sh"]}})

    assert {m.name for m in catalog.models() if m.provider == "acp"} >= {"claude", "mine"}
    assert catalog.open("mine").name == "mine"


def test_settings_hold_agents_as_tables(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[agents.mine]\ncommand = ["x"]\n[agents.mine.env]\nA = "b"\n')

    assert load_config({}, home).agents == {"mine": {"command": ["x"], "env": {"A": "b"}}}


def test_the_environment_is_given_by_exact_names_and_beginnings() -> None:
    env = {"LC_ALL": "C", "LC": "x", "PATH": "/bin", "PATHS": "no"}

    assert inherited(("LC_*", "PATH", "ABSENT"), env) == {"LC_ALL": "C", "PATH": "/bin"}


def test_settings_are_shown_without_what_agents_are_given(home: Path, tmp_path: Path) -> None:
    app = make_app(home, tmp_path, agents={"mine": {"command": ["x"], "env": {"A_KEY": "sk-secret"}}})
    found, _ = app.registry.find(["settings"], "repl")
    result = found.run(app, found.parse([]))
    app.close()

    assert result.data["agents"] == "mine"
    assert "sk-secret" not in str(result)
