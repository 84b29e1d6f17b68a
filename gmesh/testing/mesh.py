# SPDX-License-Identifier: MIT
"""
A whole mesh in one process and no real time: whole nodes, real keys, in-memory transports, one clock.

Everything but the authority, the files and the sockets is what the daemon runs: the same
L{NodeRuntime<gmesh.node.runtime.NodeRuntime>}, the same Noise.  A run is repeated by its seed::

    mesh = MemoryMesh.line("a", "b", "c")
    mesh.run_until(lambda: mesh["a"].reaches("c"))
    mesh["c"].runtime.datagrams.register("log", received.append)
    mesh.result(mesh["a"].runtime.datagrams.send("c", "log", b"hello"))

Tests: C{tests/node/test_memory_mesh.py}, C{tests/node/test_memory_mesh_faults.py}.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import combinations, product
from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed

from gmesh.client.mesh import Mesh
from gmesh.interfaces import INoiseSession
from gmesh.mesh.document_reader import Aside, at_once
from gmesh.mesh.limits import WAN, KeepaliveProfile
from gmesh.node.composition import Environment
from gmesh.node.identity_store import Identity
from gmesh.node.runtime import NodeRuntime
from gmesh.testing.issuer import DAY, Enrolled
from gmesh.testing.memory_socket import MemorySocket
from gmesh.testing.memory_store import MemoryStore
from gmesh.testing.network import MemoryNetwork
from gmesh.testing.tampering import Hand, Tampering
from gmesh.testing.transport import MemoryConnection, Wire
from gmesh.testing.world import World
from gmesh.trust.encoding import b64url_encode
from gmesh.wire.frames import is_data, iter_frames
from gmesh.wire.limits import HANDLE
from gmesh.wire.noise import NoiseSession, StaticKey
from gmesh.wire.paths import AT_COUNT, AT_PATH
from gmesh.wire.suites import Suite

__all__ = ["MemoryMesh", "MemoryNode"]

PORT = 7443


class MemoryMesh(World):
    """
    Nodes, their network, their authority and their time.

    @param seed: decides keys, jitter and how bytes arrive.
    @param wire: what the connections are like.
    @param profile: how soon a silent neighbour is given up.
    @ivar cpu: seconds of CPU time that the nodes go by: it stands still, so that a run can be repeated.
    @ivar aside: runs what takes long: at once.
    """

    def __init__(self, seed: int = 0, wire: Wire | None = None, profile: KeepaliveProfile = WAN) -> None:
        super().__init__(seed)
        self.profile = profile
        self.cpu: Callable[[], float] = lambda: 0.0
        self.aside: Aside = at_once
        self.network = MemoryNetwork(self.clock, self.random, wire)
        self.nodes: dict[str, MemoryNode] = {}

    @classmethod
    def line(cls, *names: str, seed: int = 0, wire: Wire | None = None, lifetime: int = DAY) -> MemoryMesh:
        """Nodes in a line, each linked to the next: relays inside, clients at the ends; started."""
        mesh = cls(seed, wire)
        for index, name in enumerate(names):
            role = "client" if index in (0, len(names) - 1) else "relay"
            mesh.add(name, role, peers=names[max(index - 1, 0) : index], lifetime=lifetime)
        mesh.start()
        return mesh

    def __getitem__(self, name: str) -> MemoryNode:
        return self.nodes[name]

    def __iter__(self) -> Iterator[MemoryNode]:
        return iter(self.nodes.values())

    def name_of(self, handle: bytes) -> str:
        """The name of the node with this handle."""
        return next(node.name for node in self if node.handle == handle)

    def add(self, name: str, *roles: str, peers: Sequence[str] = (), lifetime: int = DAY) -> MemoryNode:
        """Enrol a node that dials the C{peers} of these names."""
        enrolled = self.issuer.enrol(name, *(roles or ("relay",)), lifetime=lifetime)
        host = f"10.0.{len(self.nodes) // 250}.{len(self.nodes) % 250 + 1}"
        node = self.make_node(enrolled, host, [self[peer].address for peer in peers])
        self.nodes[name] = node
        return node

    def make_node(self, enrolled: Enrolled, host: str, peers: Sequence[str]) -> MemoryNode:
        """A node that is not in the table yet."""
        return MemoryNode(self, enrolled, host, peers)

    def start(self) -> None:
        """Start every node."""
        for node in self:
            node.start()

    def stop(self) -> None:
        """Stop every program and node, and let the last connection end; nothing is left on the clock."""
        for node in self:
            node.socket.end()
            node.stop()
        self.run(30)

    def redial(self, name: str, *peers: str) -> None:
        """Have a node that has not started dial these: what closes a ring."""
        self[name].dial([self[peer].address for peer in peers])

    # -- what may happen

    def cut(self, one: str, other: str) -> None:
        """The connection between two nodes breaks, and both hosts say so; it may be dialled again."""
        for connection in self._between(one, other):
            connection.cut()

    def silence(self, one: str, other: str, both: bool = True) -> None:
        """From now on nothing from C{one} reaches C{other} (nor back), and nobody is told; until L{heal}."""
        self.network.blocked.add(frozenset((self[one].host, self[other].host)))
        for connection in self._between(one, other):
            forth = connection.client.getHost().host == self[one].host
            connection.silence(forth=both or forth, back=both or not forth)

    def partition(self, *groups: Collection[str]) -> None:
        """Break every connection between nodes of different groups; none is made again until L{heal}."""
        for group, others in combinations(groups, 2):
            for one, other in product(group, others):
                self.network.blocked.add(frozenset((self[one].host, self[other].host)))
                self.cut(one, other)

    def heal(self) -> None:
        """What L{silence} and L{partition} took away is back; bytes held back arrive."""
        self.network.blocked.clear()
        for connection in self.network.open_connections():
            connection.heal()

    def slow(self, one: str, other: str, rate: float | None) -> None:
        """The connection between two nodes carries so many bytes a second each way from now on."""
        for connection in self._between(one, other):
            connection.set_rate(rate)

    def lengthen(self, one: str, other: str, delay: float) -> None:
        """The connection between two nodes takes so many seconds one way from now on."""
        for connection in self._between(one, other):
            connection.set_delay(delay)

    def _between(self, one: str, other: str) -> list[MemoryConnection]:
        return self.network.between(self[one].host, self[other].host)

    def publish(self, *names: str) -> None:
        """Tell these nodes (all, if none is named) what the authority holds now, as a heartbeat would."""
        for name in names or tuple(self.nodes):
            trust = self[name].runtime.member.trust
            for document in (self.issuer.status, self.issuer.crl, self.issuer.policy):
                trust.offer(document, self.wall())


class MemoryNode:
    """
    One node of a L{MemoryMesh}.

    @ivar opened: every record it decrypted from its neighbours, headers and sealed payloads.
    @ivar skew: seconds its wall clock is off.
    @ivar tampers: a liar's hand: (kind, frame, to whom) -> the frame to send instead, or None for none.
    @ivar socket: where the programs of its host find it.
    """

    def __init__(self, mesh: MemoryMesh, enrolled: Enrolled, host: str, peers: Sequence[str]) -> None:
        self.enrolled = enrolled
        self.host = host
        self.store = MemoryStore()
        self.opened: list[bytes] = []
        self.skew = 0.0
        self.tampers: Hand | None = None
        self._mesh = mesh
        self._peers = tuple(peers)
        self._stub = False
        self._port: Any = None
        self.socket = MemorySocket(mesh.clock, enrolled.name)
        self.runtime = self._make()

    @property
    def name(self) -> str:
        """Its certified name."""
        return self.enrolled.name

    @property
    def handle(self) -> bytes:
        """Its routing handle."""
        return self.enrolled.handle

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.host}:{PORT}"

    @property
    def link_names(self) -> list[str]:
        """Its neighbours."""
        return sorted(link.peer.name for link in self.runtime.links())

    def link(self, name: str) -> Any:
        """The link to a neighbour."""
        [link] = [link for link in self.runtime.links() if link.peer.name == name]
        return link

    def path(self, name: str) -> list[str] | None:
        """The names along the path to a node, or None."""
        mesh = self._mesh
        path = self.runtime.engine.path(mesh[name].handle, self.runtime.now())
        return None if path is None else [mesh.name_of(handle) for handle in path]

    def reaches(self, *names: str) -> bool:
        """Whether there is a path to each of these."""
        return all(self.path(name) is not None for name in names)

    def dial(self, addresses: Sequence[str]) -> None:
        """Dial these and no others, from the next start on."""
        self._peers = tuple(addresses)
        self.runtime = self._make()

    def keep_no_table(self) -> None:
        """Be a stub, which asks its neighbours for paths, from the next start on."""
        self._stub = True
        self.runtime = self._make()

    def client(self) -> Mesh:
        """
        A program on the host of this node, as L{gmesh.client.Mesh} has it; it ends with L{MemoryMesh.stop}.

        It may be made before the node starts, and goes on when that is killed and restarted.
        """
        return self.socket.client()

    def start(self) -> None:
        """Listen and dial."""
        server = self._mesh.network.server(self.address)
        server.listen(self.runtime.accepting()).addCallback(lambda port: setattr(self, "_port", port))
        self.runtime.start()
        self.socket.listen(self.runtime)

    def stop(self) -> Deferred[None]:
        """Leave the mesh as the daemon does on SIGTERM, if it runs."""
        if self._port is None:
            return succeed(None)
        self._port.stopListening()
        self._port = None
        self.socket.close()
        return self.runtime.stop()

    def kill(self, silently: bool = False) -> None:
        """
        Die without a word, losing what was not yet stored.

        @param silently: the neighbours are not even told by their own hosts: they have to notice.
        """
        kept = copy.copy(self.store)
        kept.documents = dict(kept.documents)
        for connection in self._mesh.network.of_host(self.host):
            connection.vanish(self.host) if silently else connection.cut()
        self._mesh.result(self.stop())
        self.store = kept

    def restart(self, keep: bool = True) -> None:
        """Begin again with what was stored, or with nothing but the enrolment; stop first if it runs."""
        if self._port is not None:
            self._mesh.result(self.stop())
        if not keep:
            self.store = MemoryStore()
        self.runtime = self._make()
        self.start()

    def renew(self, lifetime: int = DAY) -> None:
        """Get and adopt a new certificate for the same keys."""
        self.enrolled = self._mesh.issuer.renew(self.enrolled, lifetime)
        self.runtime.member.adopt_certificate(self.enrolled.certificate)

    def _make(self) -> NodeRuntime:
        mesh, issuer, store = self._mesh, self._mesh.issuer, self.store
        certificate = store.documents.get("certificate", self.enrolled.certificate)
        keys = store.noise_keys or (self.enrolled.noise_key,)
        named = [key for key in keys if b64url_encode(key.public) == certificate.body.noise_key]
        kept = [store.documents.get(document.type, document) for document in issuer.documents]
        identity = Identity(
            node_key=self.enrolled.node_key,
            noise_key=named[0],
            noise_keys=keys,
            certificate=certificate,
            network_id=issuer.network_id,
            genesis_chain=issuer.genesis_chain,
            documents=tuple(kept),
            floors=store.floors,
            state=copy.deepcopy(store.state),
        )
        environment = Environment(
            clock=mesh.clock,
            wall=lambda: mesh.wall() + self.skew,
            random=Random(mesh.random.getrandbits(64)),
            entropy=mesh.random.randbytes,
            connect=lambda target, avoid: mesh.network.client(target, self.host),
            cpu=lambda: mesh.cpu(),
            aside=lambda work: mesh.aside(work),
        )
        runtime = NodeRuntime(
            identity,
            store,
            environment,
            peers=self._peers,
            advertise=(self.address,),
            profile=mesh.profile,
            session=self._session,
            stub=self._stub,
        )
        runtime.neighbours.follow(Tampering(lambda: self.tampers).follow)
        return runtime

    def _session(
        self, suite: Suite, initiator: bool, static: bytes | StaticKey, prologue: bytes
    ) -> INoiseSession:
        inner = NoiseSession("XX", suite, initiator, static, prologue)
        return cast(INoiseSession, RecordingSession(inner, self._opened))

    def _opened(self, record: bytes) -> None:
        """Keep it; trace what repeats of it: sealed payloads are under fresh keys in every run."""
        self.opened.append(record)
        for kind, start, end in iter_frames(record):
            if is_data(kind):
                end = start + AT_PATH + HANDLE * record[start + AT_COUNT]
            self._mesh.note(self.name, record[start:end])


class RecordingSession:
    """A hop session that reports every record it opened: what this node could have read."""

    def __init__(self, inner: NoiseSession, opened: Callable[[bytes], object]) -> None:
        self._inner = inner
        self._opened = opened

    def open(self, ciphertext: bytes | memoryview) -> bytes:
        """Open and note."""
        record = self._inner.open(ciphertext)
        self._opened(record)
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
