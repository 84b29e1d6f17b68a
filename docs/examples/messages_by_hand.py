# SPDX-License-Identifier: MIT
"""
Messages in frames, with nothing but a socket.

    python messages_by_hand.py SOCKET send boiler readings 21.5
    python messages_by_hand.py SOCKET serve readings
"""

import socket
import struct
import sys

SEND, SERVE, DONE, SENT, FAILED, MESSAGE = 0, 2, 4, 17, 18, 20


def text(words):
    return bytes([len(words)]) + words


def write(stream, kind, tag, body):
    stream.write(struct.pack(">II", kind << 24 | 4 + len(body), tag) + body)
    stream.flush()


def read(stream):
    head, tag = struct.unpack(">II", stream.read(8))
    return head >> 24, tag, stream.read((head & 0xFFFFFF) - 4)


def texts(body, count):
    """So many texts, and what is behind them."""
    for _ in range(count):
        yield body[1 : 1 + body[0]]
        body = body[1 + body[0] :]
    yield body


def main(path, act, *names):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    stream = connection.makefile("rwb")
    stream.write(b"GET /v1/messages HTTP/1.1\r\nHost: node\r\n")
    stream.write(b"Connection: Upgrade\r\nUpgrade: gmesh-messages\r\n\r\n")
    stream.flush()
    status = stream.readline()
    while stream.readline() not in (b"\r\n", b""):
        pass
    if b" 101 " not in status:
        sys.exit(status.decode())
    if act == "send":
        node, service, words = (name.encode() for name in names)
        write(stream, SEND, 1, struct.pack(">I", 10_000) + text(node) + text(service) + text(b"") + words)
    else:
        write(stream, SERVE, 1, struct.pack(">H", 1) + text(names[0].encode()))
    while True:
        kind, tag, body = read(stream)
        if kind == FAILED:
            slug, detail = texts(body, 1)
            sys.exit(f"{slug.decode()}: {detail.decode()}")
        elif kind == SENT:
            print(body[4:].decode())
            return
        elif kind == MESSAGE:
            sender, _, _, data = texts(body[21:], 3)
            again = " (again)" if body[4] & 1 else ""
            print(f"{sender.decode()}: {data.decode()}{again}", flush=True)
            write(stream, DONE, tag, b"%d bytes" % len(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
