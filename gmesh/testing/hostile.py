# SPDX-License-Identifier: MIT
"""
A member that turns on the others, and what it can do to them, on a mesh in memory.

A behaviour goes on until it is stopped, against all other nodes in turn, or against the one that is named::

    hostile = Hostile(mesh, "m")
    hostile.begin("forged handshakes", against="pump-07")
    mesh.run(60)
    hostile.stop()

The node goes on to be what it is meanwhile: it keeps its links, and its own frames pass.
Tests: C{tests/testing/test_hostile.py}, C{tests/node/test_floods_of_log.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.internet.task import LoopingCall

from gmesh.errors import GmeshError
from gmesh.mesh.dials import TargetState
from gmesh.routing.record import NodeRecord, RecordFlag, make_capabilities, signing_input
from gmesh.testing.mesh import MemoryMesh, MemoryNode
from gmesh.trust.documents import sign_document
from gmesh.wire.frames import Kind, is_data
from gmesh.wire.limits import HANDLE
from gmesh.wire.messages import (
    CertAnswer,
    CertificateKey,
    CertRequest,
    CloseReason,
    CommandRequest,
    DocumentPush,
    DocumentRequest,
    Lsa,
    PathRequest,
    Ping,
    RecordKey,
    SyncDigest,
    SyncWant,
)
from gmesh.wire.paths import AT_PATH, PathHeader, pack_path_frame

__all__ = ["BEHAVIOURS", "Behaviour", "Hostile"]

_BACKLOG = 64 * 1024
"""Bytes of control frames that may wait at a link: more are left out, as a full socket would make it wait."""


class Hostile:
    """
    What one node of a L{MemoryMesh} does to the others.

    @param name: of the node.
    @ivar turn: how often it has acted.
    @ivar against: the node it is against; None for all others in turn.
    """

    def __init__(self, mesh: MemoryMesh, name: str) -> None:
        self.mesh = mesh
        self.node = mesh[name]
        self.turn = 0
        self.against: MemoryNode | None = None
        self._calls: list[LoopingCall] = []
        self._twin: MemoryNode | None = None

    def begin(self, behaviour: str, against: str | None = None) -> None:
        """
        Behave so from now on, beside what was begun before.

        @param behaviour: a key of L{BEHAVIOURS}.
        """
        chosen = BEHAVIOURS[behaviour]
        self.against = None if against is None else self.mesh[against]

        def again() -> None:
            self.turn += 1
            chosen.act(self)

        call = LoopingCall(again)
        call.clock = self.mesh.clock
        self._calls.append(call)
        call.start(chosen.every)

    def stop(self) -> None:
        """Be honest again."""
        for call in self._calls:
            call.stop()
        self._calls.clear()
        self.node.tampers = None
        if self._twin is not None:
            self._twin.kill()
            self._twin = None

    # what behaviours are made of

    def send(self, kind: Kind, *bodies: bytes) -> None:
        """Control frames to every neighbour; one that has hung up is dialled at once."""
        links: list[Any] = self.node.runtime.links()
        if not links:
            self.dial()
        for link in links:
            for body in bodies:
                if link.control_backlog < _BACKLOG:
                    link.send_control(kind, body)

    def dial(self) -> None:
        """Dial whatever waits, now."""
        dialler = self.node.runtime.dialler
        for target in dialler.targets:
            if target.state in (TargetState.WAITING, TargetState.REFUSED):
                target.cancel()
                dialler._due(target)

    def victims(self) -> list[MemoryNode]:
        """The node it is against, or all others."""
        others = [node for node in self.mesh if node is not self.node]
        return others if self.against is None else [self.against]

    def victim(self) -> MemoryNode:
        """One of them, the next each turn."""
        victims = self.victims()
        return victims[self.turn % len(victims)]

    def frame(self, kind: Kind, source: bytes, target: bytes, size: int) -> None:
        """A frame with nothing good in it, by the path of this node, from a source that may be another."""
        runtime, own = self.node.runtime, self.node.handle
        links: dict[bytes, Any] = {link.peer.handle: link for link in runtime.links()}
        path = runtime.engine.path(target, runtime.now())
        for way in [path] if path is not None else [(own, each, target) for each in links]:
            if way[1] in links and (source == own or source not in way):
                whole = way if source == own else (source, *way)
                header = PathHeader(whole, self.turn, 2**62 + self.turn, whole.index(own) + 1)
                links[way[1]].send_data(pack_path_frame(kind, header, bytes(size)), source + target)

    def records(self, *costs: int, **fields: Any) -> tuple[bytes, ...]:
        """Own records of one sequence, each with another cost of its links, or other C{fields}."""
        enrolled, wall = self.node.enrolled, int(self.mesh.wall())
        made = []
        for cost in costs:
            values: dict[str, Any] = {
                "network_id": bytes.fromhex(self.mesh.issuer.network_id),
                "node_key": enrolled.node_key.public,
                "serial": enrolled.certificate.body.serial,
                "sequence": (wall << 20) + self.turn,
                "issued_at": wall,
                "lifetime": 3600,
                "links": tuple(sorted((link.peer.handle, cost) for link in self.node.runtime.links())),
                "fragment": self.turn % 64 if "anchor" in enrolled.certificate.body.roles else 0,
                "flags": self._flags(),
            }
            unsigned = NodeRecord(**{**values, **fields}).encode_unsigned()
            made.append(unsigned + enrolled.node_key.sign(signing_input(unsigned)))
        return tuple(made)

    def _flags(self) -> RecordFlag:
        flags = RecordFlag(0)
        for role, flag in (("anchor", RecordFlag.ANCHOR | RecordFlag.RELAY), ("relay", RecordFlag.RELAY)):
            if role in self.node.enrolled.certificate.body.roles:
                flags |= flag
        return flags

    def lay_hand(self, passes: Callable[[int, bytes, int], bytes | None]) -> None:
        """From now on each frame of others goes through C{passes}(kind, frame, how many before)."""
        seen, own = 0, self.node.handle

        def hand(kind: int, frame: bytes, to: str) -> bytes | None:
            nonlocal seen
            if not is_data(kind) or frame[AT_PATH : AT_PATH + HANDLE] == own:
                return frame
            seen += 1
            return passes(kind, frame, seen - 1)

        self.node.tampers = hand

    def clone(self) -> None:
        """Run the same keys on a second host as well, linked to the same neighbours."""
        if self._twin is None:
            peers = [self.mesh[name].address for name in self.node.link_names]
            host = f"10.99.{len(self.mesh.nodes) // 250}.{len(self.mesh.nodes) % 250 + 1}"
            self._twin = self.mesh.make_node(self.node.enrolled, host, peers)
            self._twin.start()


# floods


def _equivocate(hostile: Hostile) -> None:
    hostile.send(Kind.LSA, Lsa(hostile.records(1, 2)).encode())


def _sign_anew(hostile: Hostile) -> None:
    hostile.send(Kind.LSA, Lsa(hostile.records(1 + hostile.turn % 2)).encode())


def _addresses(hostile: Hostile) -> None:
    turn = hostile.turn
    told = make_capabilities((f"10.9.{turn // 250 % 250}.{turn % 250}:7443",), (), "")
    fields = {"capabilities": told, "fragment": 0}
    hostile.send(Kind.LSA, Lsa(hostile.records(1, **fields)).encode())


def _junk_documents(hostile: Hostile) -> None:
    for kind in (Kind.POLICY, Kind.CRL, Kind.GENESIS, Kind.STATUS):
        text = json.dumps({"type": "policy", "x" * 3000: hostile.turn}).encode()
        hostile.send(kind, DocumentPush.first(10 + hostile.turn, text).encode())


def _forged_policies(hostile: Hostile) -> None:
    body = msgspec.structs.replace(hostile.mesh.issuer.policy.body, version=10 + hostile.turn)
    forged = sign_document(body, [hostile.node.enrolled.node_key]).encode()
    hostile.send(Kind.POLICY, DocumentPush.first(10 + hostile.turn, forged).encode())


def _made_up_crls(hostile: Hostile) -> None:
    digest = hostile.turn.to_bytes(32, "big")
    hostile.send(Kind.CRL, DocumentPush(2**40 + hostile.turn, digest, 200_000, 0, b"").encode())


def _junk_certificates(hostile: Hostile) -> None:
    hostile.send(Kind.CERT, CertAnswer((b"{}" * 100,)).encode())


def _malformed(hostile: Hostile) -> None:
    hostile.send(Kind.LSA, b"no record")


def _flap(hostile: Hostile) -> None:
    for link in hostile.node.runtime.links():
        link.close(CloseReason.SHUTDOWN)
    hostile.dial()


def _junk_commands(hostile: Hostile) -> None:
    text = json.dumps({"signed": {"type": "command", "id": hostile.turn}, "signatures": []}).encode()
    hostile.send(Kind.COMMAND, DocumentPush.first(1, text).encode())


def _questions(hostile: Hostile) -> None:
    node, turn = hostile.victim(), hostile.turn
    hostile.send(Kind.PATH_REQ, PathRequest(turn & 0xFFFF, node.handle).encode())
    hostile.send(Kind.CERT_REQ, CertRequest((CertificateKey(node.handle, 1),)).encode())
    hostile.send(Kind.SYNC_DIGEST, SyncDigest(((0, turn.to_bytes(8, "big")),)).encode())
    hostile.send(Kind.SYNC_WANT, SyncWant((RecordKey(node.handle, 0),)).encode())
    hostile.send(Kind.CRL_REQ, DocumentRequest(1).encode())
    hostile.send(Kind.COMMAND_REQ, CommandRequest(0).encode())


def _pings(hostile: Hostile) -> None:
    hostile.send(Kind.PING, *(Ping(hostile.turn, each).encode() for each in range(10)))


def _forged_handshakes(hostile: Hostile) -> None:
    target = hostile.victim()
    for source in hostile.mesh:
        if source not in (target, hostile.node):
            hostile.frame(Kind.E2E_INIT, source.handle, target.handle, 200)


def _own_handshakes(hostile: Hostile) -> None:
    hostile.frame(Kind.E2E_INIT, hostile.node.handle, hostile.victim().handle, 200)


def _junk_data(hostile: Hostile) -> None:
    hostile.frame(Kind.E2E_DATA, hostile.node.handle, hostile.victim().handle, 4000)


def _made_up_destinations(hostile: Hostile) -> None:
    nobody = b"made" + (hostile.turn % 250).to_bytes(4, "big")
    hostile.frame(Kind.E2E_DATA, hostile.node.handle, nobody, 4000)


def _denied_messages(hostile: Hostile) -> None:
    datagrams = hostile.node.runtime.datagrams
    for number in range(4):
        try:
            datagrams.post(hostile.victim().name, f"nothing-{number}", bytes(100))
        except GmeshError:
            return


# lies and drops: each is begun by its first turn


def _cheapest(hostile: Hostile) -> None:
    """Everybody is said to be its neighbour: an edge that the other end does not list is none."""
    others = sorted((node.handle, 1) for node in hostile.mesh if node is not hostile.node)
    if hostile.turn % 10 == 1:
        hostile.send(Kind.LSA, Lsa(hostile.records(1, links=tuple(others[:64]), fragment=0)).encode())


def _drops(passes: Callable[[int, bytes, int], bytes | None]) -> Callable[[Hostile], None]:
    def act(hostile: Hostile) -> None:
        if hostile.node.tampers is None:
            hostile.lay_hand(passes)

    return act


def _altered(kind: int, frame: bytes, before: int) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    One way to be hostile.

    @ivar act: what is done each turn.
    @ivar every: seconds between two turns.
    @ivar relays: True if only a node that carries frames of others can do it.
    """

    act: Callable[[Hostile], None]
    every: float
    relays: bool = False


BEHAVIOURS: dict[str, Behaviour] = {
    "equivocation": Behaviour(_equivocate, 4.0),
    "records signed anew": Behaviour(_sign_anew, 0.25),
    "addresses where nobody is": Behaviour(_addresses, 5.0),
    "junk documents": Behaviour(_junk_documents, 4.0),
    "forged policies": Behaviour(_forged_policies, 4.0),
    "CRLs that nobody made": Behaviour(_made_up_crls, 0.5),
    "junk certificates": Behaviour(_junk_certificates, 1.0),
    "malformed frames": Behaviour(_malformed, 5.0),
    "links that come and go": Behaviour(_flap, 5.0),
    "junk commands": Behaviour(_junk_commands, 0.5),
    "questions": Behaviour(_questions, 0.02),
    "pings": Behaviour(_pings, 0.02),
    "forged handshakes": Behaviour(_forged_handshakes, 0.1),
    "handshakes of its own": Behaviour(_own_handshakes, 0.02),
    "junk data": Behaviour(_junk_data, 0.02),
    "made-up destinations": Behaviour(_made_up_destinations, 0.02),
    "denied messages": Behaviour(_denied_messages, 0.02),
    "neighbours that it has not": Behaviour(_cheapest, 5.0),
    "a second host with its keys": Behaviour(Hostile.clone, 5.0),
    "drops everything": Behaviour(_drops(lambda kind, frame, before: None), 1.0, True),
    "drops data alone": Behaviour(
        _drops(lambda kind, frame, before: None if kind == Kind.E2E_DATA else frame), 1.0, True
    ),
    "drops one in ten": Behaviour(
        _drops(lambda kind, frame, before: None if before % 10 == 9 else frame), 1.0, True
    ),
    "changes a byte": Behaviour(_drops(_altered), 1.0, True),
}
"""Floods, drips, lies, clones and drops, by name."""
