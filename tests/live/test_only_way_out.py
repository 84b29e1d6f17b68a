# SPDX-License-Identifier: MIT
"""A plant whose only way out is one front, and another one after each move: nothing is missing there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from live.fronts import PASSWORD, USER, needs
from live.node_rig import ask, until
from live.plant import AUTHORITY, NAME, PROXIED, PROXY, TLS, WAYS, WEB, Plant
from live.test_ring import Traffic
from mesh.sockets_world import Authority

from gmesh.testing.processes import ProcessNode
from gmesh.testing.twistd import twistd

pytestmark = [
    pytest.mark.live,
    pytest.mark.soak,
    needs("squid", "nginx", "haproxy"),
    pytest.mark.skipif(not Plant.allowed(), reason="no network namespaces without root and iproute2"),
]
CUT_WITHIN, BACK_WITHIN = 3.0, 60.0
LIFE = 600
"""Seconds of a certificate: the shortest there are."""
RENEWED = 0.6
"""Of that life is over: every node renews."""


class Site:
    """The authority and the anchor b, on one port and for a web server, and nodes of the plant."""

    def __init__(self, start: Any, directory: Path) -> None:
        self._start, self.directory = start, directory
        files = directory / "tls"
        files.mkdir()
        trusted, looking = Authority(files), Authority(files, "Plant Inspector")
        served, _ = trusted.endpoint(NAME, port=TLS, interface="0.0.0.0")
        looking.endpoint(NAME, name="inspector")
        opened = files / "opened.pem"
        opened.write_bytes((files / "inspector.pem").read_bytes() + (files / "inspector.key").read_bytes())
        self.roots = files / "roots.pem"
        self.roots.write_bytes(trusted.file.read_bytes() + looking.file.read_bytes())
        self._served = served
        self.secret = directory / "proxy-credentials"
        self.secret.write_text(f"{USER}:{PASSWORD}\n")
        self.secret.chmod(0o600)
        leaf = (files / "leaf.pem", files / "leaf.key", trusted.file)
        self.plant = Plant(leaf, opened)

    def begin(self) -> None:
        """The authority first, then b by way of loopback, as where one host has both."""
        local = f"http://127.0.0.1:{AUTHORITY}/authority"
        url, anchor = f"https://{NAME}/authority", f"b=wss://{NAME}/mesh"
        self.gmesh("site", "init", "net", "--network", "lab", "--authority-url", url, "--anchor", anchor)
        (self.directory / "net/operator/authority.json").write_text(json.dumps({"urls": [local, url]}))
        web = self.directory / "web.sock"
        self.daemon(
            "site", "gmesh-authority", "--state", "net/authority",
            "--listen", f"haproxy:unix:{web}:mode=600", "--listen", f"tcp:{AUTHORITY}",
        ).wait_for("ready")  # fmt: skip
        self.join("b", "anchor", "site")
        listening = (f"ws:{self._served}", f"ws:haproxy:{self._served.replace(str(TLS), str(PROXIED), 1)}")
        self.daemon(
            "site", "gmesh-node", "--state", "b", "--behind", f"unix:{web}",
            *(word for each in (*listening, f"ws:tcp:{WEB}") for word in ("--listen", each)),
        ).wait_for("local API")  # fmt: skip
        (self.directory / "net/operator/authority.json").write_text(json.dumps({"urls": [url, local]}))

    def gmesh(self, space: str, *words: str, stdin: str = "") -> str:
        roots = {"SSL_CERT_FILE": str(self.roots)}
        return self.plant.gmesh(space, self.directory, *words, stdin=stdin, **roots)

    def admin(self, *words: str) -> str:
        (self.directory / "net/operator/authority.json").write_text(
            json.dumps({"urls": [f"http://127.0.0.1:{AUTHORITY}/authority"]})
        )
        return self.gmesh("site", "admin", "--operator", "net/operator", *words)

    def join(self, name: str, role: str, space: str, *reach: str) -> None:
        operator = self.directory / "net/operator/authority.json"
        local, url = f"http://127.0.0.1:{AUTHORITY}/authority", f"https://{NAME}/authority"
        operator.write_text(json.dumps({"urls": [local, url]}))
        words = ("invite", "--name", name, "--role", role, "--lifetime", f"{LIFE}s")
        invite = self.gmesh("site", "admin", "--operator", "net/operator", *words)
        self.gmesh(space, "join", "-", "--state", name, *reach, stdin=invite)

    def daemon(self, space: str, *words: str) -> Any:
        inside = self.plant.inside(space, SSL_CERT_FILE=str(self.roots))
        return self._start(*words, program=(*inside, *twistd()))

    def node(self, name: str, *reach: str) -> Any:
        """A node of the plant that takes no certificate but those of the site and of its inspector."""
        node = self.daemon(
            "plant", "gmesh-node", "--state", name, "--tls-ca", str(self.roots), "--tls-strict", *reach
        )
        node.wait_for("local API")
        return node

    def reach(self, way: str) -> tuple[str, ...]:
        return ("--proxy", PROXY, "--proxy-credentials", str(self.secret)) if way == "squid" else ()

    def status(self, name: str) -> Any:
        return ask(self.directory / name, "GET", "/v1/status")[1]

    def over(self, name: str) -> list[str]:
        return [peer["over"] for peer in ask(self.directory / name, "GET", "/v1/peers")[1]]

    def pings(self, source: str, target: str) -> bool:
        return "rtt_ms" in ask(self.directory / source, "POST", "/v1/ping", {"node": target})[1]


@pytest.fixture
def site(start: Callable[..., Any], tmp_path: Path) -> Iterator[Site]:
    made = Site(start, tmp_path)
    tmp_path.chmod(0o755)
    with made.plant:
        made.begin()
        yield made


def test_by_each_only_way_out_a_node_joins_links_sends_receives_renews_and_is_cut(
    site: Site, record_property: Any
) -> None:
    """What it sends comes back, both ways; past half its life its certificate is renewed by that way."""
    serials = {}
    for way in WAYS[1:]:
        site.plant.attach(way)
        site.join(way, "client", "plant", *site.reach(way))
        node = site.node(way, *site.reach(way))
        until(lambda way=way: site.over(way) == ["wss" + (f" via {PROXY}" if way == "squid" else "")])
        until(lambda way=way: site.pings(way, "b") and site.pings("b", way))
        until(lambda way=way: site.status(way)["authority"]["reachable"])
        serials[way] = site.status(way)["certificate"]["serial"]
        last = site.status(way)["certificate"]["not_after"]
        assert PASSWORD not in node.stop()
    Event().wait(last - (1 - RENEWED) * LIFE - time.time())  # until they are that old
    for way, serial in serials.items():
        site.plant.attach(way)
        site.node(way, *site.reach(way))
        until(lambda way=way, serial=serial: site.status(way)["certificate"]["serial"] > serial)
        until(lambda way=way: bool(site.over(way)))
        began = time.monotonic()
        site.admin("revoke", way)
        until(lambda: not site.over("b"))
        took = time.monotonic() - began
        record_property(f"{way}_cut_seconds", took)
        assert took < CUT_WITHIN


def test_a_node_is_moved_from_one_way_to_the_next(site: Site, record_property: Any) -> None:
    """It is back within a minute, and what was acknowledged arrived once."""
    site.plant.attach("open")
    site.join("mover", "client", "plant")
    daemon = site.node("mover", *site.reach("squid"))
    until(lambda: site.pings("mover", "b"))
    mover, b = (ProcessNode(name, site.directory / name, (), ()) for name in ("mover", "b"))
    traffic = Traffic(mover, b)
    try:
        for way in (*WAYS[1:], *WAYS[:2], *reversed(WAYS[2:])):
            site.plant.attach(way)
            moved = time.monotonic()
            until(lambda moved=moved: bool(since(traffic, moved)), lambda: daemon.log[-6000:])
            back = since(traffic, moved)[0] - moved
            record_property(f"{way}_back_seconds", back)
            assert back < BACK_WITHIN
    finally:
        traffic.stop()
    until(traffic.all_arrived)
    traffic.close()
    assert set(traffic.arrived.values()) == {1}


def since(traffic: Traffic, moved: float) -> list[float]:
    """When messages were acknowledged that took no way of before: those are over in half a second."""
    return [when for when, _ in traffic.acknowledged if when > moved + 0.5]
