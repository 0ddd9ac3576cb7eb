"""What has changed about the container of a session since it was left: its engine, its image, its network (row X4).

Said before the first prompt, and told to the assistant. Compares what was recorded with what a glance at the engine
shows; the container itself is another one each time, and that is no change. Refuses: to wait, to guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p8.config import Config
from p8.containers.glance import Glance
from p8.containers.images import of_sessions, short_id

NETWORKS = {"none": "no network", "bridge": "a network"}


def container_check(recorded: Mapping[str, Any], config: Config, seen: Glance) -> list[str]:
    """
    Return what differs, a line each; nothing where nothing was recorded, or where a glance cannot tell.

    Args:
        recorded: what `SessionContainer.facts` said last.
        config: what is wanted now.
        seen: how the engine is.
    """
    had = str(recorded.get("image", ""))
    if config.container == "never":
        return [f"its commands ran in a container ({had}); now they run on this machine"] if had else []
    if not recorded or not seen.asked:
        return []
    if not seen.up:
        then = "none can run" if config.container == "always" else "commands run on this machine"
        return [f"the container engine at {seen.endpoint} is away: {then} until it is back"] if had else []
    lines = _images(recorded, config, seen)
    before = str(recorded.get("engine", ""))
    if had and before and before != seen.endpoint:
        lines.append(f"its container was on the engine at {before}, the next one is on {seen.endpoint}")
    network = str(recorded.get("network", ""))
    if network and network != config.container_network:
        had_one, has_one = (NETWORKS.get(name, name) for name in (network, config.container_network))
        lines.append(f"its container had {had_one}, the next one has {has_one}")
    return lines


def _images(recorded: Mapping[str, Any], config: Config, seen: Glance) -> list[str]:
    had, had_id = str(recorded.get("image", "")), str(recorded.get("image_id", ""))
    name = next((one for one in of_sessions(config) if one in seen.images), "")
    now = short_id(seen.images.get(name, ""))
    if not had:
        return ["its commands ran on this machine; now there is a container for them"] if name else []
    if not name:
        return [f"the image of its container, {had}, is gone: p8 image build makes one"]
    if had == name and had_id != now and had_id:
        return [f"the image of its container, {name}, was {had_id}, is {now}"]
    if had != name:
        same = ", the same image" if had_id == now else ""
        return [f"its container was made of {had}, the next one is made of {name}{same}"]
    return []


def line(recorded: Mapping[str, Any]) -> str:
    """Return what a person reads of a container as it was recorded; "" where nothing was."""
    if not recorded.get("image"):
        return str(recorded.get("problem", ""))
    network = NETWORKS.get(str(recorded.get("network", "")), "")
    parts = [str(recorded.get("name", "")), f"{recorded['image']} {recorded.get('image_id', '')}".strip(), network]
    return ", ".join([*filter(None, parts), str(recorded.get("state", ""))])
