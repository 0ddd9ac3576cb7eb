"""Settings: defaults, then `config.toml` in the home, then the environment. The only reader of `os.environ`.

Everything has a default: P8 works on first start with no file at all (row P6).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from p8.errors import ConfigError
from p8.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: environment variable -> setting
ENVIRONMENT = {
    "P8_MODEL": "model", "P8_THEME": "theme", "P8_PLUGINS": "plugins", "P8_CONTAINER": "container",
    "DOCKER_HOST": "engine", "DOCKER_CONTEXT": "engine_context",
}  # fmt: skip
THEMES = ("auto", "dark", "light", "none")


class Config(Record):
    """All settings of one process. Each field's comment is its documentation in `p8 help settings`."""

    home: Path  #: where everything is kept; P8_HOME, else ~/.ai-sessions
    model: str = ""  #: the model to start with; "" means the last one used, else an offer of the local one
    theme: str = "auto"  #: auto, dark, light or none, where `/view theme` says nothing else
    plugins: str = ""  #: names of `p8.commands` entry points to load, comma separated; "all" for every one
    idle_timeout_s: float = 120.0  #: an assistant that sends nothing for so long is given up
    shell: str = "/bin/sh"  #: runs `!command`
    output_limit_bytes: int = 4_194_304  #: of a command's output, so much is recorded
    context_limit_tokens: int = 0  #: conversation sent to a model; 0 means what the model itself takes
    max_projects: int = 1000  #: so many can be created
    project_cleanup: bool = False  #: whether projects unused for long go to the trash by themselves
    project_cleanup_after_days: int = 30  #: unused for so many days they are marked; deleted a day later
    project_cleanup_warning_days: int = 3  #: so many days before, and daily, it is said
    project_cleanup_every_s: float = 86400.0  #: how often it is looked
    memory_snapshot_s: float = 300.0  #: how often hot memories are written down
    color: bool = True  #: false with NO_COLOR or TERM=dumb
    snapshots: bool = True  #: keep the project's files around each command and agent that may change them
    snapshot_file_mb: int = 50  #: a larger file is left out of checkpoints, and named
    snapshot_quota_mb: int = 5120  #: of a project's kept files; beyond it `p8 checkpoint prune` has something to do
    container: str = "auto"  #: a container under each session: auto (where an engine and an image are), always, never
    container_image: str = ""  #: for sessions and instances; "" means P8's own, made by `p8 image build`
    container_network: str = "none"  #: of a session's container: none, or bridge for agents that reach their provider
    container_memory: str = "1Gi"  #: of a session's container at most
    container_cpus: str = "1.5"  #: processors of a session's container at most
    container_sync: str = "auto"  #: auto (projects are synchronised with engines on tcp and ssh), bind, sync
    container_sync_ignore: str = ""  #: patterns that are left out of it, comma separated, beside .git and the like
    engine: str = ""  #: address of the container engine; DOCKER_HOST, else what the docker program uses
    engine_context: str = ""  #: docker's context; DOCKER_CONTEXT
    engine_certificates: str = ""  #: folder of ca.pem, cert.pem and key.pem; DOCKER_CERT_PATH with DOCKER_TLS_VERIFY
    trash_expire_days: int = 0  #: sessions and projects so long in the trash are purged, listed a day before; 0: never
    user_shell_history: int = 1000  #: lines of earlier sessions that Up and Ctrl-R reach in a new one
    permissions: str = "ask"  #: what an agent that wants to do something is answered: ask (the person), allow, refuse
    agents_in: str = "auto"  #: agents run in: auto (the session's container where it has them), container, host
    agents: dict[str, Any] = {}  # noqa: RUF012 #: `[agents.NAME]`: command, env, pass, auth

    @property
    def sync_ignored(self) -> tuple[str, ...]:
        """Return the patterns of `container_sync_ignore`."""
        return tuple(filter(None, map(str.strip, self.container_sync_ignore.split(","))))


def load_config(environ: Mapping[str, str] | None = None, home: Path | None = None) -> Config:
    """
    Build the settings.

    Args:
        environ: environment to read; the process's own where none is given.
        home: overrides P8_HOME.

    Raises:
        ConfigError: `config.toml` is not TOML, or names a setting that does not exist or has another type; or there is
            no such theme.
    """
    env = os.environ if environ is None else environ
    where = home or Path(env.get("P8_HOME") or Path(env.get("HOME") or "~").expanduser() / ".ai-sessions")
    config = Config(home=where.expanduser().absolute())
    file = config.home / "config.toml"
    if file.exists():
        config = config._replace(**_read(file))
    named: dict[str, Any] = {setting: env[variable] for variable, setting in ENVIRONMENT.items() if env.get(variable)}
    if env.get("DOCKER_TLS_VERIFY") and env.get("DOCKER_CERT_PATH"):
        named["engine_certificates"] = env["DOCKER_CERT_PATH"]
    if named.get("theme", config.theme) not in THEMES:
        where_said = "P8_THEME" if "theme" in named else file
        raise ConfigError(f"{where_said}: theme cannot be {named.get('theme', config.theme)!r}", " or ".join(THEMES))
    plain = bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
    return config._replace(**named, color=config.color and not plain)


def inherited(names: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    Return those variables of the environment that are named; `LC_*` stands for all that begin so.

    Args:
        names: exact names, or beginnings with a * behind.
        environ: environment to read; the process's own where none is given.
    """
    env = os.environ if environ is None else environ
    starts = tuple(name[:-1] for name in names if name.endswith("*"))
    return {key: value for key, value in env.items() if key in names or (starts and key.startswith(starts))}


def secrets_in(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return values of the environment that are secrets by their names, each with its name: taken out of exports."""
    env = os.environ if environ is None else environ
    ends = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIALS")
    return {value: name for name, value in env.items() if name.upper().endswith(ends) and len(value) >= 8}


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file}: {error}", "correct the file or move it away") from error
    known = set(Config._fields)
    for name in [name for name, value in values.items() if isinstance(value, dict) and name not in known]:
        values |= {f"{name}_{key}": value for key, value in values.pop(name).items()}  # trash.expire_days
    defaults = Config(home=Path())
    for name, value in values.items():
        if name not in known or name == "home":
            raise ConfigError(f"{file}: no setting is called {name!r}", f"settings: {', '.join(sorted(known))}")
        wanted = type(getattr(defaults, name))
        if wanted is float and type(value) is int:
            values[name] = float(value)
        elif type(value) is not wanted:
            raise ConfigError(f"{file}: {name} must be a {wanted.__name__}, not {value!r}")
    return values
