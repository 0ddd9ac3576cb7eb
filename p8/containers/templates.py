"""Templates: what a mode or a named kind of instance is made of.

Built in, in the home's `configs/templates/`, and in a project's `.ai-sessions/templates/`. One that comes with a
project may be anybody's work: it mounts nothing from outside the project and hands no variable of the person's in.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from p8.containers.settings import Settings, read_settings
from p8.containers.yamlfile import Document
from p8.errors import ConfigError, NotFound

SHELL = ("sh", "-c", "command -v bash >/dev/null && exec bash -l; exec sh -l")


class Mode(NamedTuple):
    """What stands behind a mode's name."""

    variant: str  #: of P8's image
    program: str  #: what `attach` runs, where the image has it
    keys: tuple[str, ...]  #: variables its agent reads; handed in only where `pass_environment` names them


MODES = {
    "shell": Mode("base", "", ()),
    "claude": Mode("agents", "claude", ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")),
    "gemini": Mode("agents", "gemini", ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL")),
    "codex": Mode("agents", "codex", ("OPENAI_API_KEY", "CODEX_CONFIG")),
    "qwen": Mode("agents", "qwen", ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL")),
    "opencode": Mode("agents", "opencode", ("OPENCODE_CONFIG_CONTENT",)),
}


def variant_of(mode: str) -> str:
    """Return which variant of P8's image a mode needs."""
    return MODES[mode].variant if mode in MODES else "base"


def attach_command(mode: str) -> tuple[str, ...]:
    """Return what `attach` runs in a mode: its agent where there is one, else a shell."""
    program = MODES[mode].program if mode in MODES else ""
    if not program:
        return SHELL
    return ("sh", "-c", f"command -v {program} >/dev/null && exec {program}; {SHELL[2]}")


def folders(home: Path, project: Path | None) -> list[tuple[Path, bool]]:
    """Return where templates lie, first found first taken, and whether they are the person's own."""
    own = [(home / "configs" / "templates", True)]
    return [*own, *([(project / ".ai-sessions" / "templates", False)] if project is not None else [])]


def names(home: Path, project: Path | None) -> list[str]:
    """Return the names of all templates that are files."""
    found = {path.stem for folder, _ in folders(home, project) if folder.is_dir() for path in folder.glob("*.yml")}
    return sorted(found)


def apply(name: str, home: Path, project: Path | None, base: Settings) -> Settings:
    """
    Return settings with a template laid over them.

    Raises:
        NotFound: there is no template of that name.
        ConfigError: it cannot be read, or asks for what a project's template may not have.
    """
    if name in MODES:
        return base._replace(template=name)
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise NotFound(f"no template is called {name!r}", f"there are {', '.join([*MODES, *names(home, project)])}")
    for folder, own in folders(home, project):
        path = folder / f"{name}.yml"
        if path.is_file():
            settings = read_settings(Document.read(path), base)._replace(template=name)
            if not own:
                _check_foreign(settings, base, path)
            return settings
    raise NotFound(f"no template is called {name!r}", f"there are {', '.join([*MODES, *names(home, project)])}")


def _check_foreign(settings: Settings, base: Settings, path: Path) -> None:
    asked = ""
    if settings.pass_environment != base.pass_environment:
        asked = "pass_environment"
    elif any(bind.type != "project" or bind.source not in {".", "./"} for bind in settings.mounts):
        asked = "mounts from outside the project"
    elif settings.user != base.user or settings.protect_git != base.protect_git:
        asked = "user or protect_git"
    if asked:
        raise ConfigError(
            f"{path.name} comes with the project and asks for {asked}",
            "read it, and copy it to configs/templates/ in P8's home if you want that",
        )
