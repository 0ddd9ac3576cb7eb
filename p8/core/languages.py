"""What a file is by its name alone: its language, what it configures, whether it came with a library.

Refuses: to read the file.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

#: folders whose content is not the project's own, where no rule of git's leaves them out
GENERATED = frozenset((
    "node_modules", "bower_components", "site-packages", ".venv", "venv", "__pycache__", ".tox", ".nox", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", ".gradle", ".next", ".nuxt", "vendor", "third_party", ".terraform", ".eggs",
))  # fmt: skip
_EXTENSIONS = {
    "Python": "py pyi pyx", "JavaScript": "js mjs cjs jsx", "TypeScript": "ts tsx mts cts", "Go": "go", "Rust": "rs",
    "Java": "java", "Kotlin": "kt kts", "Scala": "scala sc", "Groovy": "groovy gradle", "C": "c h",
    "C++": "cc cpp cxx hpp hh hxx", "C#": "cs", "F#": "fs fsx", "Swift": "swift", "Objective-C": "m mm",
    "Ruby": "rb rake", "PHP": "php", "Perl": "pl pm", "Lua": "lua", "R": "r", "Julia": "jl", "Dart": "dart",
    "Elixir": "ex exs", "Erlang": "erl hrl", "Haskell": "hs", "OCaml": "ml mli", "Clojure": "clj cljs cljc",
    "Shell": "sh bash zsh fish", "PowerShell": "ps1 psm1", "SQL": "sql", "HTML": "html htm",
    "CSS": "css scss sass less",
    "Vue": "vue", "Svelte": "svelte", "Astro": "astro", "Terraform": "tf tfvars", "Protobuf": "proto",
    "GraphQL": "graphql gql", "Zig": "zig", "Nix": "nix", "Assembly": "s asm", "YAML": "yml yaml", "JSON": "json",
    "TOML": "toml", "XML": "xml", "Markdown": "md markdown", "reStructuredText": "rst", "Jupyter": "ipynb",
    "Solidity": "sol", "CMake": "cmake",
}  # fmt: skip
LANGUAGES = {f".{one}": language for language, many in _EXTENSIONS.items() for one in many.split()}
_NAMES = {
    "Dockerfile": "Dockerfile", "Containerfile": "Dockerfile", "Makefile": "Make", "GNUmakefile": "Make",
    "makefile": "Make", "CMakeLists.txt": "CMake", "Rakefile": "Ruby", "Gemfile": "Ruby", "Jenkinsfile": "Groovy",
}  # fmt: skip
_CONFIGURES = {
    "tsconfig.json": "TypeScript", "jsconfig.json": "JavaScript", ".nvmrc": "Node's version",
    ".node-version": "Node's version", ".npmrc": "npm", ".babelrc": "Babel", ".prettierrc": "formatting",
    "biome.json": "lint and formatting", "turbo.json": "build of a workspace", "nx.json": "build of a workspace",
    "lerna.json": "workspace", "pnpm-workspace.yaml": "workspace", "tox.ini": "tests", "pytest.ini": "tests",
    "noxfile.py": "tests", "conftest.py": "tests", "mypy.ini": "types", "pyrightconfig.json": "types",
    "ruff.toml": "lint", ".ruff.toml": "lint", ".flake8": "lint", ".pylintrc": "lint", ".python-version":
    "Python's version", "MANIFEST.in": "package", "alembic.ini": "database migrations", "rust-toolchain.toml":
    "Rust's version", "rust-toolchain": "Rust's version", "rustfmt.toml": "formatting", "clippy.toml": "lint",
    ".golangci.yml": "lint", ".golangci.yaml": "lint", "gradle.properties": "Gradle", "application.yml": "Spring",
    "application.properties": "Spring", ".editorconfig": "formatting", ".gitattributes": "git", ".gitignore": "git",
    ".gitmodules": "git", ".dockerignore": "Docker", ".pre-commit-config.yaml": "hooks", ".gitlab-ci.yml": "CI",
    ".travis.yml": "CI", "Jenkinsfile": "CI", "azure-pipelines.yml": "CI", "Procfile": "processes",
    ".tool-versions": "versions of tools", "mise.toml": "versions of tools", "flake.nix": "environment",
    "devcontainer.json": "environment", "skaffold.yaml": "Kubernetes", "Chart.yaml": "Helm", "kustomization.yaml":
    "Kubernetes", "vercel.json": "hosting", "netlify.toml": "hosting", "fly.toml": "hosting", "serverless.yml":
    "hosting", "CLAUDE.md": "instructions to assistants", "AGENTS.md": "instructions to assistants", "GEMINI.md":
    "instructions to assistants", ".cursorrules": "instructions to assistants", "CODEOWNERS": "who reviews",
    "renovate.json": "updates", "dependabot.yml": "updates",
}  # fmt: skip
_PATTERNS = (
    ("eslint.config.*", "lint"), (".eslintrc*", "lint"), ("prettier.config.*", "formatting"),
    ("vite.config.*", "build"),
    ("webpack.config.*", "build"), ("rollup.config.*", "build"), ("next.config.*", "Next.js"),
    ("nuxt.config.*", "Nuxt"), ("jest.config.*", "tests"), ("vitest.config.*", "tests"),
    ("playwright.config.*", "tests"), ("babel.config.*", "Babel"), ("tailwind.config.*", "styles"),
    ("tsconfig.*.json", "TypeScript"), (".env.example", "environment, an example"),
    (".env.sample", "environment, an example"),
)  # fmt: skip


def language_of(name: str) -> str:
    """Return a file's language by its name without folders; "" where that does not tell."""
    found = _NAMES.get(name)
    if found is not None:
        return found
    dot = name.rfind(".")
    if dot <= 0:
        return ""
    return LANGUAGES.get(name[dot:].lower(), "")


def configures(path: str) -> str:
    """Return what a file configures, "" for one that is no configuration."""
    folder, _, name = path.rpartition("/")
    if name in _CONFIGURES:
        return _CONFIGURES[name]
    if folder.endswith(".github/workflows") and name.endswith((".yml", ".yaml")):
        return "CI"
    if folder.endswith(".circleci") and name == "config.yml":
        return "CI"
    if ".config." in name or name.startswith((".eslintrc", "tsconfig.", ".env.")):
        return next((what for pattern, what in _PATTERNS if fnmatchcase(name, pattern)), "")
    return ""


def is_generated(path: str) -> bool:
    """Return whether a path lies where installed or generated files do."""
    return not GENERATED.isdisjoint(path.split("/")[:-1])
