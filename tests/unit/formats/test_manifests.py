"""What the files that describe a project are found to say, and that none of them does harm."""

from __future__ import annotations

import json
import time

import pytest

from p8.containers.yamlfile import Document
from p8.formats.manifests import NAMES, Facts, harmless, is_known, read


def facts(name: str, text: str) -> Facts:
    found = read(name, text, lambda name, text: Document(name, text).values)
    assert found is not None
    return found


def test_package_json() -> None:
    found = facts("package.json", json.dumps({
        "name": "@team/web", "version": "1.2.3", "description": "A\nsite", "engines": {"node": ">=20"},
        "packageManager": "pnpm@9.1.0", "workspaces": ["packages/*"], "scripts": {"test": "vitest run"},
        "dependencies": {"react": "^18.2.0", "mine": "git+https://ada:hush@example.invalid/mine.git#v1"},
        "devDependencies": {"vitest": "1.0.0"}, "peerDependencies": {"react-dom": "*"},
    }))  # fmt: skip
    assert (found.type, found.name, found.version, found.description) == ("node", "@team/web", "1.2.3", "A site")
    assert found.needs == {"node": ">=20"}
    assert found.dependencies == [
        ("mine", "git+https://example.invalid/mine.git#v1", ""), ("react", "^18.2.0", ""), ("vitest", "1.0.0", "dev"),
        ("react-dom", "*", "peer"),
    ]  # fmt: skip
    assert found.scripts == [("test", "vitest run")]
    assert found.parts == ["packages/*"]
    assert ("packageManager", "pnpm@9.1.0") in found.settings


def test_pyproject_of_the_standard() -> None:
    found = facts("pyproject.toml", """
[project]
name = "tool"
version = "0.3"
requires-python = ">=3.11"
dependencies = ["httpx[http2] >=0.27,<1; python_version < '4'", "rich", "own @ https://t:k@example.invalid/own.whl?sig=1"]
[project.optional-dependencies]
docs = ["sphinx (>=7)"]
[project.scripts]
tool = "tool.cli:main"
[dependency-groups]
dev = ["pytest>=8", {include-group = "docs"}]
[build-system]
build-backend = "hatchling.build"
[tool.ruff]
line-length = 100
""")  # fmt: skip
    assert (found.type, found.name, found.version, found.needs) == ("python", "tool", "0.3", {"python": ">=3.11"})
    assert found.dependencies == [
        ("httpx[http2]", ">=0.27,<1", ""), ("own", "@ https://example.invalid/own.whl", ""), ("rich", "", ""),
        ("pytest", ">=8", "dev"), ("sphinx", ">=7", "docs"),
    ]  # fmt: skip
    assert found.scripts == [("tool", "tool.cli:main")]
    assert found.settings == [("build", "hatchling.build"), ("tool", "ruff")]


def test_pyproject_of_poetry() -> None:
    found = facts("pyproject.toml", """
[tool.poetry]
name = "tool"
[tool.poetry.dependencies]
python = "^3.11"
httpx = {version = "^0.27", extras = ["http2"]}
own = {path = "../own"}
[tool.poetry.group.test.dependencies]
pytest = "*"
""")  # fmt: skip
    assert found.needs == {"python": "^3.11"}
    assert found.dependencies == [("httpx", "^0.27", ""), ("own", "../own", ""), ("pytest", "*", "test")]


def test_requirements() -> None:
    found = facts("requirements-dev.txt", """
# what is needed
--index-url https://ada:hush@example.invalid/simple
-r base.txt
django==5.0 \\
    --hash=sha256:aa
uvicorn[standard]>=0.30  # the server
-e git+https://ada:hush@example.invalid/own.git#egg=own
https://example.invalid/other.whl?token=hush
""")  # fmt: skip
    assert found.parts == ["base.txt"]
    assert found.dependencies == [
        ("django", "==5.0", ""), ("https://example.invalid/other.whl", "https://example.invalid/other.whl", ""),
        ("own", "git+https://example.invalid/own.git#egg=own", ""), ("uvicorn[standard]", ">=0.30", ""),
    ]  # fmt: skip
    assert "hush" not in str(found)


def test_setup_cfg_pipfile_and_environment() -> None:
    found = facts("setup.cfg", "[metadata]\nname = tool\n[options]\ninstall_requires =\n  rich>=13\n  httpx\n")
    assert (found.name, found.dependencies) == ("tool", [("httpx", "", ""), ("rich", ">=13", "")])
    assert facts("setup.cfg", "[flake8]\nmax-line-length = 100\n").type == ""
    assert facts("Pipfile", '[packages]\nflask = "*"\n[requires]\npython_version = "3.11"\n').dependencies == [
        ("flask", "*", "")
    ]
    found = facts("environment.yml", "name: lab\ndependencies:\n  - numpy=1.26\n  - pip:\n    - rich>=13\n")
    assert found.dependencies == [("numpy", "=1.26", ""), ("rich", ">=13", "pip")]


def test_go() -> None:
    found = facts("go.mod", """module example.invalid/team/tool // the tool

go 1.22
toolchain go1.22.3
require example.invalid/one v1.0.0
require (
\texample.invalid/two v0.2.0-20240101000000-abcdefabcdef
\texample.invalid/three v3.0.0 // indirect
)
replace example.invalid/one => ../one
""")  # fmt: skip
    assert (found.type, found.name) == ("go", "example.invalid/team/tool")
    assert found.needs == {"go": "1.22", "toolchain": "go1.22.3"}
    assert found.dependencies == [
        ("example.invalid/one", "v1.0.0", ""), ("example.invalid/two", "v0.2.0-20240101000000-abcdefabcdef", ""),
        ("example.invalid/three", "v3.0.0", "indirect"),
    ]  # fmt: skip
    assert facts("go.work", "go 1.22\nuse (\n\t./a\n\t./b\n)\n").parts == ["./a", "./b"]


def test_rust() -> None:
    found = facts("Cargo.toml", """
[package]
name = "tool"
version = "0.1.0"
edition = "2021"
rust-version = "1.75"
[workspace]
members = ["crates/*"]
[dependencies]
serde = { version = "1.0", features = ["derive"] }
own = { workspace = true }
[dev-dependencies]
proptest = "1"
[target.'cfg(unix)'.dependencies]
nix = "0.27"
[features]
fast = []
""")  # fmt: skip
    assert (found.type, found.needs) == ("rust", {"rust": "1.75", "edition": "2021"})
    assert found.dependencies == [
        ("nix", "0.27", ""), ("own", "workspace", ""), ("serde", "1.0", ""), ("proptest", "1", "dev"),
    ]  # fmt: skip
    assert (found.parts, found.settings) == (["crates/*"], [("feature", "fast")])


def test_maven_and_gradle() -> None:
    found = facts("pom.xml", """<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0"><artifactId>app</artifactId><version>2.0</version>
<parent><artifactId>boot-parent</artifactId><version>3.2</version></parent>
<properties><java.version>21</java.version><one.version>1.4</one.version></properties>
<modules><module>core</module></modules>
<dependencies><dependency><groupId>org.one</groupId><artifactId>one</artifactId><version>${one.version}</version>
</dependency><dependency><groupId>org.junit</groupId><artifactId>junit</artifactId><scope>test</scope></dependency>
</dependencies></project>""")  # fmt: skip
    assert (found.type, found.name, found.version, found.needs) == ("java", "app", "2.0", {"java": "21"})
    assert found.dependencies == [("org.one:one", "1.4", ""), ("org.junit:junit", "", "test")]
    assert (found.parts, found.settings) == (["core"], [("parent", "boot-parent 3.2")])
    found = facts("build.gradle.kts", """
plugins { id("org.springframework.boot") version "3.2.0" }
version = "1.0"
java { toolchain { languageVersion.set(JavaLanguageVersion.of(21)) } }
dependencies {
    implementation("org.one:one:1.4")
    testImplementation 'org.junit:junit:4.13'
    // implementation("not:this:1")
}
""")  # fmt: skip
    assert found.dependencies == [("org.one:one", "1.4", ""), ("org.junit:junit", "4.13", "test")]
    assert (found.version, found.needs) == ("1.0", {"java": "21"})
    assert found.settings == [("plugin", "org.springframework.boot 3.2.0")]
    found = facts("settings.gradle", "rootProject.name = 'app'\ninclude ':core', 'web'\n")
    assert (found.name, found.parts) == ("app", ["core", "web"])


def test_docker() -> None:
    found = facts("Dockerfile.prod", """ARG TOKEN=hush
FROM --platform=linux/amd64 registry.invalid:5000/team/node:20-slim AS build
ENV PASSWORD=hush
RUN npm ci \\
 && npm run build
FROM nginx
FROM build
EXPOSE 8080
CMD ["nginx"]
""")  # fmt: skip
    assert found.type == "docker"
    assert found.dependencies == [("nginx", "", "image"), ("registry.invalid:5000/team/node", "20-slim", "image")]
    assert found.parts == ["build"]
    assert found.settings == [("expose", "8080"), ("cmd", '["nginx"]')]
    assert "hush" not in str(found)
    found = facts("docker-compose.dev.yml", """
services:
  web: {build: ., ports: ["8080:80", 9000], environment: {PASSWORD: hush}}
  db: {image: "registry.invalid:5000/postgres:16"}
""")  # fmt: skip
    assert found.parts == ["web", "db"]
    assert found.dependencies == [("registry.invalid:5000/postgres", "16", "image")]
    assert found.settings == [("web ports", "8080:80, 9000")]
    assert "hush" not in str(found)


def test_others() -> None:
    assert facts("Makefile", "VAR := 1\nall: test\ntest:\n\tpytest\n.PHONY: all\n%.o: %.c\n").scripts == [
        ("all", "make all"), ("test", "make test"),
    ]  # fmt: skip
    assert facts("Gemfile", "ruby '3.3.0'\ngem 'rails', '~> 7.1'\n").dependencies == [("rails", "~> 7.1", "")]
    found = facts("composer.json", '{"require": {"php": ">=8.2", "monolog/monolog": "^3"}}')
    assert (found.needs, found.dependencies) == ({"php": ">=8.2"}, [("monolog/monolog", "^3", "")])
    project = "<Project><PropertyGroup><TargetFramework>net8.0</TargetFramework></PropertyGroup><ItemGroup>"
    found = facts("App.csproj", project + '<PackageReference Include="Serilog" Version="3.1"/></ItemGroup></Project>')
    assert (found.type, found.needs, found.dependencies) == ("dotnet", {"dotnet": "net8.0"}, [("Serilog", "3.1", "")])
    found = facts("pubspec.yaml", "name: app\nenvironment: {sdk: '>=3.0.0'}\ndependencies: {http: ^1.0.0}\n")
    assert (found.type, found.needs, found.dependencies) == ("dart", {"sdk": ">=3.0.0"}, [("http", "^1.0.0", "")])


@pytest.mark.parametrize("name", [*NAMES, "requirements.txt", "compose.yaml", "App.csproj"])
@pytest.mark.parametrize(
    "text",
    [
        "", "\x00\x01", "[" * 100_000, "{" * 100_000, '{"name": [1], "dependencies": [], "scripts": 3, "engines": "x"}',
        "[project]\nname = 1\ndependencies = 'x'\n[package]\nname=[]\n[workspace]\nmembers = 3\n[tool]\npoetry=3\n",
        "services: 3\ndependencies: x\n", "<a>" * 50_000, "[]", "null", "-r\n-e\nFROM\nrequire\nuse (\ninclude\n",
        '"\ud800": \ud800\n',
    ],
    ids=range(12),
)  # fmt: skip
def test_nothing_that_a_file_holds_makes_reading_it_fail(name: str, text: str) -> None:
    began = time.perf_counter()
    found = facts(name, text)
    json.dumps(found.to_dict()).encode()
    str(found.to_dict()).encode()
    assert time.perf_counter() - began < 5


def test_entities_are_not_read() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE p [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><project>&b;</project>'
    assert "entities" in facts("pom.xml", bomb).problem
    aliases = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)
    )
    assert "too much" in facts("compose.yaml", aliases).problem


def test_what_is_not_known_is_left_alone() -> None:
    assert read("notes.txt", "x", lambda _name, _text: {}) is None
    assert not is_known("package.json.bak")
    assert is_known("requirements-dev.txt")


def test_a_value_is_one_line_without_credentials() -> None:
    assert harmless("a\x1b[31m\n b") == "a [31m b"
    assert harmless("see https://u:p@example.invalid/x?token=1#y") == "see https://example.invalid/x#y"
    assert len(harmless("x" * 9999)) == 200
    assert harmless(None) == ""
