"""What the files say that describe a project: package.json, pyproject.toml, go.mod, Cargo.toml, pom.xml, Dockerfiles.

Each reader takes a text and returns `Facts`; none runs anything, follows a reference or fails: what cannot be read
becomes `problem`. Refuses: values of variables, credentials in addresses, documents with entities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

MOST = 2000  #: dependencies of one file that are kept
MOST_TEXT = 200
Yaml = Callable[[str, str], Mapping[str, Any]]  #: (name, text) -> values; raises any exception where it is none


@dataclass(slots=True)
class Facts:
    """What one file says. Versions are as written, "" where none is asked for."""

    type: str  #: of project: "node", "python", …; "" for a file that says nothing of it
    name: str = ""
    version: str = ""
    description: str = ""
    needs: dict[str, str] = field(default_factory=dict)  #: runtimes: "python" -> ">=3.11"
    dependencies: list[tuple[str, str, str]] = field(default_factory=list)  #: name, version, group ("", "dev" …)
    scripts: list[tuple[str, str]] = field(default_factory=list)  #: name, what it runs
    parts: list[str] = field(default_factory=list)  #: members of a workspace, modules, services
    settings: list[tuple[str, str]] = field(default_factory=list)  #: anything else worth knowing
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without what is empty."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}


def read(name: str, text: str, yaml: Yaml) -> Facts | None:
    """
    Return what a file says; None for one that is not known.

    Args:
        name: of the file, without folders.
        text: of the file.
        yaml: reads YAML.
    """
    found = _reader(name)
    if found is None:
        return None
    kind, reader = found
    facts = Facts(kind)
    try:
        reader(facts, text, yaml)
    except RecursionError:
        facts.problem = "nested too deep"
    except Exception as error:
        facts.problem = harmless(f"{type(error).__name__}: {error}")
    facts.dependencies = sorted(set(facts.dependencies), key=lambda d: (d[2], d[0]))[:MOST]
    facts.scripts, facts.parts, facts.settings = facts.scripts[:MOST], facts.parts[:MOST], facts.settings[:MOST]
    return facts


def is_known(name: str) -> bool:
    """Return whether a file of this name can be read."""
    return _reader(name) is not None


def _reader(name: str) -> tuple[str, Callable[[Facts, str, Yaml], None]] | None:
    found = NAMES.get(name)
    if found is not None:
        return found
    return next((entry for pattern, entry in PATTERNS if fnmatchcase(name, pattern)), None)


def harmless(value: Any) -> str:
    """Return a value as one short line, without credentials in addresses and without what a terminal acts on."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if len(text) <= MOST_TEXT and "://" not in text and "  " not in text and text.isprintable():
        return text.strip()
    text = "".join(c if c.isprintable() else " " for c in text[: MOST_TEXT * 4])
    text = re.sub(r"(\w\+?://)[^/\s@]*@", r"\1", " ".join(text.split()))
    text = re.sub(r"(://[^\s?#]*)\?[^\s#]*", r"\1", text)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _words(value: Any) -> list[str]:
    return [harmless(v) for v in _list(value) if isinstance(v, str)]


def _about(facts: Facts, data: Mapping[str, Any]) -> None:
    for name in ("name", "version", "description"):
        if isinstance(data.get(name), str):
            setattr(facts, name, harmless(data[name]))


def _depend(facts: Facts, table: Any, group: str = "") -> None:
    """Take in dependencies written as names with versions, or with tables that hold one."""
    keys = ("version", "git", "path", "url", "workspace", "sdk")
    for name, asked in _table(table).items():
        how = next((asked[k] for k in keys if k in asked), "") if isinstance(asked, Mapping) else asked
        facts.dependencies.append((harmless(name), "workspace" if how is True else harmless(how), group))


# JavaScript


def _package_json(facts: Facts, text: str, _yaml: Yaml) -> None:
    data = _table(json.loads(text))
    _about(facts, data)
    facts.needs = {harmless(k): harmless(v) for k, v in _table(data.get("engines")).items()}
    for key, group in (
        ("dependencies", ""), ("devDependencies", "dev"), ("peerDependencies", "peer"),
        ("optionalDependencies", "optional"),
    ):  # fmt: skip
        _depend(facts, data.get(key), group)
    facts.scripts = [(harmless(k), harmless(v)) for k, v in _table(data.get("scripts")).items()]
    spaces = data.get("workspaces")
    facts.parts = _words(spaces if isinstance(spaces, list) else _table(spaces).get("packages"))
    facts.settings = [(k, harmless(data[k])) for k in ("packageManager", "type", "main", "module") if k in data]


# Python

_REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(\[[^\]]*\])?\s*(.*)")


def _requirement(line: str) -> tuple[str, str] | None:
    found = _REQUIREMENT.match(line.partition(" #")[0].partition(" --")[0].strip())
    if found is None:
        return None
    name, extras, rest = found.groups()
    return harmless(name + (extras or "")), harmless(rest.partition(";")[0].strip().strip("()"))


def _require(facts: Facts, lines: Iterable[Any], group: str = "") -> None:
    for line in lines:
        if isinstance(line, str) and (found := _requirement(line)) is not None:
            facts.dependencies.append((*found, group))


def _requirements(facts: Facts, text: str, _yaml: Yaml) -> None:
    lines = text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines()
    for line in (one.strip() for one in lines):
        option, _, value = line.partition(" ")
        if option in {"-r", "-c", "--requirement", "--constraint"}:
            facts.parts.append(harmless(value))
        elif option in {"-e", "--editable"} or "://" in option:
            address = value if option.startswith("-") else line
            name = re.search(r"[#&]egg=([\w.-]+)", address)
            facts.dependencies.append((name.group(1) if name else harmless(address), harmless(address), ""))
        elif line and line[0] not in "#-":
            _require(facts, [line])


def _pyproject(facts: Facts, text: str, _yaml: Yaml) -> None:
    import tomllib

    data = tomllib.loads(text)
    project, tools = _table(data.get("project")), _table(data.get("tool"))
    poetry = _table(tools.get("poetry"))
    _about(facts, {**poetry, **project})
    if "requires-python" in project:
        facts.needs["python"] = harmless(project["requires-python"])
    _require(facts, _list(project.get("dependencies")))
    for table in (project.get("optional-dependencies"), data.get("dependency-groups")):
        for group, lines in _table(table).items():
            _require(facts, _list(lines), harmless(group))
    groups = {name: _table(group).get("dependencies") for name, group in _table(poetry.get("group")).items()}
    for group, table in {"": poetry.get("dependencies"), "dev": poetry.get("dev-dependencies"), **groups}.items():
        wanted = dict(_table(table))
        if "python" in wanted:
            facts.needs.setdefault("python", harmless(wanted.pop("python")))
        _depend(facts, wanted, harmless(group))
    for table in (project.get("scripts"), poetry.get("scripts")):
        facts.scripts += [(harmless(k), harmless(v)) for k, v in _table(table).items()]
    backend = _table(data.get("build-system")).get("build-backend")
    facts.settings = [("build", harmless(backend))] if backend else []
    facts.settings += [("tool", harmless(name)) for name in tools if name != "poetry"]


def _pipfile(facts: Facts, text: str, _yaml: Yaml) -> None:
    import tomllib

    data = tomllib.loads(text)
    _depend(facts, data.get("packages"))
    _depend(facts, data.get("dev-packages"), "dev")
    version = _table(data.get("requires")).get("python_version")
    facts.needs = {"python": harmless(version)} if version else {}


def _setup_cfg(facts: Facts, text: str, _yaml: Yaml) -> None:
    import configparser

    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    if parser.has_section("metadata"):
        _about(facts, dict(parser["metadata"]))
    if parser.has_section("options"):
        options = parser["options"]
        _require(facts, options.get("install_requires", "").splitlines())
        if "python_requires" in options:
            facts.needs["python"] = harmless(options["python_requires"])
    if parser.has_section("options.extras_require"):
        for group, lines in parser["options.extras_require"].items():
            _require(facts, lines.splitlines(), harmless(group))
    elif not parser.has_section("metadata"):
        facts.type = ""  # settings of tools only


def _environment(facts: Facts, text: str, yaml: Yaml) -> None:
    data = yaml("environment.yml", text)
    _about(facts, data)
    for one in _list(data.get("dependencies")):
        lines = _list(_table(one).get("pip")) if isinstance(one, Mapping) else [one]
        _require(facts, lines, "pip" if isinstance(one, Mapping) else "")


# Go, Rust

_GO_REQUIRE = re.compile(r"(\S+)\s+(v\S+)(.*)")


def _go_mod(facts: Facts, text: str, _yaml: Yaml) -> None:
    block = ""
    for line in (one.strip() for one in text.splitlines()):
        word, _, rest = line.partition(" ")
        if block and line.startswith(")"):
            block = ""
        elif word in {"module", "go", "toolchain"} and not block:
            value = harmless(rest.partition("//")[0].strip().strip('"'))
            if word == "module":
                facts.name = value
            else:
                facts.needs[word] = value
        elif rest.strip() == "(":
            block = word
        elif block == "require" or word == "require":
            found = _GO_REQUIRE.match(line if block else rest.strip())
            if found:
                group = "indirect" if "// indirect" in found.group(3) else ""
                facts.dependencies.append((harmless(found.group(1)), harmless(found.group(2)), group))
        elif block == "use" or word == "use":  # go.work
            facts.parts.append(harmless(line if block else rest))


def _cargo(facts: Facts, text: str, _yaml: Yaml) -> None:
    import tomllib

    data = tomllib.loads(text)
    package, space = _table(data.get("package")), _table(data.get("workspace"))
    _about(facts, package)
    for key, name in (("rust-version", "rust"), ("edition", "edition")):
        if isinstance(package.get(key), str):
            facts.needs[name] = harmless(package[key])
    for table in (data, *map(_table, _table(data.get("target")).values())):
        for key, group in (("dependencies", ""), ("dev-dependencies", "dev"), ("build-dependencies", "build")):
            _depend(facts, table.get(key), group)
    _depend(facts, space.get("dependencies"), "workspace")
    facts.parts = _words(space.get("members"))
    facts.settings = [("feature", harmless(name)) for name in _table(data.get("features"))]


# Java and its like, .NET


def _xml(text: str) -> Any:
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise ValueError("it declares entities, which are not read")
    from xml.etree import ElementTree as ET

    top = ET.fromstring(text)  # noqa: S314 nothing is declared in it
    for element in top.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return top


def _pom(facts: Facts, text: str, _yaml: Yaml) -> None:
    top = _xml(text)
    facts.name = harmless(top.findtext("artifactId"))
    facts.version = harmless(top.findtext("version"))
    facts.description = harmless(top.findtext("description"))
    values = {p.tag: harmless(p.text) for p in top.find("properties") or []}
    for key in ("maven.compiler.release", "java.version", "maven.compiler.source"):
        if values.get(key) and "java" not in facts.needs:
            facts.needs["java"] = values[key]
    for one in top.findall("./dependencies/dependency"):
        version = harmless(one.findtext("version"))
        version = values.get(version[2:-1], version) if version.startswith("${") else version
        name = f"{harmless(one.findtext('groupId'))}:{harmless(one.findtext('artifactId'))}"
        facts.dependencies.append((name, version, harmless(one.findtext("scope"))))
    facts.parts = [harmless(m.text) for m in top.findall("./modules/module")]
    parent = top.find("parent")
    if parent is not None:
        facts.settings = [
            ("parent", f"{harmless(parent.findtext('artifactId'))} {harmless(parent.findtext('version'))}")
        ]


_GRADLE = re.compile(
    r"^[ \t]*(\w*(?:mplementation|api|ompileOnly|untimeOnly|nnotationProcessor|kapt|ksp|compile))[ \t(]+"
    r"(?:platform\()?['\"]([\w.-]+:[\w.-]+)(?::([^'\"\n]*))?['\"]",
    re.MULTILINE,
)
_GRADLE_PLUGIN = re.compile(
    r"\b(?:id|kotlin)[ \t(]+['\"]([\w.-]+)['\"]\)?(?:[ \t]+version[ \t]+['\"]([^'\"\n]+)['\"])?"
)


def _gradle(facts: Facts, text: str, _yaml: Yaml) -> None:
    for how, name, version in _GRADLE.findall(text):
        facts.dependencies.append((name, harmless(version), "test" if how.startswith("test") else ""))
    facts.settings = [
        ("plugin", harmless(f"{name} {version}".strip())) for name, version in _GRADLE_PLUGIN.findall(text)
    ]
    for key in ("rootProject.name", "group", "version"):
        found = re.search(rf"^[ \t]*{re.escape(key)}[ \t]*=[ \t]*['\"]([^'\"\n]+)['\"]", text, re.MULTILINE)
        if found and key != "group":
            setattr(facts, "name" if key == "rootProject.name" else key, harmless(found.group(1)))
    facts.parts = [
        harmless(name.lstrip(":"))
        for line in re.findall(r"^[ \t]*include\b([^\n]*)", text, re.MULTILINE)
        for name in re.findall(r"['\"]([^'\"]+)['\"]", line)
    ]
    java = re.search(r"(?:JavaLanguageVersion\.of\(|JavaVersion\.VERSION_|sourceCompatibility\s*=\s*['\"]?)(\d+)", text)
    if java:
        facts.needs["java"] = java.group(1)


def _csproj(facts: Facts, text: str, _yaml: Yaml) -> None:
    top = _xml(text)
    frameworks = [harmless(e.text) for e in top.iter() if e.tag in {"TargetFramework", "TargetFrameworks"}]
    facts.needs = {"dotnet": frameworks[0]} if frameworks else {}
    for one in top.iter("PackageReference"):
        version = one.get("Version") or one.findtext("Version")
        facts.dependencies.append((harmless(one.get("Include")), harmless(version), ""))


# Ruby, PHP, Dart


def _gemfile(facts: Facts, text: str, _yaml: Yaml) -> None:
    for name, version in re.findall(
        r"^[ \t]*gem[ \t(]+['\"]([\w.-]+)['\"](?:,[ \t]*['\"]([^'\"\n]+)['\"])?", text, re.MULTILINE
    ):
        facts.dependencies.append((name, harmless(version), ""))
    ruby = re.search(r"^[ \t]*ruby[ \t]+['\"]([^'\"\n]+)['\"]", text, re.MULTILINE)
    facts.needs = {"ruby": harmless(ruby.group(1))} if ruby else {}


def _composer(facts: Facts, text: str, _yaml: Yaml) -> None:
    data = _table(json.loads(text))
    _about(facts, data)
    wanted = dict(_table(data.get("require")))
    if "php" in wanted:
        facts.needs["php"] = harmless(wanted.pop("php"))
    _depend(facts, wanted)
    _depend(facts, data.get("require-dev"), "dev")
    facts.scripts = [(harmless(k), harmless(v)) for k, v in _table(data.get("scripts")).items()]


def _pubspec(facts: Facts, text: str, yaml: Yaml) -> None:
    data = yaml("pubspec.yaml", text)
    _about(facts, data)
    facts.needs = {harmless(k): harmless(v) for k, v in _table(data.get("environment")).items()}
    _depend(facts, data.get("dependencies"))
    _depend(facts, data.get("dev_dependencies"), "dev")


# containers, make


def _image(reference: str) -> tuple[str, str, str]:
    """Return an image as a dependency; a tag follows the last colon, unless that belongs to a port."""
    image, mark, digest = reference.partition("@")
    name, colon, tag = image.rpartition(":")
    named = bool(colon) and "/" not in tag
    return harmless(name if named else image), harmless((tag if named else "") + (mark + digest)[:20]), "image"


def _dockerfile(facts: Facts, text: str, _yaml: Yaml) -> None:
    stages: set[str] = set()
    for line in re.sub(r"[\\`][ \t]*\r?\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        word, words = word.upper(), rest.split()
        if word == "FROM":
            words = [w for w in words if not w.startswith("--")]
            if words and words[0].lower() not in stages:
                facts.dependencies.append(_image(words[0]))
            if len(words) >= 3 and words[1].lower() == "as":
                stages.add(words[2].lower())
                facts.parts.append(harmless(words[2]))
        elif word in {"EXPOSE", "WORKDIR", "ENTRYPOINT", "CMD", "USER"}:
            facts.settings.append((word.lower(), harmless(rest)))


def _compose(facts: Facts, text: str, yaml: Yaml) -> None:
    data = yaml("compose.yml", text)
    if isinstance(data.get("name"), str):
        facts.name = harmless(data["name"])
    for name, described in _table(data.get("services")).items():
        service = _table(described)
        facts.parts.append(harmless(name))
        if isinstance(service.get("image"), str):
            facts.dependencies.append(_image(service["image"]))
        ports = [harmless(p) for p in _list(service.get("ports")) if isinstance(p, str | int)]
        if ports:
            facts.settings.append((f"{harmless(name)} ports", ", ".join(ports)))


def _makefile(facts: Facts, text: str, _yaml: Yaml) -> None:
    seen = dict.fromkeys(re.findall(r"^([A-Za-z0-9][\w./-]*)[ \t]*:(?![=:])", text, re.MULTILINE))
    facts.scripts = [(harmless(name), f"make {harmless(name)}") for name in seen]


def _marker(_facts: Facts, _text: str, _yaml: Yaml) -> None:
    """Say nothing but that it is there."""


NAMES: dict[str, tuple[str, Callable[[Facts, str, Yaml], None]]] = {
    "package.json": ("node", _package_json), "deno.json": ("node", _marker),
    "pyproject.toml": ("python", _pyproject), "Pipfile": ("python", _pipfile), "setup.cfg": ("python", _setup_cfg),
    "setup.py": ("python", _marker), "environment.yml": ("python", _environment),
    "go.mod": ("go", _go_mod), "go.work": ("go", _go_mod), "Cargo.toml": ("rust", _cargo), "pom.xml": ("java", _pom),
    "build.gradle": ("java", _gradle), "build.gradle.kts": ("java", _gradle),
    "settings.gradle": ("java", _gradle), "settings.gradle.kts": ("java", _gradle),
    "Gemfile": ("ruby", _gemfile), "composer.json": ("php", _composer), "pubspec.yaml": ("dart", _pubspec),
    "Package.swift": ("swift", _marker), "mix.exs": ("elixir", _marker), "CMakeLists.txt": ("cpp", _marker),
    "meson.build": ("cpp", _marker), "Dockerfile": ("docker", _dockerfile), "Containerfile": ("docker", _dockerfile),
    "Makefile": ("", _makefile), "makefile": ("", _makefile), "GNUmakefile": ("", _makefile),
}  # fmt: skip
PATTERNS: tuple[tuple[str, tuple[str, Callable[[Facts, str, Yaml], None]]], ...] = (
    ("requirements*.txt", ("python", _requirements)), ("Dockerfile.*", ("docker", _dockerfile)),
    ("*.[Dd]ockerfile", ("docker", _dockerfile)), ("compose*.y*ml", ("docker", _compose)),
    ("docker-compose*.y*ml", ("docker", _compose)), ("*.csproj", ("dotnet", _csproj)),
    ("*.fsproj", ("dotnet", _csproj)),
)  # fmt: skip
