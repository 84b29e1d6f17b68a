# SPDX-License-Identifier: MIT
"""
What an attacker writes where an address belongs: endpoint strings of Twisted that do more than dial.

They open files, devices and sockets of this host, bind, wait, or wrap one in another.
"""

from __future__ import annotations

HOSTILE = (
    "unix:/run/gmesh/node.sock",
    "unix:/run/gmesh/node.sock:timeout=99999:lockfile=1",
    "ssl:127.0.0.1:1:certKey=/dev/ptmx:privateKey=/dev/ptmx",
    "ssl:127.0.0.1:1:privateKey=/dev/zero",
    "ssl:127.0.0.1:1:caCertsDir=/proc/self/fd",
    "ssl:127.0.0.1:1",
    "tcp:127.0.0.1:1:bindAddress=127.0.0.1",
    "tcp:127.0.0.1:1:timeout=99999",
    "tcp:127.0.0.1:port=1",
    "tcp:host=127.0.0.1:port=1",
    "tls:127.0.0.1:1:trustRoots=/dev",
    "tls:127.0.0.1:1:certificate=/dev/ptmx",
    "tls:127.0.0.1:1:endpoint=unix\\:/run/gmesh/node.sock",
    "systemd:domain=INET:index=0",
    "autobahn:tcp\\:127.0.0.1\\:1:url=ws\\://127.0.0.1",
    "haproxy:tcp:1:2",
    "stdio:0",
)
