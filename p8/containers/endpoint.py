"""Where an engine is, and whether its containers can see this machine's directories. Refuses: to ask it anything else.

An engine on a socket of this machine can, one over TCP or ssh cannot: its projects are synchronised. Where that is
not how it is (a tunnel, a second machine's socket) a setting says so.
"""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from p8.config import Config
from p8.errors import ConfigError, ContainerError

CONNECT_S = 5.0
INSTALL = "pip install 'p8[containers]'"
SHARING = ("auto", "bind", "sync")


class Address(NamedTuple):
    """Where an engine is; empty fields are looked up as the `docker` program does."""

    host: str = ""  #: unix:///…, tcp://…, ssh://…
    context: str = ""
    certificates: str = ""  #: folder with ca.pem, cert.pem, key.pem
    sharing: str = "auto"  #: projects are mounted (bind), synchronised (sync), or as the address says (auto)

    @classmethod
    def of(cls, config: Config) -> Address:
        """Return the one that the settings name."""
        return cls(config.engine, config.engine_context, config.engine_certificates, config.container_sync)

    def is_local(self, endpoint: str) -> bool:
        """
        Return whether containers of the engine found at `endpoint` can mount this machine's directories.

        Raises:
            ConfigError: `sharing` is none of SHARING.
        """
        if self.sharing not in SHARING:
            raise ConfigError(f"container_sync is {self.sharing!r}", "it must be auto, bind or sync")
        if self.sharing == "auto":
            return endpoint.startswith(("unix://", "http+unix://", "npipe://"))
        return self.sharing == "bind"


def knock(endpoint: str) -> None:
    """See that a local engine listens at all; the SDK would leave a socket open where it does not. Raises OSError."""
    if endpoint.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(CONNECT_S)
            tried.connect(endpoint.removeprefix("unix://"))


def library() -> Any:
    """Return the engine's library, with its errors. Raises ContainerError: it is not installed."""
    try:
        import docker
        import docker.errors
        import docker.tls
    except ModuleNotFoundError as error:
        raise ContainerError(f"containers need {error.name}, which is not installed", INSTALL) from error
    return docker


def has_library() -> bool:
    """Return whether it is installed, without loading it."""
    return find_spec("docker") is not None


def options_of(address: Address) -> dict[str, Any]:
    """Return the client's arguments for an address, looked up as the `docker` program does."""
    docker = library()
    if address.host:
        options: dict[str, Any] = {"base_url": address.host}
        if address.certificates:
            folder = Path(address.certificates)
            options["tls"] = docker.tls.TLSConfig(
                client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
                ca_cert=str(folder / "ca.pem"),
                verify=True,
            )
        return options | ({"use_ssh_client": True} if address.host.startswith("ssh://") else {})
    try:
        context = docker.ContextAPI.get_context(address.context or None)
    except Exception as error:
        raise ContainerError(f"docker's context cannot be read: {error}", "docker context ls lists them") from error
    if context is None:
        raise ContainerError(f"docker has no context called {address.context!r}", "docker context ls lists them")
    host = context.Host or "unix:///var/run/docker.sock"
    options = {"base_url": host.replace("http+unix://", "unix://"), "tls": context.TLSConfig or False}
    return options | ({"use_ssh_client": True} if host.startswith("ssh://") else {})
