# SPDX-License-Identifier: MIT
"""
A few ends wired together directly, with an unreliable relay in the middle, on one clock.

Everything the relay sees is kept; what it does to a frame is decided by a seeded generator or by a hook.
"""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

from trust.network import DAY, NOW, Network, key, noise_key
from twisted.internet.task import Clock

from gmesh.endtoend.association import Associations
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.datagrams import Datagrams
from gmesh.endtoend.echo import EchoService
from gmesh.endtoend.message_keys import MessageKeys
from gmesh.endtoend.path_selector import PathSelector
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.services import Services
from gmesh.endtoend.session import Handshaker
from gmesh.endtoend.sessions import Sessions
from gmesh.mesh.document_reader import at_once
from gmesh.mesh.peer_identity import peer_of
from gmesh.testing.memory_store import MemoryKeyLog
from gmesh.trust.documents import Rule
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.messages import EndParameters, Feature
from gmesh.wire.paths import AT_HOP, read_path

DELAY = 0.01


class Fabric:
    """
    Every node of a test, and the relay between all of them.

    @ivar seen: every frame the relay saw.
    @ivar decide: called with (kind, header, frame); gives the delays after which copies arrive.
    """

    def __init__(self, *names: str, seed: int = 0) -> None:
        self.clock = Clock()
        self.rng = random.Random(seed)
        self.network = Network()
        self.seen: list[bytes] = []
        self.decide = lambda kind, header, frame: (DELAY,)
        self.nodes: dict[bytes, End] = {}
        self.relay = peer_of(self.network.certificate("relay", serial=1000))
        for serial, name in enumerate(names):
            self.add(name, serial + 1)

    def add(self, name: str, serial: int, **changes: object) -> End:
        """A node called C{name}."""
        end = End(self, name, serial, **changes)
        self.nodes[end.handle] = end
        setattr(self, name, end)
        return end

    def wall(self) -> float:
        """Unix seconds."""
        return NOW + 100 + self.clock.seconds()

    def run(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def carry(self, path: tuple[bytes, ...], frame: bytes, flow: bytes) -> bool:
        """What the first link of the path does with a frame."""
        assert flow == path[0] + path[-1]
        self.seen.append(frame)
        header, _ = read_path(frame, 0, len(frame))
        for delay in self.decide(frame[2], header, frame):
            self.clock.callLater(delay, self.arrive, frame)
        return True

    def arrive(self, frame: bytes) -> None:
        """Hand a frame to its destination, as the link of the last hop does."""
        record = bytearray(frame)
        header, payload = read_path(record, 0, len(record))
        record[AT_HOP] = len(header.path) - 1
        header, payload = read_path(record, 0, len(record))
        end = self.nodes.get(header.destination)
        if end is not None and end.up:
            link = SimpleNamespace(peer=SimpleNamespace(handle=header.path[-2]))
            end.sessions.frame_for_us(record[2], header, memoryview(record)[payload:], link)

    def offer(self, *documents: object) -> None:
        """Every node hears of these documents."""
        for end in list(self.nodes.values()):
            for document in documents:
                end.trust.offer(document, self.wall())

    def frames(self, kind: Kind) -> list[bytes]:
        """What the relay saw of one kind."""
        return [frame for frame in self.seen if frame[2] == kind]

    def stop(self) -> None:
        """Stop all; afterwards nothing may be left on the clock but frames under way."""
        for end in self.nodes.values():
            end.stop()
        left = [call for call in self.clock.getDelayedCalls() if call.func != self.arrive]
        assert left == []


class End:
    """One node: keys, beliefs, sessions, datagrams, echo."""

    def __init__(
        self, fabric: Fabric, name: str, serial: int, roles: tuple[str, ...] = ("client",), **options: object
    ):
        self.fabric = fabric
        self.name = name
        self.certificate = fabric.network.certificate(
            name, serial=serial, roles=roles, not_before=NOW - DAY, not_after=NOW + DAY
        )
        self.noise_keys = [noise_key(name)]
        self.peer = peer_of(self.certificate)
        self.handle = self.peer.handle
        self.up = False
        self.trust = TrustState(fabric.network.network_id, fabric.network.chain, changed=self.trust_changed)
        self.trust.offer(fabric.network.policy(), fabric.wall())
        self.links = options.pop("links", {})
        self.former = SimpleNamespace(ended=lambda name, now: False)
        self.options = options
        self.features = Feature.STREAMS | Feature.OUTCOMES
        self.parameters = lambda: EndParameters(self.starts.to_bytes(8, "big"), self.features)
        self.key_log = MemoryKeyLog()
        self.unreachable: set[bytes] = set()
        self.told: list[list[str]] = []
        self.lapsed = False
        self.numbers = itertools.count(1)
        self.starts = 0
        self.blamed: list[tuple[bytes, ...]] = []
        self.behind: list[int] = []
        self.send_frame = fabric.carry
        self.boot()

    def trust_changed(self, kind: str) -> None:
        """What of L{gmesh.node.trust_changes.TrustChanges.document_changed} is about sessions."""
        if self.up:
            self.datagrams.authorization.trust_changed(kind)
            self.datagrams.ask_again(kind)
            self.sessions.trust_changed(kind)

    def boot(self) -> None:
        """Start, with nothing remembered but the handshake number."""
        fabric = self.fabric
        self.starts += 1
        entropy = random.Random(f"{self.name} {self.starts}").randbytes
        self.handshaker = Handshaker(
            trust=self.trust,
            own_certificate=lambda: self.certificate,
            noise_keys=lambda: self.noise_keys,
            next_number=self.numbers.__next__,
            wall=fabric.wall,
            parameters=self.parameters(),
        )
        paths = PathSelector(routes=self, engine=self, forwarding=self, directory=self, trust=self.trust)
        authorization = Authorization(
            handshaker=self.handshaker,
            paths=paths,
            directory=self,
            clock=fabric.clock,
            lapsed=lambda: self.lapsed,
        )
        keys = MessageKeys(fabric.wall, self.key_log, at_once)
        services = Services(fabric.clock, keys, self.handshaker.own.node_id)
        sealer = Sealer(self.handshaker, paths, self, fabric.clock, random.Random(self.name), entropy)
        self.associations = Associations(
            sealer, services, authorization, self, fabric.clock, entropy, **self.options
        )
        self.sessions = Sessions(self.associations, sealer, self, fabric.clock, self.behind.append)
        self.datagrams = Datagrams(
            sessions=self.sessions,
            services=services,
            authorization=authorization,
            clock=fabric.clock,
            advertise=self.advertise,
        )
        self.echo = EchoService(
            datagrams=self.datagrams, paths=paths, directory=self, clock=fabric.clock, entropy=entropy
        )
        self.datagrams.start()
        self.echo.start()
        self.up = True
        self.got: list[bytes] = []

    def serve(self, service: str = "log", **options: object) -> list[bytes]:
        """Register a receiver that keeps the data of every message."""
        got: list[bytes] = []
        self.datagrams.register(service, lambda message: got.append(message.data), **options)
        return got

    def stop(self) -> None:
        """As at the end of a process that stops cleanly."""
        if self.up:
            self.echo.stop()
            self.datagrams.stop()
            self.up = False

    def restart(self) -> None:
        """Lose everything in memory, without a word to anybody, and come back."""
        carry, self.send_frame = self.send_frame, lambda path, frame, flow: False
        self.stop()
        self.send_frame = carry
        self.boot()

    def find_handle(self, handle):
        """The directory."""
        end = self.fabric.nodes.get(handle)
        if end is not None:
            return end.peer
        return self.fabric.relay if handle == self.fabric.relay.handle else None

    def find_name(self, name):
        """The directory."""
        return next((end.peer for end in self.fabric.nodes.values() if end.name == name), None)

    def was_revoked(self, name):
        """The directory: nobody is kept out of it here."""
        return False

    def sender(self, path):
        """Forwarding: what hands frames to the first link."""
        return lambda head, flow, rest: self.send_frame(path, head + rest, flow)

    def unanswered(self, path, now, handshake=False):
        """The route engine."""
        self.blamed.append(path)

    def answered(self, path, sent, now, handshake=False):
        """The route engine."""

    def new_keys(self, destination, now):
        """The route engine."""

    def path(self, destination, now, avoid=frozenset()):
        """The route engine: everybody is behind the one relay."""
        if destination in self.unreachable:
            return None
        return (self.handle, self.fabric.relay.handle, destination)

    def advertise(self):
        """The node record: the services of this end changed."""
        self.told.append(self.datagrams.services.names)

    def explain(self, destination, now):
        """Why not."""
        return "unreachable", "cut off by the test"


class Outcomes(list):
    """Collects what Deferreds come to: a reason for a failure, the result otherwise."""

    def watch(self, deferred):
        """Add one."""
        deferred.addCallbacks(self.append, lambda failure: self.append(failure.value.reason))
        return deferred


def deny(*services: str, sources: tuple[str, ...] = ("*",)) -> tuple[Rule, ...]:
    """Rules that deny these services and allow the rest."""
    return (
        Rule(effect="allow", sources=("*",), to=("*",), services=("*",)),
        Rule(effect="deny", sources=sources, to=("*",), services=services),
    )


__all__ = ["DAY", "DELAY", "NOW", "End", "Fabric", "Outcomes", "deny", "key", "noise_key"]
