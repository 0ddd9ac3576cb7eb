"""What P8's images are called, and which of them will do. Refuses: to ask an engine."""

from __future__ import annotations

from p8.config import Config


def tag_of(variant: str) -> str:
    """Return the name of the image of a variant."""
    return f"p8-session:{variant}"


def fitting(variant: str, wanted: str = "", default: str = "") -> list[str]:
    """
    Return the images that would do, the best first.

    Args:
        variant: of P8's own, whose tools are needed; `agents` has what `base` has.
        wanted: the image asked for by name.
        default: the one that is set for all.
    """
    if wanted or default:
        return [wanted or default]
    return [tag_of("agents")] if variant == "agents" else [tag_of("base"), tag_of("agents")]


def of_sessions(config: Config) -> list[str]:
    """Return the images that a session's container may be made of, the best first: agents may be called in it."""
    return fitting("base", default=config.container_image)[::-1]


def short_id(image: str) -> str:
    """Return an image's id as people know it."""
    return image.rpartition(":")[2][:12]
