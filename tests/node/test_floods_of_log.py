# SPDX-License-Identifier: MIT
"""A member that causes lines of log at its neighbour, of each kind there is: few are written."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

from gmesh.mesh.dials import TargetState
from gmesh.routing.record import NodeRecord, RecordFlag, make_capabilities, signing_input
from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.documents import sign_document
from gmesh.wire.frames import Kind
from gmesh.wire.messages import CertAnswer, CloseReason, DocumentPush, Lsa

HOUR = 3600
MOST = 1_000_000 // 24
"""Bytes an hour: 1 MB a day."""


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """The hostile C{h}, an anchor, is linked to C{v}, and that to C{b}."""
    made = MemoryMesh(9)
    made.add("v", "relay")
    made.add("b", "relay", peers=("v",))
    made.add("h", "anchor", peers=("v",))
    made.start()
    made.run_until(lambda: made["h"].link_names == ["v"] and made["b"].link_names == ["v"])
    made.run(100)
    yield made
    made.stop()


class Flood:
    """What C{h} does to C{v}, again and again."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.turn = 0

    def send(self, kind: Kind, *bodies: bytes) -> None:
        """To the victim, as far as there is a link; else dial."""
        node = self.mesh["h"]
        if "v" not in node.link_names:
            self._dial_at_once()
            return
        for body in bodies:
            node.link("v").send_control(kind, body)

    def _dial_at_once(self) -> None:
        """Who is hostile does not back off."""
        dialler = self.mesh["h"].runtime.dialler
        for target in dialler.targets:
            if target.state in (TargetState.WAITING, TargetState.REFUSED):
                target.cancel()
                dialler._due(target)

    def records(self, **fields: object) -> tuple[bytes, ...]:
        """Two of one sequence that differ."""
        mesh, node = self.mesh, self.mesh["h"]
        made = []
        for cost in (1, 2):
            record = NodeRecord(
                network_id=bytes.fromhex(mesh.issuer.network_id),
                node_key=node.enrolled.node_key.public,
                serial=node.enrolled.certificate.body.serial,
                sequence=(int(mesh.wall()) << 20) + self.turn,
                issued_at=int(mesh.wall()),
                lifetime=3600,
                links=((mesh["v"].handle, cost),),
                **{"fragment": self.turn % 64, "flags": RecordFlag(0), **fields},  # type: ignore[arg-type]
            )
            unsigned = record.encode_unsigned()
            made.append(unsigned + node.enrolled.node_key.sign(signing_input(unsigned)))
        return tuple(made)

    def equivocate(self) -> None:
        """Records of one sequence that differ, of each fragment in turn."""
        self.send(Kind.LSA, Lsa(self.records()).encode())

    def junk_documents(self) -> None:
        """Documents of each kind that are none, with long errors."""
        for kind in (Kind.POLICY, Kind.CRL, Kind.GENESIS, Kind.STATUS):
            text = json.dumps({"type": "policy", "x" * 3000: self.turn}).encode()
            self.send(kind, DocumentPush.first(10 + self.turn, text).encode())

    def forged_policies(self) -> None:
        """Well-formed policies that a stranger signed."""
        body = msgspec.structs.replace(self.mesh.issuer.policy.body, version=10 + self.turn)
        forged = sign_document(body, [self.mesh["h"].enrolled.node_key]).encode()
        self.send(Kind.POLICY, DocumentPush.first(10 + self.turn, forged).encode())

    def junk_certificates(self) -> None:
        """Certificates that are none."""
        self.send(Kind.CERT, CertAnswer((b"{}" * 100,)).encode())

    def malformed(self) -> None:
        """A frame that ends the link."""
        self.send(Kind.LSA, b"no record")

    def flap(self) -> None:
        """The link goes and comes."""
        node = self.mesh["h"]
        if "v" in node.link_names:
            node.link("v").close(CloseReason.SHUTDOWN)
        self.send(Kind.PING)

    def addresses(self) -> None:
        """Another address in each record, at which nobody is."""
        told = make_capabilities((f"10.9.{self.turn // 250 % 250}.{self.turn % 250}:7443",), (), "")
        self.send(
            Kind.LSA, Lsa(self.records(capabilities=told, fragment=0, flags=RecordFlag.ANCHOR)[:1]).encode()
        )


@contextmanager
def measured() -> Iterator[io.StringIO]:
    """The log as a file would have it, without debugging."""
    text = io.StringIO()

    def write(event: LogEvent) -> None:
        if event["log_level"] > LogLevel.debug and str(event.get("log_namespace")).startswith("gmesh"):
            text.write(f"2026-01-01T00:00:00+0000 [{event['log_namespace']}] {eventAsText(event)}\n")

    globalLogPublisher.addObserver(write)
    try:
        yield text
    finally:
        globalLogPublisher.removeObserver(write)


KINDS: dict[str, tuple[Callable[[Flood], None], float]] = {
    "equivocation": (Flood.equivocate, 4.0),
    "junk documents": (Flood.junk_documents, 4.0),
    "forged policies": (Flood.forged_policies, 4.0),
    "junk certificates": (Flood.junk_certificates, 1.0),
    "malformed": (Flood.malformed, 5.0),
    "flaps": (Flood.flap, 5.0),
    "addresses": (Flood.addresses, 5.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_c10_an_hour_of_it_is_little_log(mesh: MemoryMesh, kind: str) -> None:
    """All daemons of the mesh together write less than a megabyte a day is in an hour."""
    act, every = KINDS[kind]
    flood = Flood(mesh)

    def again() -> None:
        flood.turn += 1
        act(flood)

    attack = LoopingCall(again)
    attack.clock = mesh.clock
    with measured() as text:
        attack.start(every)
        mesh.run(HOUR)
        attack.stop()
    assert flood.turn >= HOUR / every
    assert text.getvalue() or mesh["v"].runtime.counters().get("policy-unknown-key", 0) > HOUR / 5
    assert len(text.getvalue()) <= MOST, text.getvalue()[-3000:]
