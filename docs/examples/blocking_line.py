# SPDX-License-Identifier: MIT
"""
A script without Twisted asks the service of C{lines.py}.

    python blocking_line.py pump-07 lines hello
"""

import sys

from gmesh.client import SocketRefused, open_socket


def main(node, service, *words):
    try:
        with open_socket(node, service) as stream:
            stream.sendall(" ".join(words).encode() + b"\r\n")
            print(stream.makefile().readline().rstrip())
    except SocketRefused as refusal:
        raise SystemExit(f"{refusal.reason}: {refusal}") from refusal


if __name__ == "__main__":
    main(*sys.argv[1:])
