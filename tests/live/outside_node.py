# SPDX-License-Identifier: MIT
"""
A node written from docs/protocol alone: it links, keeps alive, signs a record, speaks end to end.

Imports nothing of gmesh.  It blocks, dials one neighbour, and believes nothing that it has not checked.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from select import select
from struct import calcsize, pack, unpack_from
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from live.outside_noise import Handshake

SUITES = {
    "Noise_XX_25519_ChaChaPoly_SHA256": 1,
    "Noise_XX_25519_AESGCM_SHA256": 2,
    "Noise_XX_25519_ChaChaPoly_BLAKE2s": 3,
    "Noise_XX_25519_AESGCM_BLAKE2s": 4,
}
HELLO, PING, PONG, REKEY, CLOSE, LSA, E2E_INIT, E2E_RESP, E2E_DATA = 1, 2, 3, 4, 5, 16, 64, 65, 66
DATAGRAM = 1
DEADLINE = 180.0
HELLO_HEAD = ">8sBQQQQQI"
HELLO_FIELDS = ("boot", "flags", "clock", "serial", "status", "crl", "policy", "genesis")


def unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def frame(kind: int, body: bytes) -> bytes:
    return pack(">HB", len(body), kind) + body


def frames(record: bytes) -> Iterator[tuple[int, bytes]]:
    while record:
        size, kind = unpack_from(">HB", record)
        assert len(record) >= 3 + size
        yield kind, record[3 : 3 + size]
        record = record[3 + size :]


def verify(document: dict[str, Any], authority: bytes) -> dict[str, Any]:
    """The signed part of a document that this authority alone has signed."""
    signed: dict[str, Any] = document["signed"]
    (entry,) = document["signatures"]
    assert entry["key_id"] == sha256(authority).hexdigest()[:32]
    message = b"gmesh-signature-v1\0" + signed["type"].encode() + b"\0" + rfc8785.dumps(signed)
    Ed25519PublicKey.from_public_bytes(authority).verify(unbase64(entry["signature"]), message)
    return signed


def revoked(crl: dict[str, Any], certificate: dict[str, Any]) -> bool:
    """Whether a CRL names a certificate: alone, with its node, or by the node's key."""
    node_id = sha256(unbase64(certificate["node_key"])).hexdigest()[:32]
    below = {entry[0]: entry[1] for entry in crl["revoked_nodes"]}
    return (
        certificate["serial"] in [entry[0] for entry in crl["revoked"]]
        or certificate["serial"] < below.get(node_id, 0)
        or node_id in [entry[0] for entry in crl["revoked_keys"]]
    )


def follow(crl: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """The CRL document that a delta leads to."""
    assert crl["number"] == delta["from_number"]
    signed = {name: delta[name] for name in ("network_id", "number", "issued_at", "next_update")}
    signed["type"] = "crl"
    for table, added, end in (
        ("revoked", "added", 1),
        ("revoked_nodes", "added_nodes", 2),
        ("revoked_keys", "added_keys", 1),
    ):
        rows = {row[0]: row for row in crl[table] if row[end] >= delta["drop_expired_before"]}
        rows |= {row[0]: row for row in delta[added]}
        signed[table] = [rows[name] for name in sorted(rows)]
    return {"signed": signed, "signatures": delta["result_signatures"]}


def handle(certificate: dict[str, Any]) -> bytes:
    return sha256(unbase64(certificate["node_key"])).digest()[:8]


class OutsideNode:
    """
    @param state: a directory that C{gmesh join} has made.
    @param suite: the suite to propose, one of the genesis.
    """

    def __init__(self, state: Path, suite: str) -> None:
        identity = load_pem_private_key((state / "identity.key").read_bytes(), None)
        noise = load_pem_private_key((state / "noise.key").read_bytes(), None)
        assert isinstance(identity, Ed25519PrivateKey) and isinstance(noise, X25519PrivateKey)
        self.identity, self.noise, self.suite = identity, noise, suite
        document = (state / "certificate.json").read_bytes()
        self.shown = pack(">H", len(document)) + document
        self.certificate = json.loads(document)["signed"]
        self.genesis = json.loads((state / "genesis.json").read_bytes())["signed"]
        self.authority = unbase64(self.genesis["authority"][0]["key"])
        self.crl = verify(json.loads((state / "crl.json").read_bytes()), self.authority)
        self.network = bytes.fromhex(self.certificate["network_id"])
        self.seen: list[tuple[int, bytes]] = []

    # -- a link

    def close(self) -> None:
        self.socket.close()

    def connect(self, address: tuple[str, int]) -> dict[str, Any]:
        """Preamble, Noise XX, HELLO. @return: the neighbour's HELLO, field by field."""
        self.socket = socket.create_connection(address, timeout=DEADLINE)
        preamble = b"gmesh" + bytes([1, SUITES[self.suite], 0])
        version = pack(">I", self.genesis["version"])
        noise = Handshake(self.suite, preamble + self.network, self.noise)
        self.socket.sendall(preamble)
        self._put(noise.write("e", version))
        answer = noise.read("e ee s es", self._record())
        end = 6 + unpack_from(">H", answer, 4)[0]
        self.neighbour = self._believe(answer[6:end], noise.remote)
        assert answer[end:] == b"\0", "we lack no genesis"
        self._put(noise.write("s se", version + self.shown + b"\0"))
        self.out, self.into = noise.split()
        now, serial = int(time.time() * 1000), self.certificate["serial"]
        head = pack(HELLO_HEAD, os.urandom(8), 1, now, serial, 0, 0, 0, self.genesis["version"])
        texts = [b"outside/1", "{}:{}".format(*self.socket.getpeername()).encode()]
        self.send(HELLO, head + bytes(2048) + b"".join(bytes([len(text)]) + text for text in texts))
        body = self.wait(HELLO)
        hello = dict(zip(HELLO_FIELDS, unpack_from(HELLO_HEAD, body), strict=True))
        for name, start in (("software", calcsize(HELLO_HEAD) + 2048), ("seen", None)):
            begin = end + 1 if start is None else start + 1
            end = begin + body[begin - 1]
            hello[name] = body[begin:end].decode()
        return hello

    def _believe(self, document: bytes, proven: bytes) -> dict[str, Any]:
        certificate = verify(json.loads(document), self.authority)
        assert certificate["type"] == "certificate"
        assert bytes.fromhex(certificate["network_id"]) == self.network
        assert certificate["not_before"] - 300 <= time.time() <= certificate["not_after"] + 300
        assert unbase64(certificate["noise_key"]) == proven
        assert not revoked(self.crl, certificate), "revoked"
        return certificate

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the other end hung up"
            data += more
        return data

    def _record(self) -> bytes:
        return self._exactly(unpack_from(">H", self._exactly(2))[0])

    def _put(self, message: bytes) -> None:
        self.socket.sendall(pack(">H", len(message)) + message)

    def send(self, kind: int, body: bytes) -> None:
        """One frame as one record."""
        self._put(self.out.seal(frame(kind, body)))
        if kind == REKEY:
            self.out.rekey()

    def wait(self, wanted: int) -> bytes:
        """@return: the body of the next frame of that kind. A PING before it is answered, others are kept."""
        end = time.monotonic() + DEADLINE
        while True:
            assert time.monotonic() < end, f"no frame of kind {wanted} came"
            for index, (kind, body) in enumerate(self.seen):
                if kind == wanted:
                    del self.seen[index]
                    return body
            self.take(wanted)

    def take(self, wanted: int = PING) -> None:
        """The frames of one record: a PING is answered, all are kept."""
        for kind, body in frames(self.into.open(self._record())):
            assert kind != CLOSE or wanted == CLOSE, f"CLOSE {body[0]}"
            if kind == PING:
                self.send(PONG, body)
            if kind == REKEY:
                self.into.rekey()
            self.seen.append((kind, body))

    def keep_alive(self) -> None:
        """Take what has come, and answer it: a neighbour that says nothing for 15 s is given up."""
        while select([self.socket], [], [], 0)[0]:
            self.take()

    # -- routing

    def announce(self, addresses: Sequence[str] = ()) -> None:
        """A node record with the one link we have, and these addresses in it as they are."""
        now = int(time.time())
        record = b"\x01" + self.network + unbase64(self.certificate["node_key"])
        record += pack(">QBQQHBHB", self.certificate["serial"], 0, now << 20, now, 3600, 0, 0, 1)
        told = b"".join(bytes([1, len(text)]) + text.encode() for text in sorted(addresses))
        record += handle(self.neighbour) + pack(">HH", 96, len(told)) + told
        record += self.identity.sign(b"gmesh-lsa-v1\0" + record)
        self.send(LSA, pack(">HH", 1, len(record)) + record)

    # -- end to end

    def pose(self, source: bytes, target: bytes, number: int) -> None:
        """To the neighbour: a first message of C{source} that nobody wrote, as if we were the hop before."""
        path = source + handle(self.certificate) + handle(self.neighbour) + target
        self.send(E2E_INIT, bytes([0, 2, 0, 4]) + path + pack(">IQ", 0, number) + bytes(200))

    def babble(self, times: int) -> None:
        """To the neighbour: so many first messages of ours that show nobody."""
        path = bytes([0, 1, 0, 2]) + handle(self.certificate) + handle(self.neighbour)
        for number in range(times):
            self.send(E2E_INIT, path + pack(">IQ", 0, number) + bytes(200))

    def mac(self, known: bytes, covered: bytes) -> bytes:
        """What shows the owner of this static key that we wrote a first message."""
        secret = self.noise.exchange(X25519PublicKey.from_public_bytes(known))
        names = sorted((self.noise.public_key().public_bytes_raw(), known))
        key = hmac.digest(secret, b"gmesh-e2e-mac/1" + self.network + b"".join(names), "sha256")
        return hmac.digest(key, covered, "sha256")[:16]

    def echo(self, data: bytes) -> bytes:
        """
        A sealed session to the neighbour, and one request to its echo.

        @param data: nonce, stamp and padding.
        @return: the data of the reply.
        """
        here, there = handle(self.certificate), handle(self.neighbour)
        path, back = bytes([0, 1, 0, 2]) + here + there, bytes([0, 1, 0, 2]) + there + here
        prologue = b"gmesh-e2e/1" + bytes([SUITES[self.suite]]) + self.network + here + there
        known = unbase64(self.neighbour["noise_key"])
        noise = Handshake(self.suite.replace("_XX_", "_IK_"), prologue, self.noise, known)
        number, mine = int(time.time()) << 20, 77
        payload = self.shown + pack(">QIQ", number, mine, 0)
        message = noise.write("e es s ss", payload)
        shown = self.mac(known, here + there + pack(">Q", number) + sha256(message).digest())
        self.send(E2E_INIT, path + pack(">IQ", 0, number) + message + shown)
        answer = self.wait(E2E_RESP)
        assert answer[:32] == back + pack(">IQ", mine, number)
        theirs, answered, _, serial = unpack_from(">IQQQ", noise.read("e ee se", answer[32:]))
        assert (answered, serial) == (number, self.neighbour["serial"])
        out, into = noise.split()
        request = frame(DATAGRAM, pack(">BQB", 0, 0, 5) + b"_echo\x01" + data)
        tail = pack(">IQ", theirs, 0)
        covered = bytes([E2E_DATA, 0]) + here + there + tail
        self.send(E2E_DATA, path + tail + out.seal(request, covered, 0))
        while True:
            body = self.wait(E2E_DATA)
            receiver, counter = unpack_from(">IQ", body, 20)
            assert body[:20] == back and receiver == mine
            covered = bytes([E2E_DATA, body[2]]) + body[4:32]
            for kind, inner in frames(into.open(body[32:], covered, counter)):
                if kind == DATAGRAM and inner[10:15] == b"_echo":
                    return inner[15:]
