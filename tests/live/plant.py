# SPDX-License-Identifier: MIT
"""
A plant in a network namespace, from which one way at a time leads to the site, in another.

The site is C{mesh.invalid}: the authority, and an anchor on port 443 with it.  Each way but the open one is
a host between the two, a namespace that forwards nothing: squid, nginx, HAProxy, or HAProxy as a proxy that
opens TLS to look inside.  Whoever is in the plant reaches what that host serves, and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from live.fronts import HAPROXY, NGINX, SQUID, USERS, running
from live.test_ring import Namespaces

__all__ = ["NAME", "PROXY", "WAYS", "Plant"]

NAME = "mesh.invalid"
WAYS = ("open", "squid", "nginx", "haproxy", "inspector")
TLS, PROXIED, WEB, AUTHORITY, PROXY_PORT = 443, 444, 7080, 8440, 3128
PROXY = f"http://proxy.invalid:{PROXY_PORT}"
INSPECTOR = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend opened
    bind :{tls} ssl crt {pem}
    default_backend anchor
backend anchor
    server anchor {site}:{tls} ssl verify required verifyhost {name} sni str({name}) ca-file {ca}
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Plant:
    """
    The namespaces, and which way is open.

    @param site: the certificate and the key of the site, and the authority that signed it, in PEM.
    @param inspector: the certificate and the key of the proxy that opens TLS, in one file.
    """

    def __init__(self, site: tuple[Path, Path, Path], inspector: Path) -> None:
        self._certificate, self._key, self._ca = site
        self._inspector = inspector
        self._prefix = f"gmesh-{os.getpid()}"
        self._made = ExitStack()
        self._hosts = Path("/etc/netns") / self.space("plant") / "hosts"

    allowed = staticmethod(Namespaces.allowed)

    def space(self, name: str) -> str:
        """The namespace of one."""
        return f"{self._prefix}-{name}"

    def inside(self, name: str, **environment: str) -> tuple[str, ...]:
        """What a command is run behind to be there."""
        given = [f"{key}={value}" for key, value in environment.items()]
        return ("ip", "netns", "exec", self.space(name), *(["env", *given] if given else []))

    def __enter__(self) -> Plant:
        with ExitStack() as made:
            self._make(made)
            self._made = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def _make(self, made: ExitStack) -> None:
        self._hosts.parent.mkdir(parents=True)
        made.callback(self._hosts.parent.rmdir)
        self._hosts.write_text("")  # mounted over /etc/hosts of whoever is started in the plant
        made.callback(self._hosts.unlink)
        for name in ("site", "plant", *WAYS[1:]):
            _ip("netns", "add", self.space(name))
            made.callback(_ip, "netns", "delete", self.space(name))
            _ip("-n", self.space(name), "link", "set", "lo", "up")
        for number, way in enumerate(WAYS):
            self._cable(f"p{number}", "plant", way if number else "site", 77, number)
            if number:
                self._cable(f"s{number}", way, "site", 78, number)
        for number, way in enumerate(WAYS[1:], start=1):
            made.enter_context(self._front(way, f"10.78.{number}.2"))

    def _cable(self, device: str, near: str, far: str, network: int, number: int) -> None:
        ends = (self.space(near), self.space(far))
        _ip("link", "add", device, "netns", ends[0], "type", "veth", "peer", device, "netns", ends[1])
        for host, space in enumerate(ends, start=1):
            _ip("-n", space, "address", "add", f"10.{network}.{number}.{host}/30", "dev", device)
            _ip("-n", space, "link", "set", device, "up" if network == 78 or host == 2 else "down")

    @contextmanager
    def _front(self, way: str, site: str) -> Iterator[None]:
        with TemporaryDirectory() as made:  # where the user that squid becomes can read
            directory = Path(made)
            directory.chmod(0o777)
            text, command = self._configured(way, directory, site)
            configuration = directory / "configuration"
            configuration.write_text(text)
            with running(directory, "", *self.inside(way), *command, str(configuration)):
                yield

    def _configured(self, way: str, directory: Path, site: str) -> tuple[str, tuple[str, ...]]:
        if way == "squid":
            (directory / "hosts").write_text(f"{site} {NAME}\n")
            (directory / "users.sh").write_text(USERS)
            text = SQUID.format(
                directory=directory, host="10.77.1.2", port=PROXY_PORT, tls=TLS, user="nobody"
            )
            return text.replace("allow known", "allow CONNECT known"), ("squid", "-N", "-f")
        if way == "nginx":
            text = NGINX.format(
                directory=directory, host="10.77.2.2", port=TLS, certificate=self._certificate, key=self._key,
                site=site, node=WEB,
            )  # fmt: skip
            authority = f"location /authority/ {{ proxy_pass http://{site}:{AUTHORITY}; }}\n location / {{"
            return text.replace("location / {", authority), (
                "nginx", "-p", str(directory), "-e", "stderr", "-c",
            )  # fmt: skip
        if way == "haproxy":
            return HAPROXY.format(host="10.77.3.2", port=TLS, source="", site=site, node=PROXIED), (
                "haproxy", "-f",
            )  # fmt: skip
        return INSPECTOR.format(tls=TLS, pem=self._inspector, site=site, name=NAME, ca=self._ca), (
            "haproxy", "-f",
        )  # fmt: skip

    def attach(self, way: str) -> None:
        """From now on this way leads out of the plant, and no other: cables, and what names mean there."""
        for number in range(len(WAYS)):
            _ip("-n", self.space("plant"), "link", "set", f"p{number}", "down")
        number = WAYS.index(way)
        name = "proxy.invalid" if way == "squid" else NAME
        self._hosts.write_text(f"10.77.{number}.2 {name}\n")
        _ip("-n", self.space("plant"), "link", "set", f"p{number}", "up")

    def gmesh(self, space: str, directory: Path, *words: str, stdin: str = "", **environment: str) -> str:
        """A command of a user there. @return: what it says."""
        program = Path(sys.executable).with_name("gmesh")
        done = subprocess.run(
            [*self.inside(space, **environment), str(program), *words],
            cwd=directory, input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"gmesh {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout
