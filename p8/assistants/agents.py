"""Which agents P8 knows, and how each is started: presets with pinned versions, changed and added to by settings.

    [agents.codex]
    pass = ["OPENAI_API_KEY"]           # variables of P8's own environment that the agent gets
    env = { CODEX_CONFIG = "…" }        # further ones
    [agents.mine]
    command = ["goose", "acp"]

An agent gets a small, named part of the environment: no key reaches it that is not named here.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from p8.assistants.acp import AcpAgent
from p8.assistants.base import ModelInfo
from p8.assistants.wire import Launch
from p8.config import inherited
from p8.errors import AssistantError, ConfigError, NotFound

#: what every program needs to work, and nothing that grants access to anything
ENVIRONMENT = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TERM", "COLORTERM", "TMPDIR", "TZ",
    "XDG_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "VIRTUAL_ENV", "JAVA_HOME", "GOPATH", "NVM_DIR",
)  # fmt: skip
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
ENGINE = ("DOCKER_*", "CONTAINER_HOST")  #: what the command that reaches into a container needs
#: what Codex is told in a container
UNBOXED = (
    "You run in a container, where the sandbox for commands does not work: run each command with sandbox_permissions "
    '"require_escalated" and a justification, so that the user is asked; without, it fails with a message of bwrap.'
)
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
#: setting -> its type, and how that is called
SETTINGS: dict[str, tuple[type, str]] = {
    "command": (list, "a list of texts"), "env": (dict, "a table of texts"), "pass": (list, "a list of texts"),
    "auth": (str, "a text"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preset:
    """One agent: what it is and how it is started."""

    name: str
    title: str
    command: tuple[str, ...]
    package: str = ""  #: of npm
    version: str = ""  #: the one P8 names, so that nothing changes under it
    auth: str = ""  #: the protocol's sign-in method that takes a key from the environment
    keys: tuple[str, ...] = ()  #: variables in which it takes a key; passed on only where the settings name them
    sign_in: str = ""  #: how the person signs in without a key
    sandbox: Mapping[str, str] = field(default_factory=dict)  #: variables for a container, which is the sandbox then
    unasked: Mapping[str, str] = field(default_factory=dict)  #: further ones where it may do what it wants in there
    env: Mapping[str, str] = field(default_factory=dict)
    passed: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """Return the command that installs it, or nothing where that is not known."""
        return f"npm install -g {self.package}@{self.version}" if self.package else ""


PRESETS = (
    Preset(
        "claude", "Claude Code", ("claude-agent-acp",), "@agentclientprotocol/claude-agent-acp", "0.100.0",
        keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        sign_in="run `claude` once and /login there, or name ANTHROPIC_API_KEY under pass in [agents.claude]",
        sandbox={"IS_SANDBOX": "1"},
    ),
    Preset(
        "codex", "Codex", ("codex-acp",), "@agentclientprotocol/codex-acp", "2.6.0", "api-key",
        keys=("OPENAI_API_KEY", "CODEX_API_KEY"),
        sign_in="run `codex login` once, or name OPENAI_API_KEY under pass in [agents.codex]",
        # In this mode it asks before each edit; in its usual one it would edit unasked. Its own sandbox needs user
        # namespaces, which a hardened container has none of: a command fails unless it asks to go without.
        sandbox={"INITIAL_AGENT_MODE": "read-only", "CODEX_CONFIG": json.dumps({"developer_instructions": UNBOXED})},
        unasked={"INITIAL_AGENT_MODE": "agent-full-access"},
    ),
    Preset(
        "gemini", "Gemini CLI", ("gemini", "--acp"), "@google/gemini-cli", "0.61.0", "gemini-api-key",
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        sign_in="run `gemini` once and sign in, or name GEMINI_API_KEY under pass in [agents.gemini]",
    ),
    Preset(
        "qwen", "Qwen Code", ("qwen", "--acp"), "@qwen-code/qwen-code", "0.24.4", "openai",
        keys=("OPENAI_API_KEY",),
        sign_in="run `qwen` once and sign in, or name OPENAI_API_KEY under pass in [agents.qwen]",
    ),
    Preset(
        "opencode", "OpenCode", ("opencode", "acp"), "opencode-ai", "1.18.33",
        sign_in="run `opencode auth login` once",
    ),
)  # fmt: skip


class Place(NamedTuple):
    """A container that an agent runs in."""

    prefix: tuple[str, ...]  #: runs further words in it, and ends with the container's name or id
    cwd: str  #: the project's path there
    about: str = ""  #: what the person is told of it: its name, whether it has a network


class Places(Protocol):
    """Says where an agent runs, by its program: None for the host."""

    def now(self, program: str) -> Place | None:
        """Return where it would run as things stand; waits for nothing."""
        ...

    def settled(self, program: str) -> Place | None:
        """Return where it is to be started; makes that ready. Raises AssistantError where it may not be started."""
        ...

    def prepare(self, program: str) -> None:
        """Begin to make that ready; returns at once."""
        ...


class OnHost:
    """All agents run on the host."""

    def now(self, program: str) -> Place | None:
        """Return None."""

    def settled(self, program: str) -> Place | None:
        """Return None."""

    def prepare(self, program: str) -> None:
        """Nothing is to be made ready."""


class Agents:
    """
    The agents of one P8.

    Args:
        settings: `Config.agents`.
        directory: says where the person stands; the agent works there.
        places: says where they run; on the host where none is given.
        unasked: whether they may do what they want.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Callable[[], Path],
        places: Places | None = None,
        unasked: bool = False,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._places = places or OnHost()
        self._unasked = unasked

    def names(self) -> list[str]:
        """Return the presets' names, then the person's own."""
        known = [preset.name for preset in PRESETS]
        return [*known, *(name for name in self._settings if name not in known)]

    def get(self, name: str) -> Preset:
        """
        Return an agent, the person's settings applied.

        Raises:
            NotFound: there is none of that name.
            ConfigError: its settings make no sense.
        """
        preset = next((p for p in PRESETS if p.name == name), None)
        if name not in self._settings:
            if preset is None:
                raise NotFound(f"no agent is called {name!r}", f"there are {', '.join(self.names())}")
            return preset
        given = _checked(name, self._settings[name])
        if preset is None and not given.get("command"):
            raise ConfigError(f"[agents.{name}] has no command", 'command = ["program", "word"]')
        preset = preset or Preset(name, name, ())
        if given.get("command"):
            preset = replace(preset, command=tuple(given["command"]))
        return replace(
            preset, env=given.get("env", {}), passed=tuple(given.get("pass", ())), auth=given.get("auth", preset.auth)
        )

    def place(self, preset: Preset) -> Place | None:
        """Return the container in which it would run as things stand; None for the host."""
        return self._places.now(preset.command[0])

    def prepare(self, preset: Preset) -> None:
        """Begin to make ready where it will run; returns at once."""
        self._places.prepare(preset.command[0])

    def program(self, preset: Preset) -> str:
        """Return the path of an agent's program on the host, or nothing where it is not installed."""
        return shutil.which(preset.command[0], path=inherited(("PATH",)).get("PATH")) or ""

    def version(self, preset: Preset) -> str:
        """Return the version installed on the host, read from its package, or nothing where it cannot be told."""
        program = self.program(preset)
        for folder in Path(program).resolve().parents if program and preset.package else ():
            try:
                about = json.loads((folder / "package.json").read_text("utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(about, dict) and about.get("name") == preset.package:
                return str(about.get("version", ""))[:40]
        return ""

    def infos(self) -> list[ModelInfo]:
        """Return the agents as what one can switch to; ready where the program is there."""
        found = []
        for name in self.names():
            try:
                preset = self.get(name)
            except ConfigError as error:
                found.append(ModelInfo(name, "acp", name, False, error.message))
                continue
            ready = bool(self.program(preset) or self.place(preset))
            note = "" if ready else f"not installed: {preset.install or preset.command[0]}"
            found.append(ModelInfo(name, "acp", f"{preset.title} (agent)", ready, note))
        return found

    def launch(self, name: str) -> Launch:
        """
        Return how an agent is started now.

        Raises:
            AssistantError: it is not installed, or may not run here.
        """
        preset = self.get(name)
        own = {**inherited(preset.passed), **preset.env}
        place = self._places.settled(preset.command[0])
        sandbox = {**preset.sandbox, **(preset.unasked if self._unasked else {})}
        inner = own if place is None else {**sandbox, **{k: merged(sandbox.get(k, ""), v) for k, v in own.items()}}
        env = {**inherited((*ENVIRONMENT, *PROXIES, *(ENGINE if place else ()))), **inner}
        secrets = tuple(v for k, v in own.items() if SECRET.search(k) and len(v) >= 6)
        launch = Launch(preset.command, env, str(self._directory()), secrets=secrets)
        if place is not None:
            note = f"{name} works in {place.about}." if place.about else ""
            return replace(launch.inside(place.prefix, place.cwd, tuple(inner)), note=note)
        program = self.program(preset)
        if not program:
            hint = preset.install or f"command in [agents.{name}] of the settings says what is started"
            raise AssistantError(f"{name} is not installed: there is no program {preset.command[0]}", hint)
        return replace(launch, argv=(program, *preset.command[1:]))

    def open(self, name: str) -> AcpAgent:
        """
        Return an agent; it is started with its first answer.

        Raises:
            NotFound: there is none of that name.
            ConfigError: its settings make no sense.
        """
        preset = self.get(name)
        return AcpAgent(name, lambda: self.launch(name), auth=preset.auth, sign_in=preset.sign_in)


def merged(default: str, given: str) -> str:
    """Return `given`; where both are JSON objects, with what `default` has beyond it, one level deep, too."""
    try:
        below, above = json.loads(default), json.loads(given)
    except ValueError:
        return given
    if not isinstance(below, dict) or not isinstance(above, dict):
        return given
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        below[key] = {**below[key], **value} if both else value
    return json.dumps(below)


def _checked(name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"agents.{name} must be a table", f"[agents.{name}]")
    for key, value in given.items():
        if key not in SETTINGS:
            raise ConfigError(f"[agents.{name}]: no setting is called {key!r}", f"settings: {', '.join(SETTINGS)}")
        values = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        kind, called = SETTINGS[key]
        if type(value) is not kind or not all(isinstance(one, str) for one in values):
            raise ConfigError(f"[agents.{name}]: {key} must be {called}, not {value!r}")
    return given
