# SPDX-License-Identifier: MIT
"""
A process that floods a port with bad handshakes: C{flood.py PORT COUNT SUITE}.

It makes so many, and more until its standard input ends; then it says how many it made.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import sys
import threading

from gmesh.wire.preamble import encode_preamble
from gmesh.wire.suites import Suite

THREADS = 8
FIRST = 1_000_000


def address(number: int) -> str:
    """Of every stranger another: the loopback network is a /8."""
    return f"127.{16 + number // 62500 % 200}.{number // 250 % 250}.{1 + number % 250}"


def bad_handshake(port: int, number: int, preamble: bytes) -> None:
    """A first message with a fresh key and the right form, then garbage for the third; until cut off."""
    first = struct.pack(">H", 36) + os.urandom(32) + struct.pack(">I", 1)
    third = struct.pack(">H", 600) + os.urandom(600)
    source = (address(number), 0)
    with socket.create_connection(("127.0.0.1", port), timeout=600, source_address=source) as bad:
        bad.sendall(preamble + first + third)
        while bad.recv(4096):
            pass


def main() -> None:
    """As fast as this machine can."""
    port, count, preamble = int(sys.argv[1]), int(sys.argv[2]), encode_preamble(Suite.parse(sys.argv[3]))
    numbers = itertools.count(FIRST)
    made: list[int] = []
    wanted = threading.Event()
    wanted.set()

    def work() -> None:
        while (number := next(numbers)) < FIRST + count or wanted.is_set():
            with contextlib.suppress(ConnectionError):
                bad_handshake(port, number, preamble)
            made.append(number)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    wanted.clear()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{len(made)}\n")


if __name__ == "__main__":
    main()
