# SPDX-License-Identifier: MIT
"""Real daemons behind real squid, nginx and HAProxy: joined, linked, served and cut, as in the open."""

from __future__ import annotations

import json
import math
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from ssl import create_default_context
from typing import Any

import pytest
from live.fronts import PASSWORD, USER, haproxy, needs, nginx, squid
from live.node_rig import ask, until
from mesh.sockets_world import Authority

pytestmark = pytest.mark.live
WITHIN = pytest.mark.parametrize("within", [math.inf, pytest.param(3.0, marks=pytest.mark.soak)])
"""Seconds until a revoked node is cut, on a host that does nothing else."""


class Site:
    """An authority, the anchor b and the client a; how they reach each other is for the test to say."""

    def __init__(
        self, gmesh: Any, start: Any, directory: Path, url: str, port: int, anchor: str, *reach: str
    ) -> None:
        self.gmesh, self.start, self.directory, self.reach = gmesh, start, directory, reach
        gmesh("init", "net", "--network", "lab", "--authority-url", url, "--anchor", f"b={anchor}")
        self.authority = start(
            "gmesh-authority", "--state", "net/authority", "--listen", f"tcp:{port}:interface=127.0.0.1"
        )
        self.authority.wait_for("ready")

    def admin(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.gmesh("admin", "--operator", "net/operator", *self.reach, *words)

    def node(self, name: str, role: str, *options: str) -> Any:
        """Joins and starts, as every host of this site does."""
        invite = self.admin("invite", "--name", name, "--role", role).stdout
        self.gmesh("join", "-", "--state", name, *self.reach, stdin=invite)
        node = self.start("gmesh-node", "--state", name, *options)
        node.wait_for("local API")
        return node

    def linked(self, name: str) -> list[dict[str, Any]]:
        return ask(self.directory / name, "GET", "/v1/peers")[1]

    def sends(self, source: str, target: str) -> None:
        """What is sent to the other end comes back."""
        until(lambda: self.gmesh("ping", target, "--state", source, check=False).returncode == 0)

    def is_cut(self, name: str, at: str) -> float:
        """Revoke a node. @return: the seconds from then on until the anchor had no link to it."""
        self.admin("revoke", name)
        began = time.monotonic()
        until(lambda: not [peer for peer in self.linked(at) if peer["name"] == name])
        return time.monotonic() - began


@WITHIN
@needs("squid")
def test_the_only_way_out_is_squid_with_credentials_and_connect_to_one_port(
    gmesh: Callable[..., Any],
    start: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
    within: float,
) -> None:
    """No resolver but squid's knows the hosts: joining, links, requests and commands go through it."""
    authority, tls, port = free_port(), free_port(), free_port()
    files = tmp_path / "tls"
    files.mkdir()
    served, _ = Authority(files).endpoint("anchor.invalid", port=tls)
    secret = tmp_path / "proxy-credentials"
    secret.write_text(f"{USER}:{PASSWORD}\n")
    secret.chmod(0o600)
    hosts = {"authority_invalid": "127.0.0.1", "anchor_invalid": "127.0.0.1"}
    with squid(port, tls, **hosts) as proxy:
        reach = ("--proxy", proxy, "--proxy-credentials", str(secret))
        url, anchor = f"http://authority.invalid:{authority}", f"tls://anchor.invalid:{tls}"
        site = Site(gmesh, start, tmp_path, url, authority, anchor, *reach)
        refused = gmesh("admin", "--operator", "net/operator", "--proxy", proxy, "nodes", check=False)
        assert refused.returncode == 1 and "wants a user and a password (407)" in refused.stderr
        b = site.node("b", "anchor", "--listen", served, *reach)
        ca = str(files / "Test-Authority.pem")
        a = site.node("a", "client", "--tls-ca", ca, "--tls-strict", *reach)
        until(lambda: [peer["over"] for peer in site.linked("a")] == [f"tls via {proxy}"])
        site.sends("a", "b")
        until(lambda: all(row["numbers"] for row in json.loads(site.admin("nodes", "--json").stdout)))
        assert site.is_cut("a", "b") < within
        for log in (a.stop(), b.stop()):
            assert PASSWORD not in log


@WITHIN
@needs("nginx")
def test_behind_nginx_on_the_port_of_a_site(
    gmesh: Callable[..., Any],
    start: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
    within: float,
) -> None:
    """A WebSocket below C{/mesh}; the site is served beside it; the anchor knows whose link it is."""
    authority, front, port = free_port(), free_port(), free_port()
    files = tmp_path / "tls"
    files.mkdir()
    trusted = Authority(files)
    trusted.endpoint("localhost")
    with nginx(tmp_path / "nginx", front, port, files / "leaf.pem", files / "leaf.key"):
        anchor = f"wss://localhost:{front}/mesh"
        site = Site(gmesh, start, tmp_path, f"http://127.0.0.1:{authority}", authority, anchor)
        site.node("b", "anchor", "--listen", f"ws:tcp:{port}:interface=127.0.0.1")
        site.node("a", "client", "--tls-ca", str(trusted.file), "--tls-strict")
        until(lambda: [peer["over"] for peer in site.linked("a")] == ["wss"])
        [peer] = site.linked("b")
        assert peer["over"] == "ws" and peer["address"] == "127.0.0.1:0"
        site.sends("a", "b")
        context = create_default_context(cafile=str(trusted.file))
        with urllib.request.urlopen(f"https://localhost:{front}/", context=context, timeout=60) as answer:
            assert answer.read() == b"a site\n"
        assert site.is_cut("a", "b") < within


@WITHIN
@needs("haproxy")
def test_behind_haproxy_that_passes_tls_through(
    gmesh: Callable[..., Any],
    start: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
    within: float,
) -> None:
    """The PROXY header, version 2, stands before TLS: the anchor knows the true address."""
    authority, front, port = free_port(), free_port(), free_port()
    files = tmp_path / "tls"
    files.mkdir()
    trusted = Authority(files)
    served, _ = trusted.endpoint("127.0.0.2", port=port)
    with haproxy(tmp_path / "haproxy", front, port):
        site = Site(
            gmesh, start, tmp_path, f"http://127.0.0.1:{authority}", authority, f"tls://127.0.0.2:{front}"
        )
        site.node("b", "anchor", "--listen", f"haproxy:{served}")
        site.node("a", "client", "--tls-ca", str(trusted.file), "--tls-strict")
        until(lambda: [peer["over"] for peer in site.linked("a")] == ["tls"])
        [peer] = site.linked("b")
        assert peer["address"].startswith("127.0.0.1:")  # not 127.0.0.3, from where HAProxy connects
        site.sends("a", "b")
        assert site.is_cut("a", "b") < within
