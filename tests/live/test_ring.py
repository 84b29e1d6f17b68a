# SPDX-License-Identifier: MIT
"""
A ring of real daemons, each in a network namespace of its own where that is allowed, else on loopback.

Messages go half-way round while each relay in turn is killed, restarted, drained and restarted.
"""

from __future__ import annotations

import base64
import math
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gmesh.testing.processes import ProcessMesh, ProcessNode

pytestmark = pytest.mark.live

PORT = 7443
PACE = 0.05
SEND_TIMEOUT = 10.0
ANSWER = 60.0
OUTAGE_BOUND = 10.0
"""Seconds without an acknowledgement on a machine that does nothing else; a dead process is seen at once."""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Namespaces:
    """One network namespace a node, a cable between each two neighbours of the ring."""

    def __init__(self, count: int) -> None:
        self.names = [f"gmesh-{os.getpid()}-{index}" for index in range(count)]

    @staticmethod
    def allowed() -> bool:
        """Whether this host lets us make one."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return False
        probe = f"gmesh-{os.getpid()}-probe"
        try:
            _ip("netns", "add", probe)
            _ip("netns", "delete", probe)
        except subprocess.CalledProcessError:
            return False
        return True

    def make(self) -> None:
        """Make and wire them."""
        for name in self.names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for index, name in enumerate(self.names):
            after = self.names[(index + 1) % len(self.names)]
            _ip(
                "link", "add", f"r{index}", "netns", name, "type", "veth", "peer", f"l{index}", "netns", after
            )
            for place, device, host in ((name, f"r{index}", 1), (after, f"l{index}", 2)):
                _ip("-n", place, "address", "add", f"10.77.{index}.{host}/30", "dev", device)
                _ip("-n", place, "link", "set", device, "up")

    def remove(self) -> None:
        """Take them away again."""
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


class Traffic:
    """One message after the other from a node to another: acknowledged when, arrived how often."""

    def __init__(self, source: ProcessNode, target: ProcessNode) -> None:
        self.acknowledged: list[tuple[float, int]] = []
        self.arrived: Counter[int] = Counter()
        self._source, self._target = source, target
        self._stopping = threading.Event()
        self._end = target.receive("log", self._received)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _received(self, message: dict[str, Any]) -> None:
        self.arrived[int(base64.b64decode(message["data"]))] += 1

    def _send(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            data = base64.b64encode(str(number).encode()).decode()
            body = {"node": self._target.name, "service": "log", "data": data, "timeout": SEND_TIMEOUT}
            if self._source.ask("POST", "/v1/send", body, ANSWER).get("delivered"):
                self.acknowledged.append((time.monotonic(), number))
            self._stopping.wait(PACE)

    def flows(self, more: int = 5) -> Callable[[], bool]:
        """True when so many more were acknowledged."""
        wanted = len(self.acknowledged) + more
        return lambda: len(self.acknowledged) >= wanted

    def outage(self, since: float) -> float:
        """The longest time without an acknowledgement after that moment."""
        times = [since, *(when for when, _ in self.acknowledged if when > since)]
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()
        self._thread.join(ANSWER)

    def all_arrived(self) -> bool:
        """Whether all that was acknowledged has been read; it may still be on its way from the daemon."""
        return all(number in self.arrived for _, number in self.acknowledged)

    def close(self) -> None:
        """Receive no more."""
        self._end()


@pytest.fixture
def ring(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[[int], ProcessMesh]]:
    """A function that starts so many daemons in a ring and waits until all reach all."""
    made: list[ProcessMesh] = []
    spaces: list[Namespaces] = []

    def make(count: int) -> ProcessMesh:
        mesh = ProcessMesh(tmp_path)
        made.append(mesh)
        apart = Namespaces.allowed()
        if apart:
            spaces.append(Namespaces(count))
            spaces[0].make()
        ports = [PORT if apart else free_port() for _ in range(count)]
        for index in range(count):
            before = (index - 1) % count
            host = f"10.77.{before}.1" if apart else "127.0.0.1"
            listen = f"tcp:{PORT}" if apart else f"tcp:{ports[index]}:interface=127.0.0.1"
            mesh.add(
                f"n{index}",
                "relay",
                arguments=["--listen", listen, "--peer", f"{host}:{ports[before]}"],
                behind=["ip", "netns", "exec", spaces[0].names[index]] if apart else [],
            ).start()
        names = list(mesh.nodes)
        mesh.wait(lambda: all(mesh[name].reaches(*(set(names) - {name})) for name in names))
        return mesh

    yield make
    try:
        for mesh in made:
            mesh.stop()
    finally:
        for each in spaces:
            each.remove()


def every_relay_in_turn(
    mesh: ProcessMesh, say: Callable[[str], None], both: bool, bound: float = math.inf
) -> None:
    """Each relay between the first node and the opposite is killed, drained (or either), and restarted."""
    names = list(mesh.nodes)
    half = len(names) // 2
    traffic = Traffic(mesh[names[0]], mesh[names[half]])
    mesh.wait(traffic.flows())
    for index in [each for each in range(len(names)) if each not in (0, half)]:
        name, neighbours = names[index], {names[index - 1], names[(index + 1) % len(names)]}
        endings = [("killed", mesh[name].kill), ("drained", mesh[name].stop)]
        for word, act in endings if both else [endings[index // 2 % 2]]:
            since = time.monotonic()
            act()
            mesh.wait(traffic.flows())
            outage = traffic.outage(since)
            mesh[name].start()
            linked = mesh.wait(partial(linked_to, mesh[name], neighbours))
            mesh.wait(traffic.flows())
            say(f"{name} {word}: outage {outage:.2f} s, back and linked after {linked:.1f} s")
            assert outage < bound
    traffic.stop()
    mesh.wait(traffic.all_arrived)
    traffic.close()
    assert max(traffic.arrived.values()) == 1, "delivered twice"
    say(f"{len(traffic.acknowledged)} messages acknowledged, {len(traffic.arrived)} delivered, each once")


def linked_to(node: ProcessNode, names: set[str]) -> bool:
    """Whether it runs and has these neighbours."""
    try:
        return {peer["name"] for peer in node.ask("GET", "/v1/peers")} >= names
    except OSError:
        return False


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a line of the report."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")

    def write(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"  ring: {text}")

    return write


def test_a_ring_of_four_survives_each_relay(ring: Callable[[int], ProcessMesh], say: Any) -> None:
    """Two ways between two ends: one relay is killed, one drained; traffic goes on, nothing arrives twice."""
    every_relay_in_turn(ring(4), say, both=False)


@pytest.mark.soak
def test_a_ring_of_ten_survives_each_relay(ring: Callable[[int], ProcessMesh], say: Any) -> None:
    """Eight relays, each killed and drained; no outage lasts long."""
    every_relay_in_turn(ring(10), say, both=True, bound=OUTAGE_BOUND)
