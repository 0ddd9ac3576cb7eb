"""Makes P8's own image from the definition beside this file; its base is the caller's choice."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from p8.containers.images import tag_of
from p8.errors import ContainerError, UsageError

FOLDER = Path(__file__).parent / "image"
VARIANTS = ("base", "agents")
STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x1f\x7f-\x9f]")
TAIL_LINES = 12
TAIL_CHARS = 2000
Progress = Callable[[float, str], None]


class Builder(Protocol):
    """What can build: the Docker runtime."""

    def build(
        self, context: bytes, tag: str, target: str, arguments: Mapping[str, str], network: str
    ) -> Iterator[dict[str, Any]]:
        """Build an image; return what the engine says of it, as it comes."""
        ...

    def has_image(self, name: str) -> str:
        """Return the id of an image, or ""."""
        ...


def build_image(
    builder: Builder,
    variant: str = "base",
    base: str = "",
    arguments: Mapping[str, str] | None = None,
    network: str = "",
    progress: Progress = lambda _fraction, _text: None,
    tag: str = "",
) -> str:
    """
    Build a variant.

    Args:
        builder: the engine.
        variant: "base" or "agents".
        base: the image it is made from; the one in the definition where empty.
        arguments: further build arguments.
        network: the network of its steps; the engine's own choice where empty.
        progress: told how far it has come, 0 to 1, and what is being done.
        tag: its name; `tag_of(variant)` where empty.

    Returns:
        the image's id.

    Raises:
        UsageError: no such variant.
        ContainerError: a step failed; the message ends with its last output.
    """
    if variant not in VARIANTS:
        raise UsageError(f"no variant is called {variant!r}", f"one of {', '.join(VARIANTS)}")
    given = {**(arguments or {}), **({"BASE": base} if base else {})}
    tag, last, done = tag or tag_of(variant), [""], 0.0
    for said in builder.build(context_of(FOLDER), tag, variant, given, network):
        if "error" in said:
            raise ContainerError(
                f"image {tag}: {said['error'].strip()}\n{''.join(last)[-TAIL_CHARS:].strip()}", "nothing was changed"
            )
        text = str(said.get("stream") or said.get("status") or "")
        step = STEP.match(text)
        if step:
            done = (int(step[1]) - 1) / int(step[2])
            progress(done, " ".join(step[3].split()))
        elif text.strip():
            last = [*last, text][-TAIL_LINES:]
            progress(done, CONTROL.sub("", f"{text.strip()} {said.get('progress', '')}".strip()))
    progress(1.0, tag)
    made = builder.has_image(tag)
    if not made:
        raise ContainerError(f"image {tag} was not made", "".join(last)[-200:].strip())
    return made


def context_of(folder: Path) -> bytes:
    """Return a tar of the definition, the same bytes for the same files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            member = tarfile.TarInfo(path.name)
            body = path.read_bytes()
            member.size, member.mode = len(body), 0o755 if path.name == "keeper" else 0o644
            tar.addfile(member, io.BytesIO(body))
    return packed.getvalue()
