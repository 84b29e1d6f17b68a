# SPDX-License-Identifier: MIT
"""The authority below a path of a web server, as its URL in the genesis says: real nginx, real daemons."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]

NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /mesh/ {{
            proxy_pass http://127.0.0.1:{authority}{end};
        }}
    }}
}}
"""
DEADLINE = 180.0


@contextmanager
def nginx(directory: Path, **settings: Any) -> Iterator[None]:
    """A web server that passes on what comes to C{/mesh/}."""
    directory.mkdir()
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, **settings))
    process = subprocess.Popen(["nginx", "-p", directory, "-e", "stderr", "-c", configuration])
    try:
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("end", ["", "/"], ids=["left on", "taken off"])
def test_d11_an_authority_below_a_path_of_nginx(
    gmesh: Callable[..., Any],
    start: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
    end: str,
) -> None:
    """C{proxy_pass} with a slash at its end takes C{/mesh} off, without one leaves it on: both work."""
    front, authority = free_port(), free_port()
    url = f"http://127.0.0.1:{front}/mesh"
    gmesh("init", "net", "--network", "lab", "--authority-url", url)
    daemon = start(
        "gmesh-authority", "--state", "net/authority",
        "--listen", f"tcp:{authority}:interface=127.0.0.1", "--trusted-proxy", "127.0.0.1",
    )  # fmt: skip
    daemon.wait_for("ready")
    began = int(time.time())
    with nginx(tmp_path / "nginx", port=front, authority=authority, end=end):
        until(lambda: answers(f"{url}/readyz"))
        admin = ("admin", "--operator", "net/operator")
        invite = gmesh(*admin, "invite", "--name", "a", "--role", "client").stdout
        gmesh("join", "-", "--state", "a", stdin=invite)
        node = start("gmesh-node", "--state", "a")
        node.wait_for("local API")

        def heard() -> bool:
            [row] = json.loads(gmesh(*admin, "nodes", "--json").stdout)
            return bool(row["last_seen"] and row["last_seen"] >= began and row["numbers"])

        until(heard)
        node.stop()
    daemon.stop()
