# SPDX-License-Identifier: MIT
"""
The command that a person types next, so that it works on this host as it is printed.

Tests: C{tests/cli/test_join.py}.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path

from gmesh.trust.transport_address import Transport, TransportAddress

__all__ = ["daemon", "gmesh_command", "listen_endpoint", "node_start"]

NODE_UNIT = Path("/usr/lib/systemd/system/gmesh-node.service")
"""Of the Debian package, whose unit runs the node in L{UNIT_STATE}."""
UNIT_STATE = Path("/var/lib/gmesh-node")
UNIT_DEFAULTS = Path("/etc/default/gmesh-node")
DEFAULT_PORT = 7443
DEFAULT_LISTEN = f"tcp:{DEFAULT_PORT}"
"""Where the unit listens unless L{UNIT_DEFAULTS} says otherwise, and the nodes of the manual."""


def _program(names: Sequence[str], run: Sequence[str]) -> list[str]:
    """The first of these that the shell finds; else the one beside this Python, else what it does itself."""
    for name in names:
        if shutil.which(name):
            return [name]
    beside = Path(sys.executable).with_name(names[0])
    return [str(beside)] if beside.exists() else [sys.executable, *run]


def gmesh_command() -> str:
    """How this command is called: C{gmesh}, or with its directory where the shell does not search that."""
    return shlex.join(_program(["gmesh"], ["-m", "gmesh.cli.start"]))


def daemon(name: str, state: Path | str, listen: str | None = None) -> str:
    """
    The command that runs a daemon in the foreground.

    @param name: C{gmesh-node} or C{gmesh-authority}.
    @param listen: an endpoint string of Twisted.
    """
    # twistd3 is what Debian calls it.
    twistd = _program(["twistd", "twistd3"], ["-c", "from twisted.scripts.twistd import run; run()"])
    listening = ["--listen", listen] if listen else []
    return shlex.join([*twistd, "-n", "--pidfile=", name, "--state", str(state), *listening])


def node_start(state: Path, listen: str | None = None, again: bool = False) -> list[str]:
    """
    The commands that start a node here: of its unit where there is one for this directory.

    @param again: it runs.
    """
    if not NODE_UNIT.exists() or state.absolute() != UNIT_STATE:
        return [daemon("gmesh-node", state, listen)]
    setting = shlex.quote(f"ENDPOINT={shlex.quote(listen or DEFAULT_LISTEN)}")
    place = [f"echo {setting} >> {UNIT_DEFAULTS}"] if listen not in (None, DEFAULT_LISTEN) else []
    return [*place, f"systemctl {'restart' if again else 'start'} gmesh-node"]


def listen_endpoint(address: TransportAddress | None) -> str:
    """
    The endpoint string for a node that others dial at C{address}, which is None if nobody has said where.

    It takes what comes to any address of the host, as the one that is dialled may be a router's.
    """
    port = DEFAULT_PORT if address is None else address.port
    if address is not None and address.kind is not Transport.TCP:
        web = "ws:" if address.kind is Transport.WSS else ""
        return f"{web}tls:{port}:privateKey=privkey.pem:certKey=cert.pem:extraCertChain=chain.pem"
    try:
        IPv6Address("" if address is None else address.host.partition("%")[0])
    except ValueError:
        return f"tcp:{port}"
    return rf"tcp:{port}:interface=\:\:"
