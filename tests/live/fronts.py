# SPDX-License-Identifier: MIT
"""Real squid, nginx and HAProxy of Debian on loopback, each with a configuration of one test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from live.node_rig import PATIENCE
from twisted.python.procutils import which

from gmesh.testing.patience import ProcessPatience

HERE = "127.0.0.1"
USER, PASSWORD = "aladdin", "open-sesame"

SQUID = """
http_port {host}:{port}
pid_filename none
cache deny all
access_log none
cache_log {directory}/cache.log
coredump_dir {directory}
visible_hostname proxy.invalid
hosts_file {directory}/hosts
dns_nameservers 127.0.0.1
shutdown_lifetime 0 seconds
cache_effective_user {user}
auth_param basic program /bin/sh {directory}/users.sh
auth_param basic children 1
acl known proxy_auth REQUIRED
acl CONNECT method CONNECT
acl tls port {tls}
http_access deny CONNECT !tls
http_access allow known
http_access deny all
"""
USERS = f"""
while read -r user password; do
    if [ "$user $password" = "{USER} {PASSWORD}" ]; then echo OK; else echo ERR; fi
done
"""
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
        listen {host}:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{
            return 200 "a site\\n";
        }}
        location /mesh {{
            proxy_pass http://{site}:{node};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_read_timeout 60s;
        }}
    }}
}}
"""
HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend mesh
    bind {host}:{port}
    default_backend anchor
backend anchor
{source}
    server anchor {site}:{node} send-proxy-v2
"""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip, and say so, where one of these is not installed."""
    missing = [name for name in programs if not which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} of Debian not installed")


@contextmanager
def running(directory: Path, ready: str, *command: str) -> Iterator[None]:
    """One of them, from when it takes connections at C{HOST:PORT}, if given, until the block ends."""
    with open(directory / "output", "wb") as output:
        process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=output)
    try:
        host, _, port = ready.rpartition(":")
        patience = ProcessPatience(PATIENCE)
        while ready:
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                said = (directory / "output").read_text(errors="replace")
                assert process.poll() is None and patience.lasts(), said
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def squid(port: int, tls: int, **hosts: str) -> Iterator[str]:
    """
    A proxy that wants credentials, and lets CONNECT through to the port C{tls} alone.

    @param hosts: addresses by host names that nobody else knows, their dots as underscores.
    @return: its URL.
    """
    with TemporaryDirectory() as made:  # where the user that squid becomes can read
        directory = Path(made)
        directory.chmod(0o777)
        names = [f"{address} {name.replace('_', '.')}" for name, address in hosts.items()]
        (directory / "hosts").write_text("\n".join(names) + "\n")
        (directory / "users.sh").write_text(USERS)
        text = SQUID.format(directory=directory, host=HERE, port=port, tls=tls, user="nobody")
        (directory / "squid.conf").write_text(text)
        with running(directory, f"127.0.0.1:{port}", "squid", "-N", "-f", str(directory / "squid.conf")):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx(directory: Path, port: int, node: int, certificate: Path, key: Path) -> Iterator[None]:
    """A web site in TLS, whose path C{/mesh} is a node's WebSocket."""
    directory.mkdir()
    configuration = directory / "nginx.conf"
    text = NGINX.format(
        directory=directory, host=HERE, port=port, site=HERE, node=node, certificate=certificate, key=key
    )
    configuration.write_text(text)
    with running(
        directory,
        f"127.0.0.1:{port}",
        "nginx",
        "-p",
        str(directory),
        "-e",
        "stderr",
        "-c",
        str(configuration),
    ):
        yield


@contextmanager
def haproxy(directory: Path, port: int, node: int) -> Iterator[None]:
    """Before a node in TCP mode: takes at 127.0.0.2, connects from 127.0.0.3, says for whom."""
    directory.mkdir()
    (directory / "haproxy.cfg").write_text(
        HAPROXY.format(host="127.0.0.2", port=port, source="    source 127.0.0.3", site=HERE, node=node)
    )
    with running(directory, f"127.0.0.2:{port}", "haproxy", "-f", str(directory / "haproxy.cfg")):
        yield
