# SPDX-License-Identifier: MIT
"""All gateways of a node together: started, followed and stopped with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from daemon.held_ports import free_port
from node.gateways.rig import CLOCK, NETWORK, Nodes
from streams.wires import Program, connect
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectError
from twisted.internet.threads import deferToThread

from gmesh.node.api.access import AccessControl
from gmesh.node.configuration import Configuration
from gmesh.node.gateways.gateways import Gateways
from gmesh.node.gateways.settings import Exposure, Forward, ProxySettings, Target
from gmesh.stream_errors import ServiceRefused


def local(port: int) -> str:
    """An endpoint string of loopback."""
    return f"tcp:{port}:interface=127.0.0.1"


def gateways(nodes: Nodes, configuration: Configuration, door: Path | None = None) -> Gateways:
    """Those of the node under test, begun."""
    doors = [UNIXAddress(str(door).encode())] if door else []
    ids = (NETWORK, nodes.own_id)
    made = Gateways(CLOCK, nodes.here, "gmesh-node", ids, configuration, AccessControl(), lambda: doors)
    made.startService()
    return made


async def test_a_reload_puts_each_into_force(nodes: Nodes) -> None:
    """Nothing at first; then a forward, an exposure and a proxy; then nothing again."""
    state, forward, proxy = Path("/s"), free_port(), free_port()
    made = gateways(nodes, Configuration(state))
    nodes.there.listen("ssh", lambda offer: offer.accept(Program()))
    new = Configuration(
        state,
        expose=(Exposure("web", Target("127.0.0.1", 1)),),
        forward=(Forward(local(forward), "desk", "ssh"),),
        proxy=ProxySettings((local(proxy),)),
    )
    for configuration, served in ((new, True), (Configuration(state), False)):
        for follow in made.follows().values():
            done = follow(configuration)
            assert not (await done if hasattr(done, "__await__") else done)
        assert bool(made.exposures.rows()) is served
        for port in (forward, proxy):
            if served:
                program = await connect(port)
                program.transport.abortConnection()
                await program.lost
            else:
                with pytest.raises(ConnectError):
                    await connect(port)
    await made.stopService()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to a group that is not its own")
async def test_the_unix_socket_of_the_proxy_is_for_the_group_of_the_local_api(
    nodes: Nodes, tmp_path: Path
) -> None:
    """Whoever may dial gets in, and after a reload whoever may then."""
    path = tmp_path / "proxy.sock"
    configuration = Configuration(Path("/s"), proxy=ProxySettings((f"unix:{path}:mode=660",)))
    ids = (NETWORK, nodes.own_id)
    made = Gateways(CLOCK, nodes.here, "gmesh-node", ids, configuration, AccessControl("", "4321"))
    made.startService()
    assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (4321, 0o660)
    made.proxy.give(1234)
    assert path.stat().st_gid == 1234
    await made.stopService()


async def test_neither_the_proxy_nor_the_local_api_is_a_target(nodes: Nodes, tmp_path: Path) -> None:
    """Or any node that may dial the service could use this one as its own."""
    port = free_port()
    (tmp_path / "node.sock").touch()
    made = gateways(
        nodes,
        Configuration(
            Path("/s"),
            expose=(
                Exposure("api", Target(path=str(tmp_path / "node.sock"))),
                Exposure("way", Target("localhost", port)),
            ),
            proxy=ProxySettings((local(port),)),
        ),
        tmp_path / "node.sock",
    )
    assert [row["service"] for row in made.exposures.rows()] == ["way"]
    with pytest.raises(ServiceRefused):
        await nodes.dial("way", Program())
    await made.stopService()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_loopback_ports_that_nobody_exposed_are_not_reachable(nodes: Nodes) -> None:
    """Through a node, its proxy, or a forward: there is no name for them."""
    with socket.socket() as secret:
        secret.bind(("127.0.0.1", 0))
        secret.listen()
        port, proxy = secret.getsockname()[1], free_port()
        made = gateways(nodes, Configuration(Path("/s"), proxy=ProxySettings((local(proxy),))))
        for name in ("localhost", "127.0.0.1", "pump-07.gmesh", f"tcp-{port}.pump-07.gmesh"):
            through = ["curl", "-s", "-m", "120", "-x", f"http://127.0.0.1:{proxy}", "-w", "%{http_code}"]
            done = await deferToThread(
                subprocess.run, [*through, f"http://{name}:{port}/"], capture_output=True, text=True
            )
            assert done.stdout[-3:] in ("403", "404"), done.stdout
        with pytest.raises(ServiceRefused):
            await nodes.dial(f"tcp-{port}", Program())
        secret.setblocking(False)
        with pytest.raises(BlockingIOError):
            secret.accept()
        await made.stopService()
